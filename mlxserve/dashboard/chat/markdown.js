// Markdown as models write it, made safe: no scripts, no styles, no images, and links to the web and mail alone.
// HTML in it is shown as the text it is, but for a few tags that only mark text.
import { Marked } from "../vendor/marked/marked.esm.js";

const PLAIN_TAG = /^<\/?(?:br|sub|sup|kbd|b|i|u|em|strong|del)\s*\/?>$/i;
const SAFE = {
  ALLOWED_TAGS: [
    ..."p br hr h1 h2 h3 h4 h5 h6 ul ol li blockquote pre code em strong del a".split(" "),
    ..."table thead tbody tr th td sub sup kbd b i u".split(" "),
  ],
  ALLOWED_ATTR: ["href", "title", "class", "start", "align"],
  ALLOWED_URI_REGEXP: /^(?:https?:\/\/|mailto:)/i,
  ALLOW_DATA_ATTR: false,
  ALLOW_ARIA_ATTR: false,
  RETURN_DOM_FRAGMENT: true,
};

const escaped = (text) => text.replace(/[&<>"']/g, (sign) => `&#${sign.charCodeAt(0)};`);

const marked = new Marked({
  gfm: true,
  breaks: true,
  renderer: {
    html: ({ text }) => (PLAIN_TAG.test(text.trim()) ? text : escaped(text)),
    image: ({ href, text }) => `<a href="${escaped(href)}">${escaped(text || href)}</a>`,
    checkbox: ({ checked }) => (checked ? "☑ " : "☐ "),
  },
});

/** The blocks of `text`, each `{ raw, … }`. Raises where it is nested too deeply, or tangled. */
export function blocksOf(text) {
  if (isTangled(text)) throw new RangeError("tangled");
  return marked.lexer(text).filter((block) => block.type !== "space");
}

/** Whether a paragraph has so many signs of emphasis that reading it would take seconds, as their square. */
function isTangled(text) {
  const words = text.replace(/^(`{3,}|~{3,})[\s\S]*?(?:^\1|$(?![\s\S]))/gm, "");
  return words.split(/\n\s*\n/).some((part) => (part.match(/[*_]+/g)?.length ?? 0) > 2000);
}

/** A fragment of the page that shows `blocks`. */
export function rendered(blocks) {
  const fragment = DOMPurify.sanitize(marked.parser(blocks), SAFE);
  for (const link of fragment.querySelectorAll("a")) secure(link);
  return fragment;
}

function secure(link) {
  if (!link.hasAttribute("href")) return link.replaceWith(...link.childNodes);
  link.rel = "noopener noreferrer";
  link.target = "_blank";
}
