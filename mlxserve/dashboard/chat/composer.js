// Where a message is written.
import { el } from "../dom.js";
import { icon } from "../icons.js";

const touch = matchMedia("(pointer: coarse)");

export class Composer {
  /** `send(text)` and `stop()` are called when the user wants that. */
  constructor(send, stop) {
    this.area = el("textarea", { id: "chat-input", rows: "1", "aria-label": "Message", placeholder: "Message", oninput: () => this.grow(), onkeydown: (event) => this.pressed(event) });
    this.sending = el("button.primary.send", { type: "submit", "aria-label": "Send", title: "Send (Enter)", id: "chat-send" }, icon("send"));
    this.stopping = el("button.send", { type: "button", "aria-label": "Stop", title: "Stop (Esc)", id: "chat-stop", hidden: true, onclick: stop }, icon("stop"));
    this.element = el("form.composer", { onsubmit: (event) => this.submit(event) }, this.area, this.sending, this.stopping);
    Object.assign(this, { send, stop, busy: false });
    this.grow();
  }

  show(busy, model) {
    if (!busy && this.busy && document.activeElement === this.stopping) this.area.focus();
    this.busy = busy;
    this.area.placeholder = `Message ${model.split("/").at(-1)}`;
    this.sending.hidden = busy;
    this.stopping.hidden = !busy;
  }

  submit(event) {
    event.preventDefault();
    const text = this.area.value;
    if (this.busy || !text.trim()) return;
    this.area.value = "";
    this.grow();
    this.send(text);
  }

  pressed(event) {
    if (event.key === "Escape" && this.busy) this.stop();
    if (event.key !== "Enter" || event.shiftKey || event.isComposing || touch.matches) return;
    event.preventDefault();
    this.element.requestSubmit();
  }

  grow() {
    this.sending.disabled = !this.area.value.trim();
    this.area.style.height = "auto";
    if (this.area.scrollHeight) this.area.style.height = `${Math.min(240, this.area.scrollHeight + 2)}px`;
  }
}
