// What went wrong, in words that say what to do.

const SENTENCES = {
  0: "The server does not answer. It may be starting again: try once more in a moment.",
  401: "The server asks for a key, and does not know the one that was sent.",
  413: "This conversation is too large to be sent.",
};

/** A sentence for `error`; `begun` if a part of the answer had come. */
export function inWords(error, begun) {
  if (error.status === 429) return `The server is busy. ${error.message}`;
  if (error.status === 503) return `The model cannot answer now. ${error.message}`;
  if (error.status in SENTENCES) return SENTENCES[error.status];
  if (error.status) return error.message;
  if (error instanceof TypeError) return begun ? "The connection broke off in the middle of the answer." : "The connection broke off before an answer came.";
  if (error instanceof SyntaxError) return "The server's answer cannot be read.";
  return error.message;
}
