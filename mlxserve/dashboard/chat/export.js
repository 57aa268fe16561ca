// A conversation as a file.
import { el } from "../dom.js";
import { titleOf } from "./conversation.js";

const NAMES = { user: "You", assistant: "Answer", tool: "Tool's result" };

/** Saves it as JSON. */
export const saveJson = (conversation) => save(conversation, "json", JSON.stringify(conversation, null, 2));

/** Saves it as Markdown. */
export const saveMarkdown = (conversation) => save(conversation, "md", asMarkdown(conversation));

/** The conversation as a person would write it down. */
export function asMarkdown(conversation) {
  const system = conversation.system ? [`## System\n\n${conversation.system}`] : [];
  const parts = conversation.messages.map((message) => `## ${NAMES[message.role]}\n\n${[message.content, ...callsOf(message)].filter(Boolean).join("\n\n")}`);
  return `${[`# ${titleOf(conversation)}`, ...system, ...parts].join("\n\n")}\n`;
}

const callsOf = (message) => (message.tool_calls ?? []).map((call) => `\`\`\`json\n${JSON.stringify(call.function, null, 2)}\n\`\`\``);

function save(conversation, ending, text) {
  const url = URL.createObjectURL(new Blob([text], { type: ending === "json" ? "application/json" : "text/markdown" }));
  const name = titleOf(conversation).replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-|-$/g, "").slice(0, 50);
  el("a", { href: url, download: `${name || "chat"}.${ending}` }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}
