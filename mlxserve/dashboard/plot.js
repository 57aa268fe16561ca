// One plot over time, by uPlot: its title, the latest value, or the one below the pointer.
import { el, say } from "./dom.js";
import { clock } from "./format.js";
import { colour } from "./theme.js";

const HEIGHT = 116;
const WHOLE = [1, 2, 5, 10, 20, 50, 100, 200, 500];
const FONT = "11px system-ui, sans-serif";

/** A plot of one series. `format` words its values, `axis` those beside it; `ceiling` is the top of the scale where it has one. */
export class Plot {
  constructor({ name, title, format, axis = format, ceiling = null, stepped = false }) {
    Object.assign(this, { name, title, format, axis, ceiling, stepped });
    this.value = el("output.value", { "data-plot-value": name });
    this.when = el("span.when");
    this.host = el("div.canvas", { role: "img", "aria-label": title });
    const heading = el("header", {}, el("h2", {}, title), this.when, this.value);
    this.element = el("section.panel.plot", { "data-plot": name }, heading, this.host);
    this.data = [[], []];
    this.range = [0, 1];
    new ResizeObserver(() => this.resize()).observe(this.host);
  }

  /** Shows `values` at `times` (Unix seconds) over the last `span` seconds. */
  show(times, values, now, span) {
    this.data = [times, values];
    this.range = [now - span, now];
    this.tell(null);
    this.host.setAttribute("aria-label", this.summary(span));
    if (!this.host.clientWidth) return;
    if (!this.plot) return this.repaint();
    this.plot.batch(() => {
      this.plot.setData(this.data, false);
      this.plot.setScale("x", { min: this.range[0], max: this.range[1] });
    });
  }

  /** Draws anew, in the colours of now. */
  repaint() {
    this.plot?.destroy();
    this.plot = this.host.clientWidth ? new uPlot(this.options(), this.data, this.host) : null;
  }

  resize() {
    if (!this.host.clientWidth) return;
    if (this.plot) this.plot.setSize({ width: this.host.clientWidth, height: HEIGHT });
    else this.repaint();
  }

  /** Writes the value at `index`, or the latest that there is. */
  tell(index) {
    const [times, values] = this.data;
    const at = index ?? values.findLastIndex((value) => value !== null);
    this.hovered = index !== null;
    say(this.value, this.worded(values[at]));
    say(this.when, index === null || times[at] === undefined ? "" : clock(times[at]));
  }

  worded(value) {
    return value === null || value === undefined ? "–" : this.format(value);
  }

  /** What the plot shows, for those who do not see it. */
  summary(span) {
    const known = this.data[1].filter((value) => value !== null);
    const over = span > 3600 ? "the last day" : "the last 5 minutes";
    if (!known.length) return `${this.title} over ${over}: nothing yet`;
    const [least, most] = [Math.min(...known), Math.max(...known)].map((value) => this.worded(value));
    return `${this.title} over ${over}: from ${least} to ${most}, lately ${this.worded(known.at(-1))}`;
  }

  options() {
    const [line, grid, text] = ["--accent", "--line", "--muted"].map(colour);
    const axis = { stroke: text, font: FONT, grid: { stroke: grid, width: 1 }, ticks: { show: false } };
    const paths = this.stepped ? uPlot.paths.stepped({ align: 1 }) : uPlot.paths.linear();
    return {
      width: this.host.clientWidth,
      height: HEIGHT,
      padding: [6, 16, 0, 0],
      legend: { show: false },
      cursor: { y: false, sync: { key: "traffic" }, drag: { x: false, y: false }, points: { size: 6, fill: line } },
      scales: { x: { time: true, range: () => this.range }, y: { range: (_, least, most) => [0, this.top(most)] } },
      axes: [
        { ...axis, size: 20, gap: 2, space: 42, values: (_, ticks) => ticks.map(hour) },
        { ...axis, size: 44, gap: 4, space: 26, values: (_, ticks) => ticks.map(this.axis), ...(this.stepped && { incrs: WHOLE }) },
      ],
      series: [{}, { stroke: line, width: 1.5, fill: faint(line), paths, points: { show: true, size: 4, fill: line, filter: lonely } }],
      hooks: { setCursor: [(plot) => this.tell(plot.cursor.left >= 0 ? plot.cursor.idx : null)] },
    };
  }

  top(most) {
    return this.ceiling ?? (most > 0 ? most * 1.12 : 1);
  }
}

const hour = (unix) => clock(unix).slice(0, 5);
const faint = (line) => line.replace(/^rgb\((.*)\)$/, "rgba($1, 0.12)");

/** Points without neighbours, which a line alone would not show. */
function lonely(plot, series) {
  const values = plot.data[series];
  const apart = (index) => values[index] != null && values[index - 1] == null && values[index + 1] == null;
  return values.map((_, index) => index).filter(apart);
}
