// The section where one talks with the model.
import { byId, el, say } from "../dom.js";
import { count } from "../format.js";
import { icon } from "../icons.js";
import { model } from "../server.js";
import { toast } from "../toast.js";
import { newAnswer, stream } from "./answer.js";
import { Code } from "./code.js";
import { Composer } from "./composer.js";
import { isEmpty, newConversation, openCalls, titleOf } from "./conversation.js";
import { saveJson, saveMarkdown } from "./export.js";
import { List } from "./list.js";
import { menu } from "./menu.js";
import { bodyOf } from "./request.js";
import { Settings } from "./settings.js";
import * as store from "./store.js";
import { Transcript } from "./transcript.js";

const SAVE = 2000; // milliseconds between two savings of an answer that grows

class Chat {
  constructor() {
    /** The conversations in which an answer is being written, and how each is stopped. */
    this.writing = new Map();
    this.list = new List({ rename: (id, title) => this.rename(id, title), remove: (id) => this.remove(id) });
    this.settings = new Settings(() => this.settled());
    this.transcript = new Transcript({ edit: (message, text) => this.edit(message, text), again: (message) => this.again(message), results: (results) => this.results(results) });
    this.composer = new Composer((text) => this.send(text), () => this.stop());
    this.code = new Code();
    this.title = el("h2", { id: "chat-title" });
    this.news = el("p.unseen", { role: "status", id: "chat-news" });
    byId("view-chat").append(this.list.element, this.talk(), this.settings.element);
    addEventListener("storage", () => this.showList());
  }

  talk() {
    const tools = [
      el("button.icon-button", { type: "button", "aria-label": "The request as code", title: "The request as code", id: "show-code", onclick: () => this.code.open(this.conversation, this.composer.area.value) }, icon("code")),
      menu("Export", "export", [["As JSON", () => saveJson(this.conversation)], ["As Markdown", () => saveMarkdown(this.conversation)]]),
      this.drawer("settings", "Settings", "settings", matchMedia("(min-width: 80rem)").matches),
    ];
    const head = el("div.talk-head", {}, this.drawer("list", "Conversations", "list", matchMedia("(min-width: 56rem)").matches), this.title, ...tools);
    return el("div.talk", {}, head, this.transcript.element, this.composer.element, this.news);
  }

  /** A button that shows and hides a side of the section. */
  drawer(name, title, drawing, open) {
    const view = byId("view-chat");
    const show = (shown) => {
      view.dataset[name] = shown;
      button.setAttribute("aria-expanded", shown);
    };
    const button = el("button.icon-button", { type: "button", "aria-label": title, title, "aria-controls": `chat-${name}`, "data-drawer": name, onclick: () => show(view.dataset[name] !== "true") }, icon(drawing));
    show(open);
    return button;
  }

  /** `rest` is what follows #chat/: a conversation's id, "new", or nothing. */
  arrive(rest) {
    const id = rest || this.conversation?.id || store.list()[0]?.id;
    if (rest === "new" || !this.open(id)) this.open(null);
    if (!this.learned) this.settings.learnDefaults().then(() => (this.learned = true));
  }

  /** Opens a conversation, a new one for null; says whether there is such a one. */
  open(id) {
    if (id && id === this.conversation?.id) {
      this.show();
      return true;
    }
    const found = id ? (this.writing.get(id)?.conversation ?? store.load(id)) : newConversation(store.lastSettings());
    if (!found) return false;
    this.conversation = found;
    this.settings.show(found);
    this.transcript.pin();
    if (matchMedia("(max-width: 56rem)").matches && byId("view-chat").dataset.list === "true") document.querySelector('[data-drawer="list"]').click();
    this.show();
    if (!id) this.composer.area.focus({ preventScroll: true });
    return true;
  }

  get busy() {
    return this.writing.has(this.conversation.id);
  }

  show() {
    say(this.title, titleOf(this.conversation));
    this.transcript.show(this.conversation, this.busy);
    this.composer.show(this.busy, model());
    this.showList();
  }

  showList() {
    this.list.show(store.list(), this.conversation?.id, this.writing);
  }

  settled() {
    store.keepSettings(this.conversation.settings);
    if (!isEmpty(this.conversation)) this.save(this.conversation);
  }

  save(conversation) {
    if (!store.save(conversation)) toast("This browser has no room left for conversations: delete some, or export this one.");
  }

  send(text) {
    for (const call of openCalls(this.conversation)) this.conversation.messages.push({ role: "tool", tool_call_id: call.id, content: "" });
    this.ask({ role: "user", content: text });
  }

  edit(message, text) {
    this.cutAt(message);
    this.ask({ role: "user", content: text });
  }

  again(message) {
    this.cutAt(message);
    this.ask();
  }

  results(results) {
    this.ask(...results.map(({ id, content }) => ({ role: "tool", tool_call_id: id, content })));
  }

  cutAt(message) {
    const { messages } = this.conversation;
    messages.length = messages.indexOf(message);
  }

  stop() {
    this.writing.get(this.conversation.id)?.controller.abort();
  }

  /** Adds `messages`, and streams the answer to all. */
  async ask(...messages) {
    const { conversation } = this;
    if (this.busy) return;
    conversation.messages.push(...messages);
    let body;
    try {
      body = { ...bodyOf(conversation, model()), return_progress: true };
    } catch (error) {
      this.save(conversation);
      this.show();
      return toast(error.message);
    }
    await this.answer(conversation, body);
  }

  async answer(conversation, body) {
    const controller = new AbortController();
    const message = newAnswer(conversation.settings.useSchema ? "json" : "");
    conversation.messages.push(message);
    this.writing.set(conversation.id, { conversation, controller });
    this.save(conversation);
    if (this.conversation === conversation) history.replaceState(null, "", `#chat/${conversation.id}`);
    this.transcript.pin();
    this.show();
    this.tell("The answer is being written.");
    await stream(body, message, controller.signal, this.saver(conversation));
    this.writing.delete(conversation.id);
    this.save(conversation);
    this.show();
    this.tell(message.error ?? `The answer is complete: ${count(message.stats.tokens)} tokens.`);
  }

  /** What is done after each piece of an answer: it is seen in the next frame, and kept every now and then. */
  saver(conversation) {
    let saved = performance.now();
    return () => {
      if (this.conversation === conversation) this.transcript.show(conversation, true);
      if (performance.now() - saved < SAVE || !this.writing.has(conversation.id)) return;
      saved = performance.now();
      store.save(conversation);
    };
  }

  tell(news) {
    say(this.news, news);
  }

  rename(id, title) {
    const conversation = id === this.conversation.id ? this.conversation : (this.writing.get(id)?.conversation ?? store.load(id));
    if (!conversation) return;
    conversation.title = title;
    this.save(conversation);
    this.show();
  }

  remove(id) {
    this.writing.get(id)?.controller.abort();
    this.writing.delete(id);
    const gone = id === this.conversation.id ? this.conversation : store.load(id);
    store.remove(id);
    if (id === this.conversation.id) {
      this.conversation = null;
      history.replaceState(null, "", "#chat/new");
      this.open(null);
    }
    this.showList();
    const back = () => {
      this.save(gone);
      location.hash = `#chat/${id}`;
      this.showList();
    };
    if (gone) toast(`Deleted “${titleOf(gone)}”.`, ["Undo", back]);
  }
}

/** Builds the section. */
export function startChat() {
  const chat = new Chat();
  return { arrive: (rest) => chat.arrive(rest), show: () => chat.composer.show(chat.busy, model()) };
}
