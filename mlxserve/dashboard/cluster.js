// The section that shows whether all machines work, and at what.
import { byId, el, reconcile, say } from "./dom.js";
import { startFlow } from "./flow.js";
import { ago, clock, count, rate } from "./format.js";
import { icon } from "./icons.js";
import { createRank, showRank } from "./rank.js";
import { layerCount, rankStatus, ranks, server, state, worldSize } from "./server.js";
import { meaning, word } from "./status.js";

const FIGURES = {
  "active-gpus": "Active GPUs",
  "generated-rate": "Generated tokens/s",
  "prompt-rate": "Prompt tokens/s",
  "open-requests": "Open requests",
  layers: "Layers",
  context: "Context",
  parallel: "Parallel",
  backend: "Backend",
};

/** What flows while no rank works. */
const STILL = { chunks: 0, chunk_tokens: 0, decode_steps: 0, decode_rows: 0 };

/** Builds the section. */
export function startCluster() {
  const banner = createBanner();
  const figures = Object.fromEntries(Object.keys(FIGURES).map((name) => [name, el("dd", { "data-figure": name }, "–")]));
  const list = el("dl.figures", {}, Object.entries(FIGURES).map(([name, term]) => el("div", {}, el("dt", {}, term), figures[name])));
  const flow = startFlow();
  const cards = el("div.ranks", { id: "ranks" });
  byId("view-cluster").append(banner.element, el("section.panel", { "aria-label": "Figures" }, list), flow.element, cards);
  const show = () => {
    banner.show();
    showFigures(figures);
    const all = withMissing();
    reconcile(cards, all, (rank) => rank.rank, createRank, showRank);
    flow.show(all, all.some((rank) => rank.status === "active") ? server.traffic?.flow : server.traffic && STILL);
  };
  return { show, arrive: () => flow.on(true), leave: () => flow.on(false) };
}

function createBanner() {
  const sign = el("span.sign");
  const title = el("h2", { id: "state-word" });
  const reason = el("p", { id: "state-reason" });
  const since = el("p.since", { id: "state-since" });
  const element = el("section.banner", { id: "state", "aria-label": "State" }, sign, el("div.grow", {}, title, reason), since);
  const show = () => {
    const now = state();
    if (element.dataset.status !== now.status) sign.replaceChildren(icon(now.status));
    element.dataset.status = sign.dataset.status = now.status;
    say(title, word(now.status));
    say(reason, now.reason || meaning(now.status));
    say(since, now.since ? `for ${ago(now.since)}, since ${clock(now.since)}` : "");
  };
  return { element, show };
}

function showFigures(figures) {
  const { health, traffic } = server;
  const latest = (name) => traffic?.minutes[name].at(-1);
  const active = ranks().filter((rank) => rankStatus(rank) === "active").length;
  say(figures["active-gpus"], health ? `${active} of ${worldSize()}` : "–");
  say(figures["generated-rate"], rate(latest("generated_tokens_per_second")));
  say(figures["prompt-rate"], rate(latest("prompt_tokens_per_second")));
  say(figures["open-requests"], traffic ? openRequests(traffic) : count(health?.open_requests));
  say(figures.layers, count(layerCount() || NaN));
  say(figures.context, health?.context_length ? `${count(health.context_length)} tokens` : "–");
  say(figures.parallel, worldSize() > 1 ? (health?.parallel ?? "–") : "one machine");
  say(figures.backend, worldSize() > 1 ? (health?.backend ?? "–") : "one machine");
}

const openRequests = ({ running, waiting }) => (waiting ? `${running} + ${waiting} waiting` : count(running));

/** What each rank's machine is called, also while nothing is heard of it. */
const hosts = new Map();

/** The ranks, and in their places those that were planned and are not there. */
function withMissing() {
  const there = new Map(ranks().map((rank) => [rank.rank, { ...rank, status: rankStatus(rank), absent: rank.progress === "missing" }]));
  for (const rank of there.values()) {
    if (rank.pid) hosts.set(rank.rank, rank.host);
    else rank.host = hosts.get(rank.rank) ?? rank.host;
  }
  return Array.from({ length: worldSize() }, (_, number) => there.get(number) ?? missing(number));
}

function missing(number) {
  const waiting = ["loading", "connecting", "recovering", "unreachable"].includes(state().status);
  return { rank: number, host: hosts.get(number) ?? "", status: waiting ? state().status : "missing", absent: true };
}
