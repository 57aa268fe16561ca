// Asking the server, with the key, and what goes wrong in words.
import { keyHeaders, told } from "./keys.js";

const PATIENCE = 8000; // milliseconds

/** An answer that is an error. `status` is 0 where there was no answer at all. */
export class Refused extends Error {
  constructor(status, message, code = null, param = null) {
    super(message);
    this.status = status;
    this.code = code;
    this.param = param;
  }
}

/** The JSON at `path`. Raises Refused. /health is told also while it is 503. */
export async function get(path) {
  const answer = await ask(path, { cache: "no-store", signal: AbortSignal.timeout(PATIENCE) });
  if (answer.ok || isReport(answer, path)) return read(answer);
  throw await refusal(answer);
}

/** Posts `body`, and gives the answer as it is, whose body may be a stream. Raises Refused, or AbortError. */
export async function post(path, body = null, signal = undefined) {
  const headers = body === null ? {} : { "Content-Type": "application/json" };
  const answer = await ask(path, { method: "POST", headers, body: body === null ? undefined : JSON.stringify(body), signal });
  if (answer.ok) return answer;
  throw await refusal(answer);
}

/** Whether the server takes `key`. Raises TypeError where it does not answer. */
export async function isKey(key) {
  const answer = await fetch("/v1/models", { headers: { Authorization: `Bearer ${key}` }, cache: "no-store" });
  return answer.status !== 401;
}

async function ask(path, options) {
  let answer;
  try {
    answer = await fetch(path, { ...options, headers: { ...options.headers, ...keyHeaders() } });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, "The server does not answer.");
  }
  if (!isOpen(path)) told(answer.status === 401);
  return answer;
}

const isOpen = (path) => path.startsWith("/health");
const isReport = (answer, path) => answer.status === 503 && isOpen(path);

async function read(answer) {
  try {
    return await answer.json();
  } catch {
    throw new Refused(answer.status, "The server's answer broke off.");
  }
}

async function refusal(answer) {
  let error = {};
  try {
    error = (await answer.json()).error ?? {};
  } catch {
    // A proxy's error page, say: the status will do.
  }
  return new Refused(answer.status, error.message ?? `The server answered with status ${answer.status}.`, error.code, error.param);
}
