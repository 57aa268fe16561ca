// What OpenAI's official client for Node makes of the server's answers.
import OpenAI from "openai";

const client = new OpenAI({ baseURL: `${process.env.MLXSERVE_URL}/v1`, apiKey: "none", maxRetries: 0 });
const likeliest = { model: "demo", temperature: 0 };
const france = "What is the capital of France?";
const city = {
  type: "object",
  properties: { city: { enum: ["Paris", "Rome"] } },
  required: ["city"],
  additionalProperties: false,
};

async function chat() {
  const asked = { ...likeliest, messages: [{ role: "user", content: france }], max_tokens: 20 };
  const whole = await client.chat.completions.create(asked);
  const runner = client.chat.completions.stream({ ...asked, stream_options: { include_usage: true } });
  let pieces = "";
  runner.on("content", (piece) => (pieces += piece));
  const streamed = await runner.finalChatCompletion();
  return {
    whole: whole.choices[0].message.content,
    streamed: streamed.choices[0].message.content,
    pieces,
    tokens: [whole.usage.completion_tokens, streamed.usage.completion_tokens],
  };
}

async function tools() {
  const asked = {
    ...likeliest,
    messages: [{ role: "user", content: "What time is it in Rome?" }],
    max_tokens: 40,
    tools: [{ type: "function", function: { name: "time", strict: true, parameters: city } }],
    tool_choice: "required",
    parallel_tool_calls: false,
  };
  const whole = await client.chat.completions.create(asked);
  const streamed = await client.chat.completions.stream(asked).finalChatCompletion();
  return [whole, streamed].map((answer) =>
    answer.choices[0].message.tool_calls.map(({ function: { name, arguments: given } }) => ({ name, arguments: given })),
  );
}

async function responses() {
  const asked = { ...likeliest, input: france, max_output_tokens: 20 };
  const whole = await client.responses.create(asked);
  const streamed = await client.responses.stream(asked).finalResponse();
  const next = await client.responses.create({
    ...likeliest,
    previous_response_id: whole.id,
    input: "And of Italy?",
    max_output_tokens: 4,
  });
  return { whole: whole.output_text, streamed: streamed.output_text, next: next.output_text };
}

async function refusal() {
  try {
    await client.chat.completions.create({ model: "demo", messages: [] });
  } catch (error) {
    return { kind: error.constructor.name, status: error.status, type: error.type };
  }
}

const [chats, calls, responded, refused] = await Promise.all([chat(), tools(), responses(), refusal()]);
console.log(JSON.stringify({ chat: chats, tools: calls, responses: responded, refusal: refused }));
