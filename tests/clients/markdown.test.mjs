/** When the gateway is asked to parse an answer, and how its result is used. In the test's time. */
import assert from "node:assert/strict";
import { test } from "node:test";

import { FIRST_PAUSE, MAX_KEPT, MAX_TEXT, Markdown, PACE, STRETCH } from "../../runtime/web/markdown.js";
import { build } from "../../runtime/web/tree.js";
import { Clock } from "./fake.mjs";

/** Runs all pending microtasks. */
const settled = async () => {
  for (let count = 0; count < 20; count++) await Promise.resolve();
};

function gateway() {
  const clock = new Clock();
  const asked = [];
  const markdown = new Markdown((text) => new Promise((resolve, reject) => asked.push({ text, resolve, reject })), clock);
  const answer = async (tree) => {
    asked.at(-1).resolve(tree);
    await settled();
  };
  const refuse = async (error) => {
    asked.at(-1).reject(error);
    await settled();
  };
  return { clock, asked, markdown, answer, refuse, texts: () => asked.map(({ text }) => text) };
}

function reader() {
  const shown = [];
  return { shown, isThere: true, isShown() { return this.isThere; }, show: (text, tree) => shown.push([text, tree]) };
}

test("a text that grows is asked for at a pace, the newest of it, one request at a time", async () => {
  const { clock, markdown, answer, texts } = gateway();
  const one = reader();
  markdown.want(one, "a", false);
  for (const text of ["ab", "abc"]) markdown.want(one, text, false);
  assert.deepEqual(texts(), ["a"]);
  await answer("tree of a");
  assert.deepEqual([texts(), one.shown], [["a"], [["a", "tree of a"]]]);
  clock.pass(PACE - 1);
  assert.deepEqual(texts(), ["a"]);
  clock.pass(1);
  assert.deepEqual(texts(), ["a", "abc"]);
  clock.pass(10 * PACE);
  markdown.want(one, "abcd", true);
  assert.deepEqual(texts(), ["a", "abc"], "one at a time");
  await answer("tree of abc");
  assert.deepEqual(texts(), ["a", "abc", "abcd"], "the end does not wait for the pace");
});

test("the longer a text that grows is, the less often it is sent", async () => {
  const { clock, markdown, answer, texts } = gateway();
  const one = reader();
  const long = "x".repeat(1_000 * STRETCH);
  markdown.want(one, long, false);
  await answer("tree");
  markdown.want(one, `${long}y`, false);
  clock.pass(PACE + 999);
  assert.equal(texts().length, 1);
  clock.pass(1);
  assert.equal(texts().length, 2);
});

test("a complete text is asked for once, the newest first, and known from then on", async () => {
  const { markdown, answer, texts } = gateway();
  const readers = [reader(), reader(), reader()];
  for (const [index, one] of readers.entries()) markdown.want(one, `text ${index}`, true);
  for (let count = 0; count < 3; count++) await answer(`tree ${count}`);
  assert.deepEqual(texts(), ["text 0", "text 2", "text 1"]);
  assert.deepEqual(readers[2].shown, [["text 2", "tree 1"]]);
  assert.equal(markdown.known("text 1"), "tree 2");
  markdown.want(reader(), "text 1", true);
  assert.equal(texts().length, 3);
  markdown.forget();
  assert.equal(markdown.known("text 1"), null);
});

test("what is not shown any more is not asked for", async () => {
  const { markdown, answer, texts } = gateway();
  const [first, second] = [reader(), reader()];
  markdown.want(first, "first", true);
  markdown.want(second, "second", true);
  second.isThere = first.isThere = false;
  await answer("tree");
  assert.deepEqual([texts(), first.shown], [["first"], []]);
});

test("a gateway that cannot answer is asked again after a pause, which it may name", async () => {
  const { clock, markdown, refuse, answer, texts } = gateway();
  const one = reader();
  markdown.want(one, "a", true);
  await refuse({ status: 0, after: null });
  clock.pass(FIRST_PAUSE - 1);
  markdown.want(reader(), "b", true);
  assert.deepEqual(texts(), ["a"]);
  clock.pass(1);
  assert.deepEqual(texts(), ["a", "b"]);
  await refuse({ status: 429, after: 7_000 });
  clock.pass(6_999);
  assert.equal(texts().length, 2);
  clock.pass(1);
  await answer("tree");
  await answer("tree");
  assert.deepEqual([texts().slice(2), one.shown], [["b", "a"], [["a", "tree"]]]);
});

