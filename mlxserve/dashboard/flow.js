// A picture of what passes through the ranks. Chunks of prompts go in and through; decode steps come back to rank 0,
// where their tokens are drawn. It shows up to some of each a second; the numbers beside it are the real ones.
import { el, reconcile, say } from "./dom.js";
import { rate } from "./format.js";

const TICK = 100; // milliseconds
const HOP = 420; // milliseconds from one rank to the next, in the picture
const BELOW = 33; // pixels from the line to the one that leads back
const SEEN = { chunk: 4, step: 6 }; // most of each a second
const still = matchMedia("(prefers-reduced-motion: reduce)");

/** Builds the picture. */
export function startFlow() {
  const stations = el("ol.stations");
  const lane = el("div.lane", { "aria-hidden": "true" });
  const chunks = el("span", { "data-flow": "chunks" });
  const steps = el("span", { "data-flow": "decode_steps" });
  const element = el(
    "section.panel.flow",
    { "aria-labelledby": "flow-title", hidden: true },
    el("header", {}, el("h2", { id: "flow-title" }, "What flows"), el("p.keys", {}, el("span", {}, el("i.chunk"), chunks), el("span", {}, el("i.step"), steps))),
    el("div.stage", {}, lane, stations),
  );
  const picture = new Picture(lane);
  const show = (ranks, flow) => {
    element.hidden = !flow;
    if (!flow) return picture.set(0, 0, 0);
    reconcile(stations, ranks, (rank) => rank.rank, station, showStation);
    say(chunks, flow.chunks ? `${rate(flow.chunks)} prompt chunks/s, ${rate(flow.chunk_tokens / flow.chunks)} tokens each` : "no prompt is read");
    say(steps, flow.decode_steps ? `${rate(flow.decode_steps)} decode steps/s, ${rate(flow.decode_rows / flow.decode_steps)} answers each` : "nothing is written");
    element.dataset.flowing = flow.chunks + flow.decode_steps > 0;
    picture.set(ranks.length, flow.chunks, flow.decode_steps);
  };
  return { element, show, on: (seen) => picture.on(seen) };
}

const station = (rank) => el("li", {}, el("b", {}, `Rank ${rank.rank}`), el("span"));

function showStation(element, rank) {
  element.dataset.status = rank.status;
  say(element.lastElementChild, rank.host);
}

/** What moves. Nothing does, and no timer runs, while nobody sees it or there is nothing to show. */
class Picture {
  constructor(lane) {
    this.lane = lane;
    this.seen = false;
    this.timer = 0;
    this.due = { chunk: 0, step: 0 };
    this.set(0, 0, 0);
    document.addEventListener("visibilitychange", () => this.wind());
    still.addEventListener("change", () => this.wind());
  }

  set(stations, chunks, steps) {
    this.stations = stations;
    this.lane.style.setProperty("--ends", stations > 1 ? `${50 / stations}%` : "50%");
    this.rates = { chunk: Math.min(SEEN.chunk, chunks), step: Math.min(SEEN.step, steps) };
    this.wind();
  }

  on(seen) {
    this.seen = seen;
    this.wind();
  }

  /** Starts or stops the timer. */
  wind() {
    const runs = this.seen && !document.hidden && !still.matches && this.stations > 0 && this.rates.chunk + this.rates.step > 0;
    if (runs === Boolean(this.timer)) return;
    clearInterval(this.timer);
    this.timer = runs ? setInterval(() => this.tick(), TICK) : 0;
  }

  tick() {
    for (const kind of ["chunk", "step"]) {
      this.due[kind] += (this.rates[kind] * TICK) / 1000;
      if (this.due[kind] < 1) continue;
      this.due[kind] %= 1;
      this.send(kind);
    }
  }

  send(kind) {
    const dot = el(`i.${kind}`);
    this.lane.append(dot);
    const frames = kind === "chunk" ? this.through() : this.round();
    const moving = dot.animate(frames, { duration: HOP * (frames.length - 1), easing: "linear" });
    moving.onfinish = moving.oncancel = () => dot.remove();
  }

  /** From the left edge past all stations. */
  through() {
    const { width, x } = this.measure();
    const last = x.at(-1);
    return [at(0, 0, 0), ...x.map((place) => at(place, 0)), at(Math.min(width, last + width / (2 * x.length)), 0, 0)];
  }

  /** From rank 0 to the last one, and back below. */
  round() {
    const { width, x } = this.measure();
    if (x.length === 1) return [at(0, 0, 0), at(x[0], 0), at(width, 0, 0)];
    return [...x.map((place) => at(place, 0)), at(x.at(-1), BELOW), at(x[0], BELOW), at(x[0], 0, 0)];
  }

  measure() {
    const width = this.lane.clientWidth;
    return { width, x: Array.from({ length: this.stations }, (_, index) => (width * (index + 0.5)) / this.stations) };
  }
}

const at = (x, y, opacity = 1) => ({ transform: `translate(${x}px, ${y}px)`, opacity });
