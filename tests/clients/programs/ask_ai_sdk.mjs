// What the AI SDK makes of the server's answers, by two of its providers.
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateObject, generateText, streamObject, streamText, tool } from "ai";
import { z } from "zod";

const baseURL = `${process.env.MLXSERVE_URL}/v1`;
const models = {
  compatible: createOpenAICompatible({ name: "mlxserve", baseURL, supportsStructuredOutputs: true, includeUsage: true })(
    "demo",
  ),
  responses: createOpenAI({ baseURL, apiKey: "none" }).responses("demo"),
};
const dish = z.object({ name: z.enum(["soup", "salad", "bread"]), price: z.number().int() });
const time = tool({ description: "The time of a city.", inputSchema: z.object({ city: z.enum(["Paris", "Rome"]) }) });

async function text(asked) {
  const request = { ...asked, prompt: "What is the capital of France?", maxOutputTokens: 20 };
  const whole = await generateText(request);
  const streamed = streamText(request);
  let pieces = "";
  for await (const piece of streamed.textStream) pieces += piece;
  return {
    texts: [whole.text, pieces],
    reasons: [whole.finishReason, await streamed.finishReason],
    tokens: [whole.usage.outputTokens, (await streamed.usage).outputTokens],
  };
}

async function objects(asked) {
  const request = { ...asked, prompt: "A soup, please.", schema: dish, maxOutputTokens: 40 };
  const growing = async () => {
    let last;
    for await (last of streamObject(request).partialObjectStream);
    return last;
  };
  return Promise.all([generateObject(request).then((whole) => whole.object), growing()]);
}

async function calls(asked) {
  const request = {
    ...asked,
    prompt: "What time is it in Rome?",
    tools: { time },
    toolChoice: { type: "tool", toolName: "time" },
    maxOutputTokens: 80,
  };
  const made = await Promise.all([generateText(request).then((whole) => whole.toolCalls), streamText(request).toolCalls]);
  return made.map((all) => all.map((call) => ({ name: call.toolName, input: call.input })));
}

async function all([name, model]) {
  const asked = { model, temperature: 0, maxRetries: 0 };
  return [name, { text: await text(asked), objects: await objects(asked), calls: await calls(asked) }];
}

const told = await Promise.all(Object.entries(models).map(all));
console.log(JSON.stringify(Object.fromEntries(told)));
