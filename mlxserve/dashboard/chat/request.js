// The request that a conversation becomes, for the server, for curl and for Python.
import { wireMessages } from "./conversation.js";
import { parsedSchema, parsedTools } from "./forms.js";

const NUMBERS = ["temperature", "top_p", "top_k", "max_tokens", "seed"];
const NOT_OPENAI = ["top_k"];

/** The body of POST /v1/chat/completions. Raises Error where tools or schema cannot be read. */
export function bodyOf(conversation, model) {
  const { settings } = conversation;
  const numbers = NUMBERS.filter((name) => settings[name] !== "").map((name) => [name, Number(settings[name])]);
  return {
    model,
    messages: wireMessages(conversation),
    ...Object.fromEntries(numbers),
    ...(settings.reasoning && { reasoning_effort: settings.reasoning }),
    ...(settings.useTools && { tools: parsedTools(settings.tools), tool_choice: settings.toolChoice }),
    ...(settings.useSchema && { response_format: { type: "json_schema", json_schema: { name: "answer", strict: true, schema: parsedSchema(settings.schema) } } }),
    stream: true,
    stream_options: { include_usage: true },
  };
}

/** `body` as a command for a shell. */
export function asCurl(body, origin, key) {
  const json = JSON.stringify(body, null, 2).replaceAll("'", `'\\''`);
  const header = key ? `  -H ${quoted(`Authorization: Bearer ${key}`)} \\\n` : "";
  return `curl -N ${origin}/v1/chat/completions \\\n  -H 'Content-Type: application/json' \\\n${header}  -d '${json}'`;
}

const quoted = (text) => `'${text.replaceAll("'", `'\\''`)}'`;

/** `body` as a program for the openai package. */
export function asPython(body, origin, key) {
  const extra = Object.fromEntries(Object.entries(body).filter(([name]) => NOT_OPENAI.includes(name)));
  const own = Object.entries(body).filter(([name]) => !NOT_OPENAI.includes(name));
  const all = Object.keys(extra).length ? [...own, ["extra_body", extra]] : own;
  const fields = all.map(([name, value]) => `    ${name}=${literal(value, 1)},`);
  return [
    "from openai import OpenAI",
    "",
    `client = OpenAI(base_url=${literal(`${origin}/v1`)}, api_key=${literal(key || "none")})`,
    "stream = client.chat.completions.create(",
    ...fields,
    ")",
    "for chunk in stream:",
    "    if chunk.choices:",
    '        print(chunk.choices[0].delta.content or "", end="", flush=True)',
  ].join("\n");
}

/** `value` as Python writes it. */
export function literal(value, depth = 0) {
  if (value === null) return "None";
  if (value === true) return "True";
  if (value === false) return "False";
  if (typeof value !== "object") return JSON.stringify(value);
  const inner = "    ".repeat(depth + 1);
  const [open, close] = Array.isArray(value) ? "[]" : "{}";
  const parts = Array.isArray(value)
    ? value.map((part) => literal(part, depth + 1))
    : Object.entries(value).map(([name, part]) => `${JSON.stringify(name)}: ${literal(part, depth + 1)}`);
  const flat = `${open}${parts.join(", ")}${close}`;
  if (flat.length + depth * 4 <= 96 && !flat.includes("\n")) return flat;
  return `${open}\n${parts.map((part) => `${inner}${part},\n`).join("")}${"    ".repeat(depth)}${close}`;
}
