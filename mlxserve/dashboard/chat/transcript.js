// The messages of a conversation, which scroll with the answer until the reader scrolls up.
import { el, onceAFrame, reconcile } from "../dom.js";
import { icon } from "../icons.js";
import { Answered, Said } from "./message.js";

const NEAR = 24; // pixels

export class Transcript {
  constructor(acts) {
    this.acts = acts;
    this.views = new WeakMap();
    this.keys = 0;
    this.pinned = true;
    this.top = 0;
    this.list = el("div.messages");
    this.empty = el("div.welcome", {}, el("p", {}, "Ask something."), el("p.muted", {}, "Conversations stay in this browser."));
    this.scroll = el("div.transcript", { tabindex: "0", role: "log", "aria-label": "Conversation", "aria-live": "off", onscroll: () => this.scrolled() }, this.empty, this.list);
    this.latest = el("button.latest", { type: "button", hidden: true, onclick: () => this.pin() }, icon("down"), "Latest");
    this.element = el("div.transcript-box", {}, this.scroll, this.latest);
    this.paint = onceAFrame(() => this.draw());
    new ResizeObserver(() => this.follow()).observe(this.scroll);
  }

  /** Shows `conversation`, in the next frame; `busy` while an answer is written. */
  show(conversation, busy) {
    Object.assign(this, { conversation, busy });
    this.paint();
  }

  draw() {
    const { messages } = this.conversation;
    const shown = messages.filter((message) => message.role !== "tool");
    this.empty.hidden = shown.length > 0;
    let drawn = true;
    const create = (message) => this.view(message).element;
    reconcile(this.list, shown, (message) => this.view(message).key, create, (_, message) => {
      drawn = this.view(message).show({ results: this.resultsAfter(message), busy: this.busy }) && drawn;
    });
    this.follow();
    if (!drawn) this.paint();
  }

  view(message) {
    if (!this.views.has(message)) {
      const view = message.role === "user" ? new Said(message, this.acts) : new Answered(message, this.acts);
      view.key = ++this.keys;
      this.views.set(message, view);
    }
    return this.views.get(message);
  }

  /** The tool messages that follow `message` at once. */
  resultsAfter(message) {
    const later = this.conversation.messages.slice(this.conversation.messages.indexOf(message) + 1);
    const end = later.findIndex(({ role }) => role !== "tool");
    return end < 0 ? later : later.slice(0, end);
  }

  /** Whoever scrolls up is left there; the end of the text takes the view along again. */
  scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.scroll;
    if (scrollTop < this.top - 1) this.pinned = false;
    else if (scrollHeight - scrollTop - clientHeight < NEAR) this.pinned = true;
    this.top = scrollTop;
    this.latest.hidden = this.pinned || scrollHeight - scrollTop - clientHeight < NEAR;
  }

  /** Goes to the end, and stays there. */
  pin() {
    this.pinned = true;
    this.follow();
  }

  follow() {
    if (this.pinned) this.scroll.scrollTop = this.scroll.scrollHeight;
    this.top = this.scroll.scrollTop;
    this.latest.hidden = this.pinned;
  }
}
