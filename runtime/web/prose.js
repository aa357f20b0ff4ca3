/** Shows an answer: the part of its Markdown that the gateway has parsed, and then the rest as plain text. */
import { build, childrenOf } from "./tree.js";

/** Elements that the rest of a text is appended to. */
const CONTAINERS = new Set(["UL", "OL", "LI", "BLOCKQUOTE", "P", "H3", "H4", "H5", "H6", "PRE", "DIV"]);

export class ProseView {
  #markdown;
  #text = "";
  /** The text that the elements were built from. */
  #parsed = "";
  /** The shown blocks, as JSON. @type {string[]} */ #blocks = [];
  #rest = document.createElement("span");
  root = document.createElement("div");

  /** @param {{markdown: import("./markdown.js").Markdown}} options */
  constructor({ markdown }) {
    this.#markdown = markdown;
    this.root.className = "answer";
  }

  /** @param {{text: string}} step @param {boolean} isComplete whether the text no longer grows */
  update({ text }, isComplete) {
    if (text === this.#text && !(isComplete && text !== this.#parsed)) return;
    this.#text = text;
    if (!text.startsWith(this.#parsed)) this.#draw("", []);
    const tree = this.#markdown.known(text);
    if (tree !== null) this.show(text, tree);
    else this.#drawRest();
    this.#markdown.want(this, text, isComplete);
  }

  isShown() {
    return this.root.isConnected;
  }

  /** Shows a tree, unless the tree of a longer text is already shown. */
  show(text, tree) {
    if (!this.#text.startsWith(text) || text.length < this.#parsed.length) return;
    this.#draw(text, childrenOf(tree));
    this.#drawRest();
  }

  /** Rebuilds only the blocks from the first changed one on, so that a selection before it survives. */
  #draw(text, trees) {
    const blocks = trees.map((tree) => JSON.stringify(tree));
    let kept = 0;
    while (kept < blocks.length && blocks[kept] === this.#blocks[kept]) kept++;
    this.#rest.remove();
    const focused = this.#focused();
    while (this.root.childNodes.length > kept) this.root.lastChild.remove();
    for (const tree of trees.slice(kept)) this.root.append(...asOne(build(tree)));
    this.#parsed = text;
    this.#blocks = blocks;
    if (focused >= 0) this.#focusable()[focused]?.focus({ preventScroll: true });
  }

  #drawRest() {
    // Elements have no trailing white space. The rest has none either, so that text does not shrink when it is parsed.
    const parsed = this.#parsed.trimEnd();
    const rest = this.#text.slice(parsed.length).trimEnd();
    this.#rest.remove();
    this.#rest.textContent = rest;
    if (rest === "") return;
    let place = this.root;
    while (CONTAINERS.has(place.lastElementChild?.tagName) && !place.lastElementChild.classList.contains("scrolled")) {
      place = place.lastElementChild;
    }
    if (place.tagName === "PRE") place = place.lastElementChild;
    place.append(this.#rest);
  }

  #focusable() {
    return [...this.root.querySelectorAll("a, button, [tabindex]")];
  }

  /** The index of the focused element among the focusable ones, or -1. */
  #focused() {
    return this.root.contains(document.activeElement) ? this.#focusable().indexOf(document.activeElement) : -1;
  }
}

/** One node for each block, so that the second block is the second node. */
function asOne(nodes) {
  if (nodes.length === 1) return nodes;
  const box = document.createElement("div");
  box.append(...nodes);
  return [box];
}
