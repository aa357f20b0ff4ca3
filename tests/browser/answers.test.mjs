/**
 * Answers on the page: their Markdown, and a user's actions on them. Its requirements are listed at the head of
 * page.test.mjs.
 */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import {
  URL_OF_PAGE, addressOf, cuttable, faint, faults, fresh, launch, live, login, onlyInChromium, userContext, saying, say, tooWide,
  turn, violations, visit,
} from "./browser.mjs";

let browser;
let context;

before(async () => {
  browser = await launch();
  context = await userContext(browser, { permissions: ["clipboard-read", "clipboard-write"] });
  await login(await visit(context));
});

after(() => browser?.close());

/** A page on which the agent answers with `text` when it is asked to count to 30. */
async function open(text, prepare = async () => {}) {
  const page = await context.newPage();
  const network = await cuttable(page, saying(text));
  // The gateway stores what the agent has really said.
  await page.route(/\/threads(\/turns)?(\?|$)/, (route) => route.fulfill({ status: 404 }));
  await prepare(page);
  await page.goto(URL_OF_PAGE);
  await live(page);
  await fresh(page);
  return [page, network];
}

/** The answer to `count to 30`, once its Markdown is shown. */
async function answered(page, parsed) {
  await say(page, "count to 30");
  const answer = (await turn(page, "completed")).locator(".answer").last();
  await answer.locator(parsed).first().waitFor();
  return answer;
}

const DOCUMENT = `# Title

Some *emphasis*, __strong__, ~~gone~~, \`code\` and a [link](https://example.org/a_(b)).

- one
  1. inner
- [x] done
- [ ] open

> A quote

| Left | Right |
|:-----|------:|
| a    | 1     |

\`\`\`rust
fn main() {} // "a"
\`\`\`

![a picture](https://example.org/x.png)

---

A footnote[^1] and <b>no markup</b>.

[^1]: The note.
`;

test("an answer is shown as GitHub-flavoured Markdown", async () => {
  const [page] = await open(DOCUMENT);
  const answer = await answered(page, ".note");
  const texts = async (selector) => answer.locator(selector).allTextContents();
  assert.deepEqual(await texts("h3"), ["Title"]);
  assert.deepEqual([await texts("em"), await texts("p > strong"), await texts("del"), await texts("p > code")], [["emphasis"], ["strong"], ["gone"], ["code"]]);
  assert.deepEqual(await texts("ul > li > ol > li"), ["inner"]);
  assert.deepEqual(await answer.locator("input").evaluateAll((nodes) => nodes.map(({ checked, ariaLabel }) => [checked, ariaLabel])), [[true, "Done"], [false, "Not done"]]);
  assert.deepEqual([await texts("blockquote p"), await texts("th"), await texts("td")], [["A quote"], ["Left", "Right"], ["a", "1"]]);
  assert.equal(await answer.locator("td").last().evaluate((node) => getComputedStyle(node).textAlign), "right");
  assert.deepEqual([await texts(".code header span"), await texts("pre code")], [["rust"], ['fn main() {} // "a"']]);
  const colours = await answer.locator("pre span").evaluateAll((nodes) => nodes.map(({ className, textContent }) => [className, textContent]));
  assert.deepEqual(colours, [["code-keyword", "fn"], ["code-comment", '// "a"']]);
  const links = await answer.locator("a").evaluateAll((nodes) => nodes.map(({ textContent, href, rel, target }) => [textContent, href, rel, target]));
  const elsewhere = ["noopener noreferrer", "_blank"];
  assert.deepEqual(links, [["link", "https://example.org/a_(b)", ...elsewhere], ["a picture", "https://example.org/x.png", ...elsewhere]]);
  assert.equal(await answer.locator("img, b").count(), 0, "nothing is loaded, and markup is text");
  assert.match(await answer.textContent(), /<b>no markup<\/b>/);
  assert.equal(await answer.locator("hr").count(), 1);
  await page.close();
});

test("a footnote is reached and left by keyboard, and the conversation stays", async () => {
  const [page] = await open(DOCUMENT);
  const answer = await answered(page, ".note");
  const address = await addressOf(page);
  await answer.getByRole("button", { name: "Footnote 1", exact: true }).press("Enter");
  assert.equal(await page.evaluate(() => document.activeElement.className), "note");
  await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  assert.equal(await page.evaluate(() => document.activeElement.ariaLabel), "Footnote 1");
  assert.equal(await addressOf(page), address);
  await page.close();
});

test("code is copied, by keyboard too, and it is said", async () => {
  const [page] = await open(DOCUMENT);
  const answer = await answered(page, "pre");
  const button = answer.locator(".copy");
  await button.press("Enter");
  await page.locator(".copy", { hasText: "Copied" }).waitFor();
  assert.equal(await page.evaluate(() => navigator.clipboard.readText()), 'fn main() {} // "a"');
  assert.equal(await page.textContent("#announcer"), "Copied.");
  await page.close();
});

