// One answer, streamed into its message.
import { post } from "../api.js";
import { count } from "../format.js";
import { inWords } from "./problem.js";
import { events } from "./sse.js";

/** An assistant's message that is about to be written. */
export const newAnswer = (form) => ({ role: "assistant", content: "", reasoning: "", tool_calls: null, writing: true, form, note: "" });

/** Writes into `message` what the server answers to `body`, and calls `changed` after each piece. Never raises. */
export async function stream(body, message, signal, changed) {
  const timing = { asked: performance.now(), first: 0, pieces: 0 };
  try {
    const answer = await post("/v1/chat/completions", body, signal);
    let ended = false;
    for await (const event of events(answer.body)) {
      if (event.data === "[DONE]") break;
      if (event.data === undefined) message.note = event.comment.trim();
      else ended = take(JSON.parse(event.data), message, timing) || ended;
      changed();
    }
    if (!ended) throw new TypeError("broken off");
  } catch (error) {
    if (signal.aborted) message.finish = "stopped";
    else message.error = inWords(error, Boolean(message.content || message.reasoning));
  }
  Object.assign(message, { writing: false, note: "", stats: statsOf(message, timing) });
  delete message.usage;
  delete message.timings;
  changed();
}

/** Takes in one chunk; says whether it ends the answer. */
function take(chunk, message, timing) {
  if (chunk.error) throw Object.assign(new Error(chunk.error.message), { status: 500 });
  if (chunk.prompt_progress) message.note = progressNote(chunk.prompt_progress);
  if (chunk.usage) message.usage = chunk.usage;
  if (chunk.timings) message.timings = chunk.timings;
  const choice = chunk.choices?.[0];
  if (!choice) return false;
  write(choice.delta ?? {}, message, timing);
  if (choice.finish_reason) message.finish = choice.finish_reason;
  return Boolean(choice.finish_reason);
}

const progressNote = ({ processed, total }) => `Reading the prompt: ${count(processed)} of ${count(total)} tokens`;

function write(delta, message, timing) {
  const thought = delta.reasoning_content ?? delta.reasoning;
  const said = Boolean(thought || delta.content || delta.tool_calls);
  if (said && !timing.first) timing.first = performance.now();
  if (said) {
    message.note = "";
    timing.pieces += 1;
  }
  if (thought) message.reasoning += thought;
  if (!thought && said && message.reasoning && !message.thoughtFor) message.thoughtFor = (performance.now() - timing.first) / 1000;
  if (delta.content) message.content += delta.content;
  for (const part of delta.tool_calls ?? []) writeCall(part, message);
}

function writeCall(part, message) {
  message.tool_calls ??= [];
  const call = (message.tool_calls[part.index ?? 0] ??= { id: "", type: "function", function: { name: "", arguments: "" } });
  if (part.id) call.id = part.id;
  call.function.name += part.function?.name ?? "";
  call.function.arguments += part.function?.arguments ?? "";
}

/**
 * What is told below an answer. Seconds; the first token as this page saw it. Of an answer that was stopped the server
 * tells no numbers: its pieces are counted, each mostly a token.
 */
function statsOf({ usage, timings }, timing) {
  const tokens = usage?.completion_tokens ?? timings?.predicted_n ?? null;
  const writing = (performance.now() - timing.first) / 1000;
  const pieces = timing.pieces > 1 && writing > 0 ? (timing.pieces - 1) / writing : null;
  return {
    ttft: timing.first ? (timing.first - timing.asked) / 1000 : null,
    tokens,
    tokensPerSecond: timings?.predicted_per_second ?? pieces,
    counted: Boolean(timings),
    promptTokens: usage?.prompt_tokens ?? null,
    cachedTokens: usage?.prompt_tokens_details?.cached_tokens ?? null,
  };
}
