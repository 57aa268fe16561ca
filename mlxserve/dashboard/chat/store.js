// Conversations, kept in this browser alone.
import { keep, keepValue, keptValue } from "../storage.js";
import { SETTINGS, titleOf } from "./conversation.js";

const INDEX = "chats";
const nameOf = (id) => `chat.${id}`;

/** What is kept, the latest first: `{ id, title, updated }`. */
export const list = () => keptValue(INDEX, []).toSorted((one, other) => other.updated - one.updated);

/** The conversation, or null. An answer that was cut off by the page's end is marked so. */
export function load(id) {
  const conversation = keptValue(nameOf(id));
  if (!conversation) return null;
  conversation.settings = { ...SETTINGS, ...conversation.settings };
  for (const message of conversation.messages) {
    if (message.writing) Object.assign(message, { writing: false, finish: "interrupted" });
  }
  return conversation;
}

/** Keeps it; says whether there was room. */
export function save(conversation) {
  conversation.updated = Date.now();
  const entry = { id: conversation.id, title: titleOf(conversation), updated: conversation.updated };
  const others = keptValue(INDEX, []).filter(({ id }) => id !== conversation.id);
  return keepValue(nameOf(conversation.id), conversation) && keepValue(INDEX, [entry, ...others]);
}

/** Forgets it. */
export function remove(id) {
  keep(nameOf(id), null);
  keepValue(INDEX, keptValue(INDEX, []).filter((entry) => entry.id !== id));
}

/** How the latest conversation was asked, for the next new one. */
export const lastSettings = () => keptValue("chat-settings", {});
export const keepSettings = (settings) => keepValue("chat-settings", settings);
