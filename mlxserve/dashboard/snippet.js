// A piece of text to paste somewhere, with its copy button.
import { copyButton } from "./copy.js";
import { el, say } from "./dom.js";

/** A box that shows `text`, and copies `secret` in its stead where a key is not to be seen. */
export function snippet(label, text = "", secret = text) {
  const box = el("div.snippet");
  const pre = el("pre", { tabindex: "0", role: "group", "aria-label": label }, el("code", {}, text));
  box.append(pre, copyButton(() => box.secret, { word: "Copy" }));
  box.secret = secret;
  return box;
}

/** Shows another text in `box`. */
export function reword(box, text, secret = text) {
  box.secret = secret;
  say(box.querySelector("code"), text);
}
