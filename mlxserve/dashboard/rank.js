// One rank's card.
import { el, say } from "./dom.js";
import { NONE, bytes, duration, rate, share } from "./format.js";
import { createMemory, showMemory } from "./memory.js";
import { layerCount, sharesLayers } from "./server.js";
import { showBadge } from "./status.js";

const ABSENT = {
  missing: "It was planned, and takes no part now.",
  recovering: "It was lost, and is waited for.",
  loading: "Nothing was heard of it yet.",
};

/** An empty card for `rank`. */
export function createRank(rank) {
  const field = (name, tag = "span") => el(tag, { "data-field": name });
  const card = el(
    "article.panel.rank",
    { "data-rank": rank.rank, "aria-labelledby": `rank-${rank.rank}` },
    el("header", {}, el("h2", { id: `rank-${rank.rank}` }, `Rank ${rank.rank}`, " ", field("host", "span")), el("span.badge", { "data-field": "status" })),
    el("p.device", { "data-field": "device" }),
    el("div.progress", { "data-field": "progress" }, el("p", {}, ""), el("div.bar", {}, el("span"))),
    el(
      "div.facts",
      {},
      line("Layers", el("div.bar.layers", { "data-field": "layer-bar" }, el("span")), field("layers")),
      line("Busy", el("div.bar", { "data-field": "busy-bar" }, el("span")), field("busy")),
      createMemory(),
      el("dl.pairs", {}, pair("Tokens/s", "tokens_per_second"), pair("Expected per token", "expected"), pair("Link", "link"), pair("Traffic", "link-traffic"), pair("Process", "pid")),
    ),
  );
  return card;
}

const line = (term, bar, value) => el("div.line", {}, el("span.term", {}, term), bar, value);
const pair = (term, name) => el("div", {}, el("dt", {}, term), el("dd", { "data-field": name }));

/** Shows in `card` what is known of `rank`. */
export function showRank(card, rank) {
  const field = (name) => card.querySelector(`[data-field="${name}"]`);
  card.dataset.status = rank.status;
  card.classList.toggle("absent", Boolean(rank.absent));
  say(field("host"), rank.host);
  showBadge(field("status"), rank.status);
  say(field("device"), rank.absent ? (ABSENT[rank.status] ?? "It does not answer.") : rank.device);
  showProgress(field("progress"), rank.absent ? "" : rank.progress);
  const known = !rank.absent && rank.pid > 0;
  card.querySelector(".facts").hidden = !known;
  if (known) showFacts(card, field, rank);
}

function showFacts(card, field, rank) {
  const works = rank.status === "active";
  showLayers(field, rank);
  showShare(field("busy-bar"), 0, works ? rank.busy : 0);
  say(field("busy"), works ? share(rank.busy) : NONE);
  showMemory(card.querySelector(".memory"), rank);
  say(field("tokens_per_second"), works ? rate(rank.tokens_per_second) : NONE);
  field("expected").parentElement.hidden = !rank.expected_seconds;
  say(field("expected"), duration(rank.expected_seconds));
  say(field("pid"), rank.pid);
  showLink(field, rank.link);
}

function showLayers(field, rank) {
  const [first, last] = rank.layers;
  const all = layerCount();
  const known = all > 0 && last >= first;
  showShare(field("layer-bar"), known ? first / all : 0, known ? (last - first + 1) / all : 0);
  const range = sharesLayers() ? `a share of all ${all}` : `${first}–${last} of ${all}`;
  say(field("layers"), known ? range : "–");
}

function showLink(field, link) {
  const linked = link && link.to !== null;
  field("link").parentElement.hidden = field("link-traffic").parentElement.hidden = !linked;
  if (!linked) return;
  say(field("link").previousElementSibling, `Link to rank ${link.to}`);
  say(field("link"), duration(link.latency));
  say(field("link-traffic"), `${bytes(link.bytes_per_second)}/s`);
}

/** The text of what a rank does before it serves, with a bar where it names a share. */
function showProgress(element, text) {
  element.hidden = !text;
  say(element.querySelector("p"), text);
  const done = shareIn(text);
  element.querySelector(".bar").hidden = done === null;
  showShare(element.querySelector(".bar"), 0, done ?? 0);
}

/** The share that `text` names: "42 %", "1.2 GB of 3.4 GB", "3/28"; else null. */
export function shareIn(text) {
  const percent = /(\d+(?:\.\d+)?)\s*%/.exec(text);
  if (percent) return Math.min(1, percent[1] / 100);
  const part = /(\d+(?:\.\d+)?)(?:\s*([kMGT]?B) of|\s*\/)\s*(\d+(?:\.\d+)?)\s*([kMGT]?B)?/.exec(text);
  if (!part || part[2] !== part[4] || !Number(part[3])) return null;
  return Math.min(1, part[1] / part[3]);
}

function showShare(bar, start, size) {
  const fill = bar.firstElementChild;
  fill.style.left = `${(start * 100).toFixed(2)}%`;
  fill.style.width = `${(Math.min(1, Math.max(0, size || 0)) * 100).toFixed(2)}%`;
}
