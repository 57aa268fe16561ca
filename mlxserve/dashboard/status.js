// The states of the server and of its ranks: each has a word, a drawing and a colour.
import { icon } from "./icons.js";

const STATES = {
  connecting: { word: "Connecting", says: "The server is being asked." },
  loading: { word: "Loading", says: "The model is being loaded; requests are refused until it is." },
  healthy: { word: "Healthy", says: "All ranks work." },
  recovering: { word: "Recovering", says: "A rank was lost. Open answers wait, and go on when it is back." },
  degraded: { word: "Degraded", says: "Something is wrong." },
  draining: { word: "Draining", says: "The server is ending: answers that have begun are completed, new ones refused." },
  unreachable: { word: "Unreachable", says: "The server does not answer. This page goes on asking." },
  active: { word: "Active" },
  idle: { word: "Idle" },
  missing: { word: "Missing" },
};

/** What `status` is called. */
export const word = (status) => STATES[status]?.word ?? status;

/** A sentence on what `status` means. */
export const meaning = (status) => STATES[status]?.says ?? "";

/** Makes `element` a badge that shows `status`. */
export function showBadge(element, status) {
  if (element.dataset.status === status && element.childElementCount) return;
  element.dataset.status = status;
  element.replaceChildren(icon(status), word(status));
}
