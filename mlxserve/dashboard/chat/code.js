// The dialog with the request as curl and as Python.
import { el } from "../dom.js";
import { icon } from "../icons.js";
import { key } from "../keys.js";
import { model } from "../server.js";
import { reword, snippet } from "../snippet.js";
import { asCurl, asPython, bodyOf } from "./request.js";

const HIDDEN = "••••••••";
const FORMS = { curl: { name: "curl", write: asCurl }, python: { name: "Python", write: asPython } };

export class Code {
  constructor() {
    this.form = "curl";
    this.box = snippet("The request");
    this.problem = el("p.error");
    const segment = (form) => el("button", { type: "button", "data-form": form, onclick: () => this.write(form) }, FORMS[form].name);
    this.segments = el("div.segments", { role: "group", "aria-label": "Form" }, Object.keys(FORMS).map(segment));
    const close = el("button.icon-button", { type: "button", "aria-label": "Close", onclick: () => this.dialog.close() }, icon("close"));
    const head = el("div.row", {}, el("h2.grow", { id: "code-title" }, "The request"), this.segments, close);
    this.dialog = el("dialog.wide", { id: "code-dialog", "aria-labelledby": "code-title" }, el("div.dialog-body", {}, head, this.problem, this.box));
    document.body.append(this.dialog);
  }

  /** Opens it with what `conversation` asks, and would ask with `draft`. */
  open(conversation, draft) {
    const said = draft.trim() ? [...conversation.messages, { role: "user", content: draft }] : withoutAnswer(conversation.messages);
    this.asked = { ...conversation, messages: said };
    this.write(this.form);
    this.dialog.showModal();
  }

  write(form) {
    this.form = form;
    for (const segment of this.segments.children) segment.setAttribute("aria-pressed", segment.dataset.form === form);
    try {
      const body = bodyOf(this.asked, model());
      const write = (shown) => FORMS[form].write(body, location.origin, shown);
      reword(this.box, write(key() && HIDDEN), write(key()));
      this.problem.textContent = "";
    } catch (error) {
      this.problem.textContent = error.message;
    }
  }
}

function withoutAnswer(messages) {
  return messages.slice(0, messages.findLastIndex(({ role }) => role !== "assistant") + 1);
}
