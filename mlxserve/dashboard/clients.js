// What to paste where, client by client. `{BASE}` stands for the API's address, `{ORIGIN}` for the server's,
// `{MODEL}` for the model's name and `{KEY}` for the key. Parts between `{KEYED:` and `}` only matter where keys are on.

export const CLIENTS = [
  {
    id: "curl",
    name: "curl",
    steps: [
      {
        where: "In a terminal",
        text: `curl {BASE}/chat/completions \\
  -H 'Content-Type: application/json' \\
{KEYED:  -H 'Authorization: Bearer {KEY}' \\
}  -d '{"model": "{MODEL}", "messages": [{"role": "user", "content": "What is the capital of France?"}]}'`,
      },
    ],
  },
  {
    id: "openai-python",
    name: "OpenAI SDK, Python",
    steps: [
      { where: "In a terminal", text: "pip install openai" },
      {
        where: "In Python",
        text: `from openai import OpenAI

client = OpenAI(base_url="{BASE}", api_key="{KEY}")
stream = client.chat.completions.create(
    model="{MODEL}",
    messages=[{"role": "user", "content": "What is the capital of France?"}],
    stream=True,
)
for chunk in stream:
    if chunk.choices:
        print(chunk.choices[0].delta.content or "", end="", flush=True)`,
      },
    ],
  },
  {
    id: "openai-node",
    name: "OpenAI SDK, Node",
    steps: [
      { where: "In a terminal", text: "npm install openai" },
      {
        where: "In a module (.mjs)",
        text: `import OpenAI from "openai";

const client = new OpenAI({ baseURL: "{BASE}", apiKey: "{KEY}" });
const stream = await client.chat.completions.create({
  model: "{MODEL}",
  messages: [{ role: "user", content: "What is the capital of France?" }],
  stream: true,
});
for await (const chunk of stream) {
  process.stdout.write(chunk.choices[0]?.delta?.content ?? "");
}`,
      },
    ],
  },
  {
    id: "open-webui",
    name: "Open WebUI",
    steps: [
      { where: "Admin Panel → Settings → Connections → OpenAI API → +: the URL", text: "{BASE}" },
      { where: "The key, in the field below it", text: "{KEY}" },
      { where: "Or in the environment it is started with", text: `OPENAI_API_BASE_URL={BASE}\nOPENAI_API_KEY={KEY}` },
    ],
    note: "In a container localhost is the container itself: with Docker write host.docker.internal in its place, and start mlxserve with --host 0.0.0.0 and a key, or with --allowed-host host.docker.internal.",
  },
  {
    id: "continue",
    name: "Continue",
    steps: [
      {
        where: "In ~/.continue/config.yaml",
        text: `name: mlxserve
version: 1.0.0
schema: v1
models:
  - name: mlxserve
    provider: openai
    model: {MODEL}
    apiBase: {BASE}
    apiKey: {KEY}
    roles: [chat, edit, apply]`,
      },
    ],
  },
  {
    id: "cursor",
    name: "Cursor",
    steps: [
      { where: "Settings → Models → API Keys → OpenAI API Key", text: "{KEY}" },
      { where: "Below it: Override OpenAI Base URL", text: "{BASE}" },
      { where: "Models → Add Custom Model", text: "{MODEL}" },
    ],
    note: "Cursor asks from its makers' servers, not from your machine: they must reach this server, by HTTPS (--ssl-certfile, or a tunnel whose name --allowed-host gives). Use a key.",
  },
  {
    id: "claude-code",
    name: "Claude Code",
    steps: [
      {
        where: "In a terminal",
        text: `ANTHROPIC_BASE_URL={ORIGIN} \\
ANTHROPIC_AUTH_TOKEN={KEY} \\
ANTHROPIC_MODEL={MODEL} \\
ANTHROPIC_DEFAULT_HAIKU_MODEL={MODEL} \\
claude`,
      },
    ],
    note: "Its own prompt takes tens of thousands of tokens: serve a model with a long context. Tools that run at Anthropic are not there.",
  },
  {
    id: "codex",
    name: "Codex CLI",
    steps: [
      {
        where: "In ~/.codex/config.toml",
        text: `model = "{MODEL}"
model_provider = "mlxserve"

[model_providers.mlxserve]
name = "mlxserve"
base_url = "{BASE}"
wire_api = "responses"
{KEYED:env_key = "MLXSERVE_API_KEY"
}`,
      },
      { where: "In the terminal it is started from", text: "export MLXSERVE_API_KEY={KEY}", keyed: true },
    ],
  },
  {
    id: "langchain",
    name: "LangChain",
    steps: [
      { where: "In a terminal", text: "pip install langchain-openai" },
      {
        where: "In Python",
        text: `from langchain_openai import ChatOpenAI

model = ChatOpenAI(base_url="{BASE}", api_key="{KEY}", model="{MODEL}")
print(model.invoke("What is the capital of France?").content)`,
      },
    ],
  },
  {
    id: "llm",
    name: "llm",
    steps: [
      {
        where: 'In extra-openai-models.yaml, in the folder that  dirname "$(llm logs path)"  prints',
        text: `- model_id: mlxserve
  model_name: {MODEL}
  api_base: {BASE}
{KEYED:  api_key_name: mlxserve
}`,
      },
      { where: "In a terminal, once", text: "llm keys set mlxserve --value {KEY}", keyed: true },
      { where: "In a terminal", text: "llm -m mlxserve 'What is the capital of France?'" },
    ],
  },
];

/** `text` with this server's values in it. */
export function filled(text, { base, origin, model, key, keyed }) {
  return text
    .replace(/\{KEYED:([\s\S]*?\n)\}/g, keyed ? "$1" : "")
    .replaceAll("{BASE}", () => base)
    .replaceAll("{ORIGIN}", () => origin)
    .replaceAll("{MODEL}", () => model)
    .replaceAll("{KEY}", () => key)
    .trimEnd();
}
