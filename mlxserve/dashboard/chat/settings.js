// How a conversation is asked: the system prompt, sampling, thinking, tools, a schema.
import { get } from "../api.js";
import { el, say } from "../dom.js";
import { EXAMPLE_SCHEMA, EXAMPLE_TOOLS, parsedSchema, parsedTools } from "./forms.js";

const NUMBERS = [
  { name: "temperature", title: "Temperature", min: 0, max: 2, step: 0.1 },
  { name: "top_p", title: "Top p", min: 0.01, max: 1, step: 0.01 },
  { name: "top_k", title: "Top k", min: 0, step: 1 },
  { name: "max_tokens", title: "Max tokens", min: 1, step: 1 },
  { name: "seed", title: "Seed", step: 1 },
];
const EFFORTS = { "": "Default", none: "Off", low: "Low", medium: "Medium", high: "High" };
const CHOICES = { auto: "If the model wants", required: "Always", none: "Never" };

export class Settings {
  /** `changed()` is called after each change of the conversation's settings. */
  constructor(changed) {
    this.changed = changed;
    this.system = el("textarea", { rows: "4", id: "system-prompt", placeholder: "None", oninput: () => this.take() });
    this.numbers = NUMBERS.map((number) => this.numberField(number));
    this.reasoning = select("reasoning", EFFORTS, () => this.take());
    this.choice = select("tool-choice", CHOICES, () => this.take());
    this.tools = this.form("tools", "Tools", EXAMPLE_TOOLS, parsedTools);
    this.schema = this.form("schema", "JSON schema", EXAMPLE_SCHEMA, parsedSchema);
    this.tools.body.append(field("Called", this.choice));
    this.element = el(
      "aside.settings",
      { "aria-label": "Settings", id: "chat-settings" },
      field("System prompt", this.system),
      el("div.numbers", {}, this.numbers.map(({ element }) => element), field("Thinking", this.reasoning)),
      this.tools.element,
      this.schema.element,
    );
  }

  numberField({ name, title, ...bounds }) {
    const input = el("input", { type: "number", id: `set-${name}`, "data-setting": name, inputmode: "decimal", placeholder: "default", ...bounds, oninput: () => this.take() });
    return { name, input, element: field(title, input) };
  }

  /** A switch, and below it a text area that is read by `parse` while it is on. */
  form(name, title, example, parse) {
    const on = el("input", { type: "checkbox", id: `use-${name}`, onchange: () => this.take() });
    const area = el("textarea.mono", { rows: "8", id: `set-${name}`, spellcheck: "false", "aria-label": title, "aria-describedby": `${name}-error`, oninput: () => this.take() });
    const error = el("p.error", { id: `${name}-error`, "data-error": name });
    const fill = () => {
      area.value = example;
      this.take();
    };
    const body = el("div.form-body", {}, area, error, el("button.small", { type: "button", onclick: fill }, "Insert an example"));
    const element = el("div.form", {}, el("label.tick", {}, on, title), body);
    return { on, area, error, body, parse, element };
  }

  /** Shows how `conversation` is asked. */
  show(conversation) {
    this.conversation = conversation;
    const { settings } = conversation;
    this.system.value = conversation.system;
    for (const { name, input } of this.numbers) input.value = settings[name];
    this.reasoning.value = settings.reasoning;
    this.choice.value = settings.toolChoice;
    Object.assign(this.tools.on, { checked: settings.useTools });
    Object.assign(this.schema.on, { checked: settings.useSchema });
    this.tools.area.value = settings.tools;
    this.schema.area.value = settings.schema;
    this.check();
  }

  /** Takes what the fields say into the conversation. */
  take() {
    const { settings } = this.conversation;
    this.conversation.system = this.system.value;
    for (const { name, input } of this.numbers) settings[name] = input.validity.valid ? input.value : "";
    settings.reasoning = this.reasoning.value;
    settings.toolChoice = this.choice.value;
    settings.useTools = this.tools.on.checked;
    settings.useSchema = this.schema.on.checked;
    settings.tools = this.tools.area.value;
    settings.schema = this.schema.area.value;
    this.check();
    this.changed();
  }

  /** Marks what cannot be sent, and why. */
  check() {
    for (const { input } of this.numbers) input.setAttribute("aria-invalid", !input.validity.valid);
    for (const form of [this.tools, this.schema]) {
      form.body.hidden = !form.on.checked;
      const problem = form.on.checked ? problemOf(form) : "";
      say(form.error, problem);
      form.area.setAttribute("aria-invalid", Boolean(problem));
    }
  }

  /** Writes the server's own defaults into the empty fields. */
  async learnDefaults() {
    try {
      const { params } = (await get("/props")).default_generation_settings;
      const known = { temperature: params.temperature, top_p: params.top_p, top_k: params.top_k || "off", max_tokens: params.n_predict > 0 ? params.n_predict : "all", seed: "random" };
      for (const { name, input } of this.numbers) input.placeholder = String(known[name]);
    } catch {
      // The model is not there yet: the fields say "default".
    }
  }
}

const field = (title, input) => el("label.field", {}, title, input);
const select = (id, options, onchange) => el("select", { id, onchange }, Object.entries(options).map(([value, text]) => el("option", { value }, text)));

function problemOf({ area, parse }) {
  try {
    parse(area.value);
    return "";
  } catch (error) {
    return error.message;
  }
}
