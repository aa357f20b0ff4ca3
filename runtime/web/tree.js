/**
 * Builds elements from a tree in JsonML, which the gateway makes from Markdown (`markdown.js`). This file lists the
 * allowed elements and attributes. Of any other element only the text is kept, and text becomes only text nodes.
 */
import { copy } from "./clipboard.js";
import { highlight } from "./highlight.js";
import { formula, isMath, part } from "./math.js";

/** Elements that are built with their own name and without attributes. */
const PLAIN = new Set([
  "p", "blockquote", "ul", "li", "em", "strong", "del", "hr", "br", "code", "h3", "h4", "h5", "h6", "thead", "tbody", "tr",
]);

/** The deepest nesting that is built: the gateway nests 48 elements, and as many again in a formula. */
const MAX_DEPTH = 112;

const ALIGNMENTS = new Set(["left", "center", "right"]);

const ALERTS = { note: "Note", tip: "Tip", important: "Important", warning: "Warning", caution: "Caution" };

/** @param {string} name @param {Record<string, any>} [properties] @param {...(Node|string)} children */
function element(name, properties = {}, ...children) {
  const node = Object.assign(document.createElement(name), properties);
  node.append(...children);
  return node;
}

/**
 * The children of an element in JsonML.
 * @param {any} tree
 * @returns {any[]}
 */
export function childrenOf(tree) {
  if (!Array.isArray(tree)) return [];
  return tree.slice(hasAttributes(tree) ? 2 : 1);
}

const hasAttributes = ([, second]) => typeof second === "object" && second !== null && !Array.isArray(second);

/**
 * @param {any} tree a text or an element
 * @param {number} [depth]
 * @returns {(Node|string)[]} one node, or the children of an element that is left out
 */
export function build(tree, depth = 0) {
  if (typeof tree === "string") return [tree];
  if (!Array.isArray(tree) || depth > MAX_DEPTH) return [];
  const [name] = tree;
  const attributes = hasAttributes(tree) ? tree[1] : {};
  const children = childrenOf(tree).flatMap((child) => build(child, depth + 1));
  if (PLAIN.has(name)) return [element(name, {}, ...children)];
  if (isMath(name)) return [part(name, attributes, children)];
  return SPECIAL.get(name)?.(attributes, children, tree) ?? children;
}

/** @type {Map<string, (attributes: Record<string, string>, children: (Node|string)[], tree: any) => (Node|string)[]>} */
const SPECIAL = new Map([
  ["a", link],
  ["ol", ({ start }, children) => [element("ol", { start: Math.min(Number.parseInt(start, 10) || 0, 999_999_999) }, ...children)]],
  ["pre", code],
  ["table", (_, children) => [scrolled(element("table", {}, ...children))]],
  ["th", (attributes, children) => [cell(children.length > 0 ? "th" : "td", attributes, children)]],
  ["td", (attributes, children) => [cell("td", attributes, children)]],
  ["task", ({ done }) => [task(done === "true")]],
  ["noteref", ({ number }) => [reference(number)]],
  ["note", ({ number }, children) => [note(number, children)]],
  ["math", (attributes, children) => [formula(attributes, children)]],
  ["alert", ({ kind }, children) => [alert(kind, children)]],
]);

/** @returns {(Node|string)[]} the link, or its text if its scheme is not `http`, `https` or `mailto` */
function link({ href }, children) {
  let url;
  try {
    url = new URL(href);
  } catch {
    return children;
  }
  if (!["http:", "https:", "mailto:"].includes(url.protocol)) return children;
  return [element("a", { href: url.href, rel: "noopener noreferrer", target: "_blank" }, ...children)];
}

/** Code with its language and a copy button. Wide code scrolls, also with the keyboard. */
function code({ language = "" }, children) {
  const inner = element("code", {}, ...children.flatMap((child) => (typeof child === "string" ? colored(child, language) : [child])));
  const button = element("button", { type: "button", className: "copy" }, "Copy");
  button.setAttribute("aria-label", "Copy code");
  button.addEventListener("click", () => copy(inner.textContent, button));
  const pre = element("pre", { tabIndex: 0 }, inner);
  pre.setAttribute("role", "group");
  pre.setAttribute("aria-label", language === "" ? "Code" : `Code, ${language}`);
  return [element("div", { className: "code" }, element("header", {}, element("span", {}, language), button), pre)];
}

/** Code with coloured comments, strings, numbers and keywords. */
function colored(code, language) {
  return highlight(code, language).map(([kind, text]) => (kind === null ? text : element("span", { className: `code-${kind}` }, text)));
}

/** A table in a scrollable box. */
function scrolled(table) {
  for (const cell of table.querySelectorAll("th")) cell.scope = "col";
  const box = element("div", { className: "scrolled", tabIndex: 0 }, table);
  box.setAttribute("role", "group");
  box.setAttribute("aria-label", "Table");
  return box;
}

function cell(name, { align }, children) {
  return element(name, { className: ALIGNMENTS.has(align) ? `align-${align}` : "" }, ...children);
}

function task(isDone) {
  const box = element("input", { type: "checkbox", checked: isDone, disabled: true });
  box.setAttribute("aria-label", isDone ? "Done" : "Not done");
  return box;
}

/** A button that moves focus to the footnote. It is no link, because the address's fragment names the conversation. */
function reference(number) {
  const button = element("button", { type: "button", className: "noteref" }, String(number));
  button.setAttribute("aria-label", `Footnote ${number}`);
  button.dataset.noteref = number;
  button.addEventListener("click", () => goTo(button, `[data-note="${CSS.escape(number)}"]`));
  return element("sup", {}, button);
}

function note(number, children) {
  const back = element("button", { type: "button", className: "noteref" }, "↩");
  back.setAttribute("aria-label", `Back to the text, from footnote ${number}`);
  back.addEventListener("click", () => goTo(back, `[data-noteref="${CSS.escape(number)}"]`));
  const root = element("div", { className: "note", tabIndex: -1 }, element("span", {}, `${number}.`),
    element("div", {}, ...children), back);
  root.dataset.note = number;
  return root;
}

function goTo(from, selector) {
  const target = from.closest(".answer")?.querySelector(selector);
  target?.scrollIntoView({ block: "nearest" });
  target?.focus({ preventScroll: true });
}

function alert(kind, children) {
  const title = ALERTS[kind] ?? "Note";
  return element("blockquote", { className: "alert" }, element("p", {}, element("strong", {}, title)), ...children);
}
