// A line at the bottom of the page that goes away by itself, with a button where something can be taken back.
import { byId, el } from "./dom.js";

const SECONDS = 7;

/** Shows `text`; `action` is [label, function]. */
export function toast(text, action = null) {
  const gone = () => line.remove();
  const act = () => {
    gone();
    action[1]();
  };
  const line = el("div.toast", {}, el("span", {}, text), action && el("button.small", { type: "button", onclick: act }, action[0]));
  byId("toasts").replaceChildren(line);
  setTimeout(gone, SECONDS * 1000);
}
