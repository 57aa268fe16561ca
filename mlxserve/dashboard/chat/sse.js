// Server-sent events from a response's body.

/** Yields each event of `body`: `{ data }`, or `{ comment }` where it holds nothing else. */
export async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split(/\r?\n\r?\n/);
    rest = blocks.pop();
    for (const block of blocks) yield parsed(block);
  }
}

/** One block of lines. */
export function parsed(block) {
  const lines = block.split(/\r?\n/);
  const after = (prefix) => lines.filter((line) => line.startsWith(prefix)).map((line) => line.slice(prefix.length).replace(/^ /, ""));
  const data = after("data:");
  return data.length ? { data: data.join("\n") } : { comment: after(":").join("\n") };
}
