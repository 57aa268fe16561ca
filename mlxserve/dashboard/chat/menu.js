// A button that opens a few others.
import { el } from "../dom.js";
import { icon } from "../icons.js";

/** A menu of `[label, act]` behind a drawing. */
export function menu(name, drawing, entries) {
  const close = () => (element.open = false);
  const buttons = entries.map(([label, act]) => el("button", { type: "button", onclick: () => (close(), act()) }, label));
  const element = el("details.menu", {}, el("summary.icon-button", { "aria-label": name, title: name }, icon(drawing)), el("div.menu-body", {}, buttons));
  element.addEventListener("focusout", (event) => element.contains(event.relatedTarget) || close());
  element.addEventListener("keydown", (event) => event.key === "Escape" && close());
  return element;
}
