// Buttons that copy, also where the page came by plain HTTP and browsers keep their clipboard's API to themselves.
import { el } from "./dom.js";
import { icon } from "./icons.js";

/** A button that copies what `textOf()` gives. With `word` it is labelled, else a drawing that says `name`. */
export function copyButton(textOf, { word = "", name = "Copy" } = {}) {
  const kind = word ? "button.small" : "button.icon-button.small";
  const face = () => (word ? [icon("copy"), word] : [icon("copy")]);
  const button = el(kind, { type: "button", "aria-label": word ? null : name, title: word ? null : name, "data-copy": "" }, face());
  button.addEventListener("click", async () => {
    const copied = await copy(textOf());
    button.replaceChildren(icon(copied ? "done" : "close"), ...(word ? [copied ? "Copied" : "Failed"] : []));
    setTimeout(() => button.replaceChildren(...face()), 1500);
  });
  return button;
}

/** Puts `text` on the clipboard; whether that was possible. */
async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copyOldWay(text);
  }
}

function copyOldWay(text) {
  const area = el("textarea.unseen", { value: text, "aria-hidden": "true", tabindex: "-1" });
  const before = document.activeElement;
  (before?.closest("dialog") ?? document.body).append(area);
  area.select();
  const copied = document.execCommand("copy");
  area.remove();
  before?.focus();
  return copied;
}
