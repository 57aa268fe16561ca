// The tools that an answer calls, and what they gave: typed in here, since nothing is run.
import { el, reconcile } from "../dom.js";
import { pretty } from "./forms.js";

export class Calls {
  /** `send(results)` is given `[{ id, content }]` when all are there. */
  constructor(send) {
    this.cards = el("div.cards");
    this.button = el("button.primary", { type: "button", onclick: () => send(this.typed()) }, "Send results");
    this.element = el("div.calls", {}, this.cards, this.button);
  }

  /** Shows `calls`; `results` are the tool messages that answer them. */
  show(calls, results, writing) {
    this.element.hidden = !calls.length;
    const given = new Map(results.map((result) => [result.tool_call_id, result.content]));
    const indexed = calls.map((call, index) => ({ call, index }));
    reconcile(this.cards, indexed, ({ index }) => index, createCard, (card, { call }) => showCard(card, call, given.get(call.id)));
    this.button.hidden = writing || !calls.some((call) => !given.has(call.id));
  }

  typed() {
    const open = [...this.cards.querySelectorAll("textarea")].filter((area) => !area.closest("label").hidden);
    return open.map((area) => ({ id: area.dataset.call, content: area.value }));
  }
}

function createCard() {
  const result = el("label.field", {}, "Result, as the tool would give it", el("textarea.mono", { rows: "2", placeholder: '{"temperature": 21}' }));
  const given = el("div.given", {}, el("span.muted", {}, "Result"), el("pre", { tabindex: "0", role: "group", "aria-label": "The tool's result" }));
  return el("div.call", {}, el("p", {}, el("span.muted", {}, "Calls "), el("code")), el("pre.arguments", { tabindex: "0", role: "group", "aria-label": "The call's arguments" }), given, result);
}

function showCard(card, call, result) {
  card.querySelector("p code").textContent = call.function.name;
  card.querySelector(".arguments").textContent = pretty(call.function.arguments);
  card.querySelector("textarea").dataset.call = call.id;
  card.querySelector("label").hidden = result !== undefined;
  card.querySelector(".given").hidden = result === undefined;
  card.querySelector(".given pre").textContent = pretty(result ?? "");
}
