// A text in Markdown that grows: blocks that are complete are drawn once, only those after them again.
import { copyButton } from "../copy.js";
import { el } from "../dom.js";
import { blocksOf, rendered } from "./markdown.js";

const CALM = 4; // how many times as long as drawing took is waited until it is done again

export class Text {
  constructor(name) {
    this.element = el(`div.${name}.markdown`);
    this.raws = [];
    this.drawn = null;
    this.next = 0;
  }

  /** Shows `text`. While it grows (`writing`) a drawing that takes long is not repeated at once; then false. */
  show(text, writing = false) {
    if (text === this.drawn) return true;
    const begun = performance.now();
    if (writing && begun < this.next) return false;
    this.draw(text);
    this.drawn = text;
    this.next = performance.now() + CALM * (performance.now() - begun) - 4;
    return true;
  }

  draw(text) {
    let blocks;
    try {
      blocks = blocksOf(text);
    } catch {
      return this.drawPlain(text); // too much for the parser
    }
    // What a link is called can be told anywhere in the text.
    const links = JSON.stringify(blocks.filter((block) => block.type === "def").map((block) => block.raw));
    let same = 0;
    if (links === this.links) while (same < blocks.length && blocks[same].raw === this.raws[same]) same += 1;
    this.links = links;
    this.raws = blocks.map((block) => block.raw);
    while (this.element.children.length > same) this.element.lastElementChild.remove();
    for (const block of blocks.slice(same)) this.element.append(drawnBlock(block));
  }

  drawPlain(text) {
    this.raws = [];
    this.element.replaceChildren(el("pre.plain", {}, text));
  }
}

function drawnBlock(block) {
  const element = el("div.block");
  try {
    element.append(rendered([block]));
  } catch {
    element.append(el("pre.plain", {}, block.raw));
  }
  for (const table of element.querySelectorAll("table")) {
    const scroll = el("div.table", { tabindex: "0", role: "group", "aria-label": "Table" });
    table.replaceWith(scroll);
    scroll.append(table);
  }
  element.querySelectorAll("pre").forEach(frame);
  return element;
}

/** Gives `pre` a head with its language and a button that copies it. */
function frame(pre) {
  const code = pre.querySelector("code") ?? pre;
  const language = /language-([\w+#.-]+)/.exec(code.className)?.[1] ?? "text";
  const copy = copyButton(() => code.textContent.replace(/\n$/, ""), { word: "Copy" });
  const box = el("div.code", {}, el("div.code-head", {}, el("span", {}, language), copy));
  pre.replaceWith(box);
  pre.tabIndex = 0;
  pre.setAttribute("role", "group");
  pre.setAttribute("aria-label", `Code: ${language}`);
  box.append(pre);
}
