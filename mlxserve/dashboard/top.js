// The bar at the top: the model, the state; and the notice below it when something keeps the page from its data.
import { byId, el, say } from "./dom.js";
import { ago } from "./format.js";
import { askForKey, isLocked } from "./keys.js";
import { server, state } from "./server.js";
import { meaning, showBadge } from "./status.js";

/** Shows what is known now. */
export function showTop() {
  const { status } = state();
  say(byId("top-model"), server.health?.model ?? "");
  byId("top-model").title = server.health?.model ?? "";
  showBadge(byId("top-status"), status);
  byId("top-status").title = meaning(status);
  const title = document.title.replace(/^\([^)]*\) /, "");
  document.title = ["healthy", "connecting"].includes(status) ? title : `(${status}) ${title}`;
  showNotice(status);
}

function showNotice(status) {
  const notice = byId("notice");
  const kind = status === "unreachable" ? "lost" : isLocked() ? "locked" : "";
  notice.hidden = !kind;
  notice.classList.toggle("bad", kind === "lost");
  if (kind === "lost") say(notice, `The server has not answered for ${ago(server.lostSince)}. This page goes on asking, and comes back by itself.`);
  if (kind === "locked" && notice.dataset.kind !== "locked") {
    const button = el("button.small", { type: "button", onclick: askForKey }, "Enter the key");
    notice.replaceChildren("This server asks for a key: without one this page sees only whether it is well.", button);
  }
  notice.dataset.kind = kind;
}
