// Tools and schemas as people type them: read, or refused with a sentence.

export const EXAMPLE_TOOLS = `[
  {
    "type": "function",
    "function": {
      "name": "get_weather",
      "description": "The weather at a place now",
      "parameters": {
        "type": "object",
        "properties": { "city": { "type": "string" } },
        "required": ["city"]
      }
    }
  }
]`;
export const EXAMPLE_SCHEMA = `{
  "type": "object",
  "properties": {
    "name": { "type": "string" },
    "population": { "type": "integer" }
  },
  "required": ["name", "population"],
  "additionalProperties": false
}`;

/** A list of tools in OpenAI's form. Raises Error. */
export function parsedTools(text) {
  const tools = read(text, "The tools");
  if (!Array.isArray(tools) || !tools.length) throw new Error("The tools must be a JSON array with at least one tool.");
  tools.forEach((tool, index) => {
    const name = tool?.function?.name;
    if (tool?.type !== "function") throw new Error(`Tool ${index + 1} must have "type": "function".`);
    if (typeof name !== "string" || !/^[\w.-]{1,64}$/.test(name)) throw new Error(`Tool ${index + 1} needs a "function" with a "name" of letters, digits, _ and -.`);
  });
  return tools;
}

/** A JSON schema. Raises Error. */
export function parsedSchema(text) {
  const schema = read(text, "The schema");
  if (schema === null || typeof schema !== "object" || Array.isArray(schema)) throw new Error("The schema must be a JSON object.");
  return schema;
}

function read(text, what) {
  if (!text.trim()) throw new Error(`${what} is empty.`.replace("tools is", "tools are"));
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new Error(`${what} cannot be read as JSON: ${error.message}.`);
  }
}

/** `text`, indented if it is JSON. */
export function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}
