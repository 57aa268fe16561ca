// The section that shows what the server has done and does.
import { byId, el, say } from "./dom.js";
import { compact, count, duration, rate, share } from "./format.js";
import { Plot } from "./plot.js";
import { createRequests } from "./requests.js";
import { server } from "./server.js";

const SPANS = { minutes: 300, day: 86400 };
const brief = (seconds) => duration(seconds).replace(/\.0+(?= )/, "");
const PLOTS = [
  { name: "generated_tokens_per_second", title: "Generated tokens/s", format: (value) => (value < 1000 ? rate(value) : compact(value)), axis: compact },
  { name: "prompt_tokens_per_second", title: "Prompt tokens/s", format: compact },
  { name: "ttft", title: "Time to first token", format: duration, axis: brief },
  { name: "inter_token", title: "Time between tokens", format: duration, axis: brief },
  { name: "batch", title: "Batch size", format: compact, stepped: true },
  { name: "queue", title: "Queue", format: compact, stepped: true },
  { name: "prefix_hits", title: "Prefix cache hits", format: share, ceiling: 1 },
  { name: "acceptance", title: "Speculation accepted", format: share, ceiling: 1 },
];
const TOTALS = {
  requests: "Requests",
  failed: "Failed",
  prompt_tokens: "Prompt tokens",
  cached_tokens: "of them cached",
  generated_tokens: "Generated tokens",
  preemptions: "Preemptions",
  engine_restarts: "Engine restarts",
};

/** Builds the section. */
export function startTraffic() {
  const plots = PLOTS.map((options) => new Plot(options));
  const spans = el("div.segments", { role: "group", "aria-label": "Span of time" }, link("minutes", "#traffic", "5 minutes"), link("day", "#traffic/day", "Day"));
  const totals = createTotals();
  const requests = createRequests();
  const head = el("div.row.traffic-head", {}, totals.element, spans);
  byId("view-traffic").append(head, el("div.plots", {}, plots.map((plot) => plot.element)), ...requests.elements);
  let span = "minutes";
  const show = () => {
    totals.show();
    showPlots(plots, span);
    requests.show();
  };
  const arrive = (rest) => {
    span = rest === "day" ? "day" : "minutes";
    for (const one of spans.children) {
      if (one.dataset.span === span) one.setAttribute("aria-current", "true");
      else one.removeAttribute("aria-current");
    }
  };
  return { show, arrive, repaint: () => plots.forEach((plot) => plot.repaint()) };
}

const link = (span, href, text) => el("a", { href, "data-span": span }, text);

function showPlots(plots, span) {
  const data = span === "day" ? server.day : server.traffic?.minutes;
  const now = server.traffic?.now ?? Date.now() / 1000;
  for (const plot of plots) if (!plot.hovered) plot.show(data?.times ?? [], data?.[plot.name] ?? [], now, SPANS[span]);
}

function createTotals() {
  const values = Object.fromEntries(Object.keys(TOTALS).map((name) => [name, el("dd", { "data-total": name }, "–")]));
  const element = el("dl.figures.totals", { "aria-label": "Since the start" }, Object.entries(TOTALS).map(([name, term]) => el("div", {}, el("dt", {}, term), values[name])));
  const show = () => {
    for (const [name, value] of Object.entries(values)) {
      const amount = server.traffic?.totals[name];
      value.dataset.value = amount ?? "";
      value.title = amount === undefined ? "" : count(amount);
      say(value, amount >= 100000 ? compact(amount) : count(amount));
    }
  };
  return { element, show };
}