test("a page without a clipboard of its own copies too", async () => {
  const [page] = await open(DOCUMENT, (page) => page.addInitScript(() => Object.defineProperty(navigator, "clipboard", { get: () => undefined })));
  const answer = await answered(page, "pre");
  await answer.locator(".copy").press("Enter");
  await page.locator(".copy", { hasText: "Copied" }).waitFor();
  const other = await visit(context);
  assert.equal(await other.evaluate(() => navigator.clipboard.readText()), 'fn main() {} // "a"');
  await other.close();
  await page.close();
});

onlyInChromium("a route is not told the body of a request")("an answer is Markdown while it streams, shown to its newest letter, with one request at a time", async () => {
  const asked = { open: 0, most: 0, bodies: [] };
  const [page] = await open(`**bold**, then ${"many words ".repeat(60)}and the end.`, async (page) => {
    await page.route(/\/markdown$/, async (route) => {
      asked.most = Math.max(asked.most, ++asked.open);
      asked.bodies.push(route.request().postData());
      const response = await route.fetch();
      asked.open--;
      await route.fulfill({ response });
    });
  });
  const lags = await page.evaluateHandle(() => {
    const states = [];
    const look = () => {
      const answer = document.querySelector(".turn[data-state=open] .answer");
      if (answer) states.push([answer.querySelector("strong") !== null, answer.textContent]);
    };
    new MutationObserver(look).observe(document.querySelector("#turns"), { childList: true, subtree: true, characterData: true });
    return states;
  });
  const answer = await answered(page, "strong");
  await page.waitForFunction(() => document.querySelector(".answer > p > span") === null);
  const states = await lags.evaluate((states) => states);
  assert.ok(states.some(([isParsed]) => isParsed), "parsed before the end");
  const texts = states.map(([, text]) => text.replaceAll("*", ""));
  for (const [index, text] of texts.entries()) assert.ok(index === 0 || text.startsWith(texts[index - 1]), `${index}: it only grows`);
  assert.match(await answer.textContent(), /^bold, then many words .*and the end\.$/);
  assert.equal(asked.most, 1);
  assert.ok(asked.bodies.length < 12, `${asked.bodies.length} requests in about two seconds`);
  await page.reload();
  await turn(page, "completed");
  await page.locator(".answer strong").first().waitFor();
  await page.close();
});

onlyInChromium("the page decides this, whichever the browser")("an answer whose Markdown cannot be parsed is plain text with its lines", async () => {
  for (const status of [404, 413]) {
    let asked = 0;
    const [page] = await open("**one**\ntwo\n\nthree", (page) => page.route(/\/markdown$/, (route) => (asked++, route.fulfill({ status }))));
    await say(page, "count to 30");
    const answer = (await turn(page, "completed")).locator(".answer").last();
    assert.equal(await answer.innerText(), "**one**\ntwo\n\nthree");
    await say(page, "count to 30");
    await page.locator(".turn:nth-child(2)").and(page.locator('[data-state="completed"]')).waitFor();
    if (status === 404) assert.equal(asked, 1, "a route that is not there is asked for once");
    await page.close();
  }
});

test("a tree that holds what no Markdown is made of is shown without it", async () => {
  const evil = ["div",
    ["script", "alert(1)"], ["p", { onclick: "document.title='x'", style: "color:red", id: "message" }, "text"], ["a", { href: "javascript:alert(1)" }, "link"],
    ["img", { src: "https://example.org/x.png" }], ["pre", { language: "<b>" }, ["iframe", { src: "/" }, "code"]], 7, null, ["ol", { start: "x" }, ["li", "item"]], ["constructor", "c"],
  ];
  const [page] = await open("anything *else*", (page) => page.route(/\/markdown$/, (route) => route.fulfill({ json: { tree: evil } })));
  const answer = await answered(page, "pre");
  assert.equal(await answer.locator("script, img, iframe, a, [onclick], [style], [id]").count(), 0);
  assert.match(await answer.textContent(), /alert\(1\)textlink<b>Copycodeitemc/);
  await page.close();
});

test("Markdown is accessible, fits a phone, and can be read in light and in dark", async () => {
  const wide = `${DOCUMENT}\n\n| ${"column | ".repeat(12)}\n|${"--|".repeat(12)}\n| ${"value | ".repeat(12)}\n\n\`\`\`js\n// ${"x".repeat(400)}\nconst a = "b" + 1;\n\`\`\`\n\n> [!TIP]\n> A tip\n\n## Second\n\n#### Deep\n`;
  const [page] = await open(wide);
  await answered(page, ".alert");
  for (const [width, colorScheme] of [[320, "light"], [1280, "dark"]]) {
    await page.setViewportSize({ width, height: 640 });
    await page.emulateMedia({ colorScheme });
    assert.deepEqual([await violations(page), await faint(page), await tooWide(page)], [[], [], []], `${width} px, ${colorScheme}`);
  }
  await page.close();
});

const FORMULAS = String.raw`Inline $e^{i\pi}+1=0$ and \(a_1\), a price of $5 to $10, and ${"`"}\(code\)${"`"}.

\[
\begin{aligned} x &= \frac{-b \pm \sqrt{b^2-4ac}}{2a} \\[4pt] &= \boxed{42} \end{aligned}
\]

$$ ${"a + b + ".repeat(40)} c $$

- \(${"x + y + ".repeat(30)} z\)
- broken: \(\frac{1\)
`;