test("a route that is not there is asked for once; a text that is refused is, too", async () => {
  const { markdown, refuse, texts } = gateway();
  markdown.want(reader(), "a", true);
  await refuse({ status: 413, after: null, isMissing: false });
  markdown.want(reader(), "a", true);
  assert.deepEqual([texts(), markdown.known("a")], [["a"], null]);
  markdown.want(reader(), "b", true);
  await refuse({ status: 404, after: null, isMissing: true });
  for (const text of ["b", "c"]) markdown.want(reader(), text, true);
  assert.deepEqual(texts(), ["a", "b"]);
});

test("what is kept is bounded, and what was used last is kept", async () => {
  const { markdown, answer, texts } = gateway();
  markdown.want(reader(), "x".repeat(MAX_TEXT + 1), true);
  markdown.want(reader(), " \n", true);
  assert.deepEqual(texts(), []);
  for (let number = 0; number <= MAX_KEPT; number++) {
    markdown.want(reader(), `text ${number}`, true);
    await answer(number);
    markdown.known("text 0");
  }
  assert.deepEqual([0, 1, 2].map((number) => markdown.known(`text ${number}`)), [0, null, 2]);
});

/** As much of a document as building elements needs. */
class Node {
  attributes = {};
  children = [];

  constructor(name, namespace = "html") {
    Object.assign(this, { name, namespace });
  }

  append(...children) {
    this.children.push(...children);
  }

  setAttribute(name, value) {
    this.attributes[name] = value;
  }

  get textContent() {
    return this.children.map((child) => (typeof child === "string" ? child : child.textContent)).join("");
  }

  querySelector(name) {
    const found = (node) => (typeof node === "string" ? null : node.name === name ? node : node.children.map(found).find(Boolean));
    return found(this) ?? null;
  }

  get outline() {
    const attributes = Object.entries(this.attributes).map(([name, value]) => ` ${name}=${value}`).join("");
    return `<${this.name}${attributes}>${this.children.map((child) => child.outline ?? child).join("")}</>`;
  }
}

globalThis.document = /** @type {any} */ ({
  createElement: (name) => new Node(name),
  createElementNS: (namespace, name) => new Node(name, namespace),
});

const built = (tree) => build(tree).map((node) => node.outline ?? node).join("");

test("a formula is built of elements of MathML, with its source", () => {
  const source = ["annotation", { encoding: "text/html" }, "x^2"];
  const tree = ["math", ["semantics", ["mrow", ["msup", ["mi", "x"], ["mn", "2"]]], source]];
  const [math] = build(tree);
  assert.equal(math.outline, "<math><semantics><mrow><msup><mi>x</><mn>2</></></><annotation encoding=application/x-tex>x^2</></></>");
  const spaces = (node) => [node.namespace, ...node.children.filter((child) => child instanceof Node).flatMap(spaces)];
  assert.deepEqual(new Set(spaces(math)), new Set(["http://www.w3.org/1998/Math/MathML"]));
  const [box] = build(["math", { display: "block" }, ["semantics", ["mrow"], source]]);
  assert.deepEqual([box.name, box.className, box.tabIndex, box.attributes.role, box.children[0].attributes.display], ["span", "formula scrolled", 0, "group", "block"]);
  const [long] = build(["math", ["semantics", ["mrow"], ["annotation", "x + ".repeat(20)]]]);
  assert.deepEqual([long.name, long.className], ["span", "formula inline scrolled"]);
});

test("of a formula nothing is built that MathML has not, or that could do something", () => {
  for (const [tree, outline] of [
    [["mi", { href: "javascript:alert(1)", onclick: "x", style: "color:red", id: "message", mathvariant: "normal" }, "x"], "<mi mathvariant=normal>x</>"],
    [["mo", { stretchy: "true\" onload=\"x", lspace: "0", class: "left evil wide" }, "+"], "<mo lspace=0 class=math-left math-wide>+</>"],
    [["mrow", ["maction", { actiontype: "x" }, ["mi", "a"]], ["script", "b"], ["annotation-xml", ["mi", "c"]]], "<mrow><mi>a</>b<mi>c</></>"],
    [["mfrac", ["mi", "a"]], "<mrow><mi>a</></>"],
  ]) assert.equal(built(tree), outline);
});
