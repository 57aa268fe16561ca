// Line drawings of 16 by 16, in the colour of the text around them.

const PATHS = {
  healthy: "M2.5 8.5l3.5 3.5 7.5-8",
  active: "M2.5 8.5l3.5 3.5 7.5-8",
  loading: "M8 1.8v2.6M8 11.6v2.6M1.8 8h2.6M11.6 8h2.6M3.6 3.6l1.9 1.9M10.5 10.5l1.9 1.9M3.6 12.4l1.9-1.9",
  connecting: "M3 8h.1M8 8h.1M13 8h.1",
  recovering: "M13.5 8a5.5 5.5 0 1 1-1.8-4.1M13.6 1.6v3h-3",
  degraded: "M8 2l6.3 11.5H1.7zM8 6.3v3.4M8 11.8v.1",
  draining: "M8 2v8M4.5 6.8L8 10.3l3.5-3.5M3 13.5h10",
  unreachable: "M3.5 3.5l9 9M12.5 3.5l-9 9",
  missing: "M3.5 3.5l9 9M12.5 3.5l-9 9",
  idle: "M5.5 3.5v9M10.5 3.5v9",
  copy: "M5.5 5.5h8v8h-8zM10.5 5.5v-3h-8v8h3",
  edit: "M3 13l.6-3L11 2.6l2.4 2.4L6 12.4zM9.5 4.2l2.3 2.3",
  remove: "M3 4.5h10M6.5 4.5v-2h3v2M4.2 4.5l.6 9h6.4l.6-9",
  again: "M13.5 8a5.5 5.5 0 1 1-1.8-4.1M13.6 1.6v3h-3",
  stop: "M4 4h8v8H4z",
  send: "M8 13.5v-11M3.8 6.7L8 2.5l4.2 4.2",
  down: "M8 2.5v11M3.8 9.3L8 13.5l4.2-4.2",
  light: "M8 5a3 3 0 1 0 0 6 3 3 0 0 0 0-6zM8 1.2v1.2M8 13.6v1.2M1.2 8h1.2M13.6 8h1.2M3.2 3.2l.9.9M11.9 11.9l.9.9M3.2 12.8l.9-.9M11.9 4.1l.9-.9",
  dark: "M13.5 9.6A5.9 5.9 0 0 1 6.4 2.5a5.9 5.9 0 1 0 7.1 7.1z",
  system: "M2 3h12v8H2zM5.5 13.8h5M8 11v2.8",
  key: "M6.2 9.8a3.3 3.3 0 1 1 1.2-1.2L13.5 14h-2.6v-1.8H9.2v-1.7zM4.6 6.2v.1",
  add: "M8 3v10M3 8h10",
  list: "M2.5 4h11M2.5 8h11M2.5 12h11",
  settings: "M2 4.5h6M12 4.5h2M2 11.5h2M8 11.5h6M10 2.7a1.8 1.8 0 1 0 0 3.6 1.8 1.8 0 0 0 0-3.6zM6 9.7a1.8 1.8 0 1 0 0 3.6 1.8 1.8 0 0 0 0-3.6z",
  code: "M5 4L1.5 8 5 12M11 4l3.5 4-3.5 4",
  export: "M8 10V2M4.8 5L8 1.8 11.2 5M2.5 9.5v4h11v-4",
  done: "M2.5 8.5l3.5 3.5 7.5-8",
  close: "M3.5 3.5l9 9M12.5 3.5l-9 9",
};
const SVG = "http://www.w3.org/2000/svg";

/** The drawing called `name`; nothing to a screen reader. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", PATHS[name] ?? "");
  svg.setAttribute("viewBox", "0 0 16 16");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  svg.append(path);
  return svg;
}
