// A conversation: its messages, and how it is asked. No part of the page is in here.

const TITLE = 60;

export const SETTINGS = {
  temperature: "", top_p: "", top_k: "", max_tokens: "", seed: "",
  reasoning: "", useTools: false, tools: "", toolChoice: "auto", useSchema: false, schema: "",
};

/** An empty one, asked as `settings` and `system` say. */
export function newConversation(settings = {}, system = "") {
  const now = Date.now();
  const id = now.toString(36) + Math.random().toString(36).slice(2, 8);
  return { id, title: "", created: now, updated: now, system, settings: { ...SETTINGS, ...settings }, messages: [] };
}

/** Its title: the one it was given, or how it begins. */
export function titleOf(conversation) {
  if (conversation.title) return conversation.title;
  const first = conversation.messages.find((message) => message.role === "user")?.content ?? "";
  const line = first.trim().replace(/\s+/g, " ");
  return line.length > TITLE ? `${line.slice(0, TITLE - 1)}…` : line || "New chat";
}

/** Whether there is nothing in it that would be lost. */
export const isEmpty = (conversation) => !conversation.messages.length && !conversation.title;

/** The messages as the API takes them; answers that failed before a word are left out. */
export function wireMessages(conversation) {
  const system = conversation.system.trim() ? [{ role: "system", content: conversation.system }] : [];
  return [...system, ...conversation.messages.filter(isSaid).map(wire)];
}

const isSaid = ({ role, content, tool_calls: calls }) => role !== "assistant" || Boolean(content) || Boolean(calls?.length);

function wire({ role, content, tool_calls: calls, tool_call_id: call }) {
  if (role === "tool") return { role, tool_call_id: call, content };
  if (calls?.length) return { role, content: content || null, tool_calls: calls };
  return { role, content };
}

/** The calls of the last answer that have no result yet. */
export function openCalls(conversation) {
  const index = conversation.messages.findLastIndex((message) => message.role === "assistant");
  const calls = conversation.messages[index]?.tool_calls ?? [];
  const later = conversation.messages.slice(index + 1);
  return calls.filter((call) => !later.some((message) => message.tool_call_id === call.id));
}
