// The section that says how other programs reach this server.
import { CLIENTS, filled } from "./clients.js";
import { byId, el } from "./dom.js";
import { isLocked, key } from "./keys.js";
import { model } from "./server.js";
import { reword, snippet } from "./snippet.js";

const NO_KEY = "none"; // clients insist on one where the server does not
const HIDDEN = "••••••••";

/** Builds the section. */
export function startConnect() {
  const seen = el("input", { type: "checkbox", id: "show-key", onchange: () => show() });
  const basics = [
    { id: "base", name: "Base URL", text: "{BASE}" },
    { id: "model", name: "Model", text: "{MODEL}" },
    { id: "key", name: "API key", text: "{KEY}" },
  ].map((basic) => ({ ...basic, box: snippet(basic.name) }));
  const clients = CLIENTS.map((client) => ({ ...client, steps: client.steps.map((step) => ({ ...step, box: snippet(`${client.name}: ${step.where}`) })) }));
  const showKey = el("label.tick", { id: "show-key-line" }, seen, "Show the key");
  byId("view-connect").append(
    el("section.panel.basics", { "aria-label": "This server" }, basics.map(basicOf), showKey, el("p.muted", { id: "reach" }, flagged(reach()))),
    el("nav.index", { "aria-label": "Clients" }, clients.map(({ id, name }) => el("a", { href: `#connect/${id}` }, name))),
    el("div.clients", {}, clients.map(clientOf)),
  );
  const show = () => {
    showKey.hidden = !key();
    for (const { id, text, box } of basics) fill(box, text, seen.checked, id);
    for (const { steps } of clients) for (const step of steps) showStep(step, seen.checked);
  };
  return { show, arrive: (rest) => goTo(rest) };
}

const basicOf = ({ id, name, box }) => el("div.basic", { "data-basic": id }, el("span.muted", {}, name), box);

function clientOf({ id, name, steps, note }) {
  const parts = steps.map((step) => {
    step.element = el("div.step", {}, el("p", {}, step.where), step.box);
    return step.element;
  });
  return el("section.panel.client", { id: `client-${id}`, "aria-labelledby": `client-${id}-title`, tabindex: "-1" }, el("h2", { id: `client-${id}-title` }, name), parts, note && el("p.muted", {}, flagged(note)));
}

/** `text` with its flags as code that no line end parts. */
const flagged = (text) => text.split(/(--[a-z][\w-]*(?: [\w.]*[.\d][\w.]*\w)?)/).map((part, index) => (index % 2 ? el("code.flag", {}, part) : part));

function showStep(step, seen) {
  step.element.hidden = Boolean(step.keyed) && !isKeyed();
  fill(step.box, step.text, seen);
}

const isKeyed = () => Boolean(key()) || isLocked();

/** Copies the key itself, and shows it only if that is wished. */
function fill(box, text, seen) {
  const values = { origin: location.origin, base: `${location.origin}/v1`, model: model(), keyed: isKeyed() };
  const real = isKeyed() ? key() || "YOUR-KEY" : NO_KEY;
  const shown = key() && !seen ? HIDDEN : real;
  reword(box, filled(text, { ...values, key: shown }), filled(text, { ...values, key: real }));
}

function reach() {
  const local = ["localhost", "127.0.0.1", "[::1]"].includes(location.hostname);
  return local
    ? "This address is good on this machine alone. For others start the server with --host 0.0.0.0 and a key, and open this page by the machine's name."
    : "Clients on any machine that reaches this address may use it.";
}

function goTo(id) {
  const target = id && byId(`client-${id}`);
  if (!target) return;
  requestAnimationFrame(() => {
    target.scrollIntoView({ block: "start" });
    target.focus({ preventScroll: true });
  });
}
