/** Elements of the document, and JSON values in readable form. Data becomes text nodes, never markup. */

/** The most characters of JSON that are shown on one line. */
const SHORT = 60;

/** An output of this many characters is folded. */
const LONG = 600;

/**
 * An element with attributes and children.
 * @param {string} name
 * @param {Record<string, any>} [properties]
 * @param {...(Node|string|null)} children
 */
export function element(name, properties = {}, ...children) {
  const node = Object.assign(document.createElement(name), properties);
  node.append(...children.filter((child) => child !== null));
  return node;
}

/** Sets a node's text if it differs, so that a selection in it survives. @returns {boolean} whether it did */
export function set(node, text) {
  if (node.textContent === text) return false;
  node.textContent = text;
  return true;
}

/** A button with an accessible name that distinguishes it from others of its kind. */
export function action(label, name, act) {
  const button = element("button", { type: "button" }, label);
  button.setAttribute("aria-label", name);
  button.addEventListener("click", () => act(button));
  return button;
}

/** A readable form of a value: on one line if it fits. */
function readable(value) {
  if (typeof value === "string") return value;
  const line = JSON.stringify(value);
  return line.length <= SHORT ? line : JSON.stringify(value, null, 2);
}

/** The lines of a value, which scroll if they are too wide or too many. */
function output(value, label) {
  const text = readable(value);
  const pre = element("pre", { tabIndex: 0 }, text);
  pre.setAttribute("role", "group");
  pre.setAttribute("aria-label", label);
  if (text.length < LONG) return pre;
  return element("details", {}, element("summary", {}, `${label}, ${text.length} characters`), pre);
}

/** An object as a list of its members if they are short, anything else unchanged or as JSON. */
export function values(given, label) {
  const entries = typeof given === "object" && given !== null && !Array.isArray(given) ? Object.entries(given) : null;
  const isShort = entries?.every(([, value]) => typeof value !== "object" && String(value).length < 200);
  if (!isShort) return [output(given, label)];
  if (entries.length === 0) return [];
  const rows = entries.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, String(value))]);
  return [element("dl", {}, ...rows)];
}
