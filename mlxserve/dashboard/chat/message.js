// One message as it is seen.
import { copyButton } from "../copy.js";
import { el, say } from "../dom.js";
import { count, duration, rate } from "../format.js";
import { icon } from "../icons.js";
import { Calls } from "./calls.js";
import { Text } from "./text.js";

const button = (name, drawing, onclick) => el("button.icon-button.small", { type: "button", "aria-label": name, title: name, onclick }, icon(drawing));
const FINISHES = { length: "cut off at the bound on tokens", stopped: "stopped", interrupted: "interrupted when the page was left" };

/** What the user said; it can be edited, which asks anew from there. */
export class Said {
  constructor(message, acts) {
    this.message = message;
    this.bubble = el("div.bubble", {}, message.content);
    this.actions = el("div.actions", {}, button("Edit", "edit", () => this.edit(acts)), copyButton(() => message.content, { name: "Copy message" }));
    this.element = el("article.message.user", { "data-role": "user", "aria-label": "You" }, this.bubble, this.actions);
  }

  show({ busy }) {
    this.actions.firstElementChild.disabled = busy;
    return true;
  }

  edit(acts) {
    const area = el("textarea", { rows: "3", "aria-label": "Edit the message", value: this.message.content });
    const back = () => {
      form.replaceWith(this.bubble);
      this.actions.hidden = false;
    };
    const submit = (event) => {
      event.preventDefault();
      if (area.value.trim()) acts.edit(this.message, area.value);
    };
    const buttons = el("div.row.end", {}, el("button.small", { type: "button", onclick: back }, "Cancel"), el("button.small.primary", { type: "submit" }, "Send"));
    const form = el("form.editing", { onsubmit: submit }, area, buttons);
    area.addEventListener("keydown", (event) => event.key === "Escape" && back());
    this.bubble.replaceWith(form);
    this.actions.hidden = true;
    area.style.height = `${Math.min(320, area.scrollHeight + 4)}px`;
    area.focus();
  }
}

/** What the model answered. */
export class Answered {
  constructor(message, acts) {
    this.message = message;
    this.thought = new Text("thought");
    this.content = new Text("content");
    this.calls = new Calls((results) => acts.results(results));
    this.summary = el("summary");
    this.thinking = el("details.thinking", {}, this.summary, this.thought.element);
    this.note = el("p.note", { "data-note": "" });
    this.error = el("p", {});
    this.trouble = el("div.trouble", { role: "alert" }, this.error, el("button.small", { type: "button", onclick: () => acts.again(message) }, "Try again"));
    this.stats = el("p.stats", { "data-stats": "" });
    this.again = button("Regenerate", "again", () => acts.again(message));
    this.actions = el("div.actions", {}, copyButton(() => message.content, { name: "Copy answer" }), this.again, this.stats);
    const parts = [this.thinking, this.content.element, this.calls.element, this.note, this.trouble, this.actions];
    this.element = el("article.message.assistant", { "data-role": "assistant", "aria-label": "Answer" }, ...parts);
    this.thinking.addEventListener("toggle", () => this.thought.show(message.reasoning));
  }

  /** Shows what there is; false where a part of it is to be drawn later. */
  show({ results, busy }) {
    const { message } = this;
    this.element.dataset.writing = message.writing;
    this.element.setAttribute("aria-busy", message.writing);
    const drawn = this.showThinking() & this.content.show(shownText(message), message.writing);
    this.calls.show(message.tool_calls ?? [], results, message.writing);
    const begun = message.content || message.reasoning || message.tool_calls;
    this.note.hidden = !message.writing || Boolean(begun);
    say(this.note, message.note || "Waiting for the first token …");
    this.trouble.hidden = !message.error;
    say(this.error, message.error ?? "");
    this.actions.hidden = message.writing;
    this.again.disabled = busy;
    showStats(this.stats, message);
    return Boolean(drawn);
  }

  showThinking() {
    const { reasoning, content, writing, thoughtFor } = this.message;
    this.thinking.hidden = !reasoning;
    if (!reasoning) return true;
    say(this.summary, writing && !content ? "Thinking …" : thoughtFor ? `Thought for ${duration(thoughtFor)}` : "Thoughts");
    return !this.thinking.open || this.thought.show(reasoning, writing);
  }
}

/** An answer that follows a schema is shown as the JSON it is. */
function shownText({ content, form }) {
  return form === "json" && content ? `\`\`\`\`\`json\n${content}\n\`\`\`\`\`` : content;
}

function showStats(element, { stats, finish }) {
  if (!stats) return say(element, FINISHES[finish] ?? "");
  const { tokensPerSecond, counted, ttft, tokens, promptTokens, cachedTokens } = stats;
  element.dataset.tokens = tokens ?? "";
  element.dataset.tokensPerSecond = tokensPerSecond ?? "";
  element.dataset.ttft = ttft ?? "";
  const parts = [
    tokensPerSecond && `${counted ? "" : "about "}${rate(tokensPerSecond)} tokens/s`,
    ttft !== null && `first token after ${duration(ttft)}`,
    tokens !== null && `${count(tokens)} tokens`,
    promptTokens !== null && `prompt ${count(promptTokens)}${cachedTokens ? `, ${count(cachedTokens)} of them cached` : ""}`,
    FINISHES[finish],
  ];
  return say(element, parts.filter(Boolean).join(" · "));
}
