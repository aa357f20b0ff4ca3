/**
 * Builds the formulas of a tree (`tree.js`) as MathML, which browsers render natively. This file lists the allowed
 * elements, attributes and classes; of anything else only the text is kept.
 */

const NAMESPACE = "http://www.w3.org/1998/Math/MathML";

/** The fewest arguments that an element needs for a browser to render it. @type {Map<string, number>} */
const ELEMENTS = new Map([
  ["semantics", 1], ["annotation", 0],
  ["mrow", 0], ["mi", 0], ["mn", 0], ["mo", 0], ["mtext", 0], ["mspace", 0], ["mpadded", 0], ["mphantom", 0], ["msqrt", 0],
  ["mfrac", 2], ["mroot", 2], ["msub", 2], ["msup", 2], ["munder", 2], ["mover", 2], ["msubsup", 3], ["munderover", 3],
  ["mmultiscripts", 1], ["mprescripts", 0], ["mtable", 0], ["mtr", 0], ["mtd", 0],
]);

/** Whether an element is MathML. */
export const isMath = (name) => ELEMENTS.has(name);

const ATTRIBUTES = new Set([
  "accent", "accentunder", "depth", "displaystyle", "form", "height", "largeop", "linethickness", "lspace", "mathvariant",
  "maxsize", "minsize", "movablelimits", "rspace", "scriptlevel", "stretchy", "symmetric", "width",
]);

/** A length, a number or a word. */
const VALUE = /^[A-Za-z0-9.-]{1,24}$/;

const CLASSES = new Set(["left", "right", "line-left", "line-right", "line-top", "line-bottom", "wide", "half", "struck"]);

/** An inline formula whose source has more characters than this may be wider than a phone. */
const LONG = 28;

/**
 * @param {string} name a name for which `isMath` is true
 * @param {Record<string, any>} attributes
 * @param {(Node|string)[]} children
 */
export function part(name, attributes, children) {
  const node = document.createElementNS(NAMESPACE, name);
  for (const [key, value] of Object.entries(attributes)) {
    if (ATTRIBUTES.has(key) && VALUE.test(value)) node.setAttribute(key, value);
  }
  const classes = String(attributes.class ?? "").split(" ").filter((name) => CLASSES.has(name));
  if (classes.length > 0) node.setAttribute("class", classes.map((name) => `math-${name}`).join(" "));
  if (name === "annotation") node.setAttribute("encoding", "application/x-tex");
  const isWhole = children.filter((child) => typeof child !== "string").length >= ELEMENTS.get(name);
  if (!isWhole) return part("mrow", {}, children);
  node.append(...children);
  return node;
}

/** A formula. One that may be wide is in a box that scrolls, also with the keyboard. */
export function formula({ display }, children) {
  const math = document.createElementNS(NAMESPACE, "math");
  math.append(...children);
  const isBlock = display === "block";
  if (isBlock) math.setAttribute("display", "block");
  const source = math.querySelector("annotation")?.textContent ?? "";
  if (!isBlock && source.length <= LONG) return math;
  const box = document.createElement("span");
  Object.assign(box, { className: isBlock ? "formula scrolled" : "formula inline scrolled", tabIndex: 0 });
  box.setAttribute("role", "group");
  box.setAttribute("aria-label", "Formula");
  box.append(math);
  return box;
}
