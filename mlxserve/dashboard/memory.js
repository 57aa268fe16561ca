// What fills a machine's memory, as a stacked bar with its legend.
import { el, say } from "./dom.js";
import { bytes } from "./format.js";

const PARTS = { weights: "Weights", kv: "KV cache", prefix: "Prefix cache", cache: "Buffers", other: "Other", free: "Free" };
const UNSEEN = 0.001;

/** An empty bar. */
export function createMemory() {
  const bar = el("div.bar.stack", { role: "img" }, Object.keys(PARTS).map((part) => el("span", { "data-part": part })));
  const legend = el("ul.legend", {}, Object.entries(PARTS).map(([part, name]) => entry(part, name)));
  return el("div.memory", {}, el("div.line", {}, el("span.term", {}, "Memory"), bar, el("span", { "data-field": "memory-total" })), legend);
}

const entry = (part, name) => el("li", { "data-part": part }, el("i"), `${name} `, el("b", { "data-memory": part }));

/** Shows what `rank` says of its memory; without parts the sum alone. */
export function showMemory(element, rank) {
  const { memory } = rank;
  element.querySelector(".legend").hidden = element.querySelector(".bar").hidden = !memory?.total;
  const total = element.querySelector('[data-field="memory-total"]');
  if (!memory?.total) {
    say(total, rank.memory_gb === undefined ? "–" : `${rank.memory_gb.toFixed(2)} GB in use`);
    return;
  }
  say(total, bytes(memory.total));
  const parts = withOther(memory);
  for (const part of Object.keys(PARTS)) showPart(element, part, parts[part], memory.total);
  const told = Object.entries(PARTS).map(([part, name]) => `${name} ${bytes(parts[part])}`);
  element.querySelector(".bar").setAttribute("aria-label", `${told.join(", ")}, of ${bytes(memory.total)}`);
}

/** What the machine's other programs hold is what is left over. */
function withOther(memory) {
  const told = memory.weights + memory.kv + memory.prefix + memory.cache + memory.free;
  return { ...memory, other: Math.max(0, memory.total - told) };
}

function showPart(element, part, size, total) {
  element.querySelector(`.bar [data-part="${part}"]`).style.flexGrow = size / total < UNSEEN ? 0 : size / total;
  const line = element.querySelector(`.legend [data-part="${part}"]`);
  line.hidden = part === "other" && size / total < UNSEEN;
  const value = line.querySelector("b");
  value.dataset.bytes = size;
  say(value, bytes(size));
}
