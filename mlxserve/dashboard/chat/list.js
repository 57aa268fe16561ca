// The list of conversations.
import { el, reconcile, say } from "../dom.js";
import { icon } from "../icons.js";

const button = (name, drawing, onclick) => el("button.icon-button.small", { type: "button", title: name, onclick }, icon(drawing));

export class List {
  /** `acts` renames and removes. */
  constructor(acts) {
    this.acts = acts;
    this.items = el("ul", { id: "conversations" });
    this.none = el("p.muted", {}, "None kept yet.");
    const fresh = el("a.button", { href: "#chat/new", id: "new-chat" }, icon("add"), "New chat");
    this.element = el("nav.chats", { "aria-label": "Conversations", id: "chat-list" }, fresh, this.none, this.items);
  }

  /** Shows `entries`; `current` is the id of the one that is open. */
  show(entries, current, writing) {
    this.none.hidden = entries.length > 0;
    reconcile(this.items, entries, (entry) => entry.id, (entry) => this.item(entry), (item, entry) => {
      const link = item.querySelector("a");
      say(link, entry.title);
      link.title = entry.title;
      item.dataset.writing = writing.has(entry.id);
      if (entry.id === current) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
      item.children[1].setAttribute("aria-label", `Rename ${entry.title}`);
      item.children[2].setAttribute("aria-label", `Delete ${entry.title}`);
    });
  }

  item({ id }) {
    const item = el("li", { "data-conversation": id }, el("a", { href: `#chat/${id}` }), button("Rename", "edit", () => this.rename(item, id)), button("Delete", "remove", () => this.acts.remove(id)));
    return item;
  }

  rename(item, id) {
    const link = item.querySelector("a");
    const input = el("input", { value: link.textContent, "aria-label": "Name", maxlength: "200" });
    let done = false;
    const finish = (taken) => {
      if (done) return;
      done = true;
      input.replaceWith(link);
      if (taken && input.value.trim()) this.acts.rename(id, input.value.trim());
    };
    input.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === "Escape") finish(event.key === "Enter");
    });
    input.addEventListener("blur", () => finish(true));
    link.replaceWith(input);
    input.select();
  }
}
