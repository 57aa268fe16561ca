// The API key: asked for once the server wants one, kept for this tab or, if wished, in this browser.
import { byId } from "./dom.js";
import { icon } from "./icons.js";
import { keep, kept } from "./storage.js";

const NAME = "key";
const listeners = new Set();
let locked = false;
let dismissed = false;

/** The key that is known, or "". */
export const key = () => kept(NAME, "sessionStorage") ?? kept(NAME) ?? "";

/** Whether the server refused what this page sent. */
export const isLocked = () => locked;

/** Calls `listener` when a key was given or refused. */
export const onKey = (listener) => listeners.add(listener);

/** The headers that carry the key. */
export const keyHeaders = () => (key() ? { Authorization: `Bearer ${key()}` } : {});

/** Told by whoever asked the server: whether it refused for want of a key. */
export function told(refused) {
  byId("key-button").hidden = !refused && !key();
  if (refused === locked) return;
  locked = refused;
  if (refused && !dismissed) askForKey();
  listeners.forEach((listener) => listener());
}

/** Opens the dialog. */
export function askForKey() {
  const dialog = byId("key-dialog");
  byId("key-error").textContent = key() && locked ? "The server does not know the key that was sent." : "";
  byId("key-forget").hidden = !key();
  byId("key-remember").checked = kept(NAME) !== null;
  if (!dialog.open) dialog.showModal();
}

/** Listens to the dialog; `check(key)` says whether the server takes it, or raises. */
export function startKeys(check) {
  const dialog = byId("key-dialog");
  byId("key-button").append(icon("key"));
  byId("key-button").setAttribute("aria-label", "API key");
  byId("key-button").title = "API key";
  byId("key-button").addEventListener("click", askForKey);
  byId("key-later").addEventListener("click", () => dialog.close());
  byId("key-forget").addEventListener("click", () => {
    remember(null);
    dialog.close();
  });
  dialog.addEventListener("close", () => (dismissed = true));
  byId("key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    take(byId("key-input").value.trim(), check, dialog);
  });
}

async function take(given, check, dialog) {
  const error = byId("key-error");
  error.textContent = "";
  try {
    if (!(await check(given))) {
      error.textContent = "The server does not know this key.";
      return;
    }
  } catch {
    error.textContent = "The server does not answer: try again.";
    return;
  }
  remember(given, byId("key-remember").checked);
  byId("key-input").value = "";
  dialog.close();
}

function remember(given, always = false) {
  keep(NAME, always ? null : given, "sessionStorage");
  keep(NAME, always ? given : null);
  locked = false;
  byId("key-button").hidden = !key();
  listeners.forEach((listener) => listener());
}