test("formulas are shown as mathematics, what is none as text, and a wide one scrolls on a phone", async () => {
  const [page] = await open(FORMULAS);
  const answer = await answered(page, "math");
  const names = await answer.locator("math").evaluateAll((nodes) =>
    nodes.map((node) => [node.namespaceURI.endsWith("/Math/MathML"), node.getAttribute("display"), node.querySelector("annotation").textContent.slice(0, 12)]));
  assert.deepEqual(names, [
    [true, null, "e^{i\\pi}+1=0"], [true, null, "a_1"], [true, "block", "\\begin{align"], [true, "block", "a + b + a + "], [true, null, "x + y + x + "],
  ]);
  assert.match(await answer.locator("p").first().innerText(), /a price of \$5 to \$10, and \\\(code\\\)\./);
  assert.deepEqual(await answer.locator("code").allTextContents(), ["\\(code\\)", "\\frac{1"]);
  const [above, below] = await answer.locator("mfrac").first().evaluate(({ children }) => [...children].map((node) => node.getBoundingClientRect().top));
  assert.ok(above < below, "a fraction has a part above the other");
  for (const [width, colorScheme] of [[320, "light"], [1280, "dark"]]) {
    await page.setViewportSize({ width, height: 640 });
    await page.emulateMedia({ colorScheme });
    assert.deepEqual([await violations(page), await faint(page), await tooWide(page)], [[], [], []], `${width} px, ${colorScheme}`);
  }
  await page.setViewportSize({ width: 320, height: 640 });
  const wide = answer.getByRole("group", { name: "Formula" }).nth(1);
  await wide.focus();
  await page.keyboard.press("ArrowRight");
  await page.waitForFunction(() => document.activeElement.scrollLeft > 0);
  await page.close();
});

test("half of a formula is text until the rest has come", async () => {
  const text = `${"word ".repeat(20)}\\(\\frac{1}{2} + ${"x + ".repeat(60)} 1\\)`;
  const [page] = await open(text);
  const halves = await page.evaluateHandle(() => {
    const seen = [];
    const look = () => {
      const answer = document.querySelector(".turn[data-state=open] .answer");
      if (answer?.textContent.includes("frac")) seen.push(answer.querySelector("math, code") === null);
    };
    new MutationObserver(look).observe(document.querySelector("#turns"), { childList: true, subtree: true, characterData: true });
    return seen;
  });
  await answered(page, "math");
  const seen = await halves.evaluate((seen) => seen);
  assert.ok(seen.includes(true), "seen while it streamed");
  assert.ok(!seen.slice(0, seen.lastIndexOf(true)).includes(false), "as text, and nothing else");
  await page.close();
});

test("an answer is copied as it was written, by keyboard too", async () => {
  const [page] = await open(DOCUMENT);
  await answered(page, ".note");
  await page.getByRole("button", { name: "Copy answer" }).press("Enter");
  await page.locator(".reply > .tools", { hasText: "Copied" }).waitFor();
  assert.equal(await page.evaluate(() => navigator.clipboard.readText()), DOCUMENT);
  assert.deepEqual(await violations(page), []);
  await page.close();
});

onlyInChromium("the page decides this, whichever the browser")("an answer that was stopped can be asked for again, as a new message in its place", async () => {
  const [page, network] = await open("anything");
  await say(page, "count to 90");
  await page.locator(".answer").waitFor();
  assert.equal(await page.getByRole("button", { name: /Retry|Copy answer/ }).count(), 0, "not while it is made");
  await page.click("#stop");
  await turn(page, "failed");
  await page.getByRole("button", { name: "Retry this message" }).press("Enter");
  await page.getByText("Earlier version").waitFor();
  assert.deepEqual(await page.locator("#turns > .turn .bubble").allTextContents(), ["count to 90"]);
  const sent = network.sent.map((text) => JSON.parse(text)).filter(({ payload }) => payload?.text === "count to 90");
  assert.deepEqual([sent.length, new Set(sent.map(({ message_id }) => message_id)).size], [2, 2]);
  await page.click("#stop");
  await turn(page, "failed");
  assert.deepEqual(await violations(page), []);
  await page.close();
});

test("a message comes back into the field, and what is written there after it", async () => {
  const [page] = await open("anything");
  await say(page, "what is 2+3?");
  await turn(page, "completed");
  await page.fill("#message", "and this");
  await page.getByRole("button", { name: "Edit message" }).press("Enter");
  assert.equal(await page.inputValue("#message"), "what is 2+3?");
  assert.equal(await page.evaluate(() => document.activeElement.id), "message");
  await page.keyboard.press("Escape");
  assert.equal(await page.inputValue("#message"), "and this");
  assert.equal(await page.locator(".turn").count(), 1, "what was said stays");
  await page.fill("#message", "");
  await page.close();
});

test("no page had a fault or broke the content security policy", () => assert.deepEqual(faults, []));
