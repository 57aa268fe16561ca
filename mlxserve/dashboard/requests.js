// The requests that are open, and the last that were.
import { Refused, post } from "./api.js";
import { el, reconcile, say } from "./dom.js";
import { ago, clock, count, duration, rate } from "./format.js";
import { askNow } from "./pulse.js";
import { server } from "./server.js";
import { toast } from "./toast.js";

const STATES = { waiting: "Waiting", reading: "Reading", writing: "Writing" };
const ENDED = { 410: "cancelled", 499: "client left" }; // no failures of the server's
const OPEN = ["Request", "Endpoint", "Client", "For", "State", "Progress", "Tokens/s", ""];
const RECENT = ["Ended", "Status", "Request", "Endpoint", "Client", "Prompt", "Cached", "Answer", "TTFT", "Tokens/s", "Took"];

/** Both tables. */
export function createRequests() {
  const open = table("open-requests", "Open requests", OPEN);
  const recent = table("recent-requests", "Last requests", RECENT);
  const show = () => {
    const known = server.requests ?? { open: [], recent: [] };
    reconcile(open.body, known.open, (one) => one.id, openRow, showOpen);
    reconcile(recent.body, known.recent, (one) => `${one.id} ${one.started}`, recentRow, () => {});
    open.say(known.open.length ? "" : "Nothing is being answered.", known.open.length);
    recent.say(known.recent.length ? "" : "None yet.", known.recent.length);
  };
  return { elements: [open.element, recent.element], show };
}

function table(id, title, columns) {
  const body = el("tbody");
  const note = el("p.muted");
  const amount = el("span.muted", { "data-count": id });
  const head = el("tr", {}, columns.map((name) => el("th", { scope: "col", "data-column": name }, name || el("span.unseen", {}, "Action"))));
  const scroll = el("div.scroll", { tabindex: "0", role: "region", "aria-labelledby": `${id}-title` }, el("table", { id }, el("thead", {}, head), body));
  const heading = el("header", {}, el("h2", { id: `${id}-title` }, title), amount);
  return {
    element: el("section.panel.requests", {}, heading, note, scroll),
    body,
    say(text, rows) {
      say(note, text);
      say(amount, rows || "");
      note.hidden = !text;
      scroll.hidden = Boolean(text);
    },
  };
}

const cell = (column, ...content) => el("td", { "data-column": column }, ...content);
const endpoint = (path) => path.replace(/^\/v1/, "");

/** Its id, and its prompt where the server tells that (--log-prompts). */
const named = ({ id, prompt }) => cell("Request", el("code", { title: id }, id), prompt && el("span.prompt", { title: prompt }, prompt));

function openRow(one) {
  const cancel = el("button.small.danger", { type: "button", "data-cancel": one.id, "aria-label": `Cancel ${one.id}`, onclick: () => stop(cancel, one.id) }, "Cancel");
  const bar = el("div.bar", {}, el("span"));
  return el(
    "tr",
    { "data-request": one.id },
    named(one),
    cell("Endpoint", endpoint(one.endpoint)),
    cell("Client", one.client),
    cell("For"),
    cell("State", el("span.state")),
    cell("Progress", bar, el("span")),
    cell("Tokens/s"),
    cell("", cancel),
  );
}

function showOpen(row, one) {
  const field = (column) => row.querySelector(`[data-column="${column}"]`);
  say(field("For"), ago(one.started, server.traffic?.now));
  say(field("State").firstElementChild, STATES[one.state] ?? one.state);
  row.dataset.state = one.state;
  showProgress(field("Progress"), one);
  say(field("Tokens/s"), one.state === "writing" ? rate(one.tokens_per_second) : "–");
}

function showProgress(element, one) {
  const reads = one.state !== "writing";
  const [done, all] = reads ? [one.prompt_tokens_read, one.prompt_tokens] : [one.completion_tokens, one.max_tokens];
  element.firstElementChild.firstElementChild.style.width = `${all ? Math.min(100, (done / all) * 100) : 0}%`;
  const kind = reads ? "prompt" : "answer";
  say(element.lastElementChild, all ? `${count(done)} / ${count(all)} ${kind}` : `${count(done)} ${kind}`);
}

async function stop(button, id) {
  button.disabled = true;
  try {
    await post(`/requests/${encodeURIComponent(id)}/cancel`);
    askNow();
  } catch (error) {
    button.disabled = false;
    toast(error instanceof Refused ? error.message : "The request could not be cancelled.");
  }
}

function recentRow(one) {
  const bad = one.status >= 400 && !(one.status in ENDED);
  const verdict = bad ? `${one.status} ${one.error}` : ENDED[one.status] || one.finish || String(one.status);
  return el(
    "tr",
    { "data-request": one.id, "data-failed": bad },
    cell("Ended", clock(one.started + one.seconds)),
    cell("Status", el("span.verdict", { title: one.error || null }, verdict)),
    named(one),
    cell("Endpoint", endpoint(one.endpoint)),
    cell("Client", one.client),
    cell("Prompt", count(one.prompt_tokens)),
    cell("Cached", count(one.cached_tokens)),
    cell("Answer", count(one.completion_tokens)),
    cell("TTFT", duration(one.ttft)),
    cell("Tokens/s", one.completion_tokens > 1 ? rate(one.tokens_per_second) : "–"),
    cell("Took", duration(one.seconds)),
  );
}
