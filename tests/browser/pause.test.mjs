/**
 * What an agent asks its user in the middle of an answer, and the replies on the page. Its requirements are listed at
 * the head of page.test.mjs.
 */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import {
  URL_OF_PAGE, control, cuttable, faint, faults, focused, fresh, launch, live, login, onlyInChromium, say, tooWide, turn, userContext,
  violations, visit,
} from "./browser.mjs";

let browser;
let context;
let page;

before(async () => {
  browser = await launch();
  context = await userContext(browser);
  page = await visit(context);
  await login(page);
});

after(() => browser?.close());

const APPROVAL = "ask me, then 6 * 7";
const BOTH = "ask me, then 6 * 7 and what time is it?";
const QUESTION = "ask me something";

/** The card of the last turn, once it is in this state. */
async function card(shown, state = "open") {
  const last = shown.locator("#turns > .turn").last().locator(".ask").last();
  await last.and(shown.locator(`[data-state="${state}"]`)).waitFor();
  return last;
}

/** A new conversation whose answer waits for a reply. */
async function asked(shown, text) {
  await fresh(shown);
  await say(shown, text);
  return card(shown);
}

const button = (shown, name) => shown.getByRole("button", { name, exact: true });
const badges = (shown) => shown.locator(".ask .badge").allTextContents();
const answer = async (shown) => (await turn(shown, "completed")).locator(".answer").last().textContent();

/** A page whose agent asks for something else than the built-in one does. */
async function pageOf(request) {
  const shown = await context.newPage();
  const network = await cuttable(shown, (text) => {
    const frame = JSON.parse(text);
    return frame.type === "agent_paused" ? JSON.stringify({ ...frame, data: { ...frame.data, request } }) : text;
  });
  await shown.goto(URL_OF_PAGE);
  await live(shown);
  const replies = () => network.sent.map((text) => JSON.parse(text)).filter(({ type }) => type === "reply").map(({ payload }) => payload);
  return { shown, network, replies };
}

test("a tool is used once it is approved, and what was asked and replied stays", async () => {
  const ask = await asked(page, APPROVAL);
  assert.equal(await ask.locator(".what").textContent(), "May I use these tools?");
  assert.equal(await ask.locator(".name").textContent(), "calculator");
  assert.deepEqual([await ask.locator("dt").allTextContents(), await ask.locator("dd").allTextContents()], [["expression"], ["6 * 7"]]);
  assert.match(await page.textContent("#announcer"), /^The agent asks you\. May I use these tools\? calculator$/);
  assert.equal(await page.locator(".tool").count(), 0, "it was not used yet");
  assert.equal(await page.locator(".wait:visible").count(), 0, "nothing is working");
  await button(page, "Approve calculator").click();
  assert.match(await answer(page), /42/);
  assert.equal(await (await card(page, "replied")).locator("button, textarea").count(), 0);
  assert.deepEqual([await badges(page), await page.locator(".tool .name").allTextContents()], [["Approved"], ["calculator"]]);
  await page.reload();
  await card(page, "replied");
  assert.deepEqual(await badges(page), ["Approved"]);
  assert.match(await answer(page), /42/);
});

test("a tool that is declined is not used", async () => {
  await asked(page, APPROVAL);
  await button(page, "Decline calculator").click();
  assert.equal(await answer(page), "Then I leave it.");
  assert.deepEqual([await badges(page), await page.locator(".tool").count()], [["Declined"], 0]);
});

test("several are sent when all are decided, each in its own way", async () => {
  await asked(page, BOTH);
  await button(page, "Approve calculator").click();
  assert.equal(await button(page, "Approve calculator").getAttribute("aria-pressed"), "true");
  await page.locator(".ask").getByRole("button", { name: "Send" }).click();
  await page.locator(".ask .remark", { hasText: "Something is not answered yet." }).waitFor();
  assert.equal(await page.textContent("#announcer"), "Something is not answered yet.");
  assert.equal(await page.evaluate(() => document.activeElement.ariaLabel), "Approve clock");
  await button(page, "Approve clock").click();
  await button(page, "Decline clock").click();
  assert.deepEqual([await violations(page), await faint(page)], [[], []]);
  await page.locator(".ask").getByRole("button", { name: "Send" }).click();
  assert.match(await answer(page), /42/);
  assert.deepEqual([await badges(page), await page.locator(".tool .name").allTextContents()], [["Approved", "Declined"], ["calculator"]]);
});

test("a question is answered in words", async () => {
  const ask = await asked(page, QUESTION);
  const field = ask.getByLabel("Your answer");
  await field.press("Enter");
  await page.locator(".ask .remark", { hasText: "Something is not answered yet." }).waitFor();
  assert.equal(await page.textContent("#announcer"), "Something is not answered yet.");
  await field.fill("<b>Ada</b>");
  await field.press("Enter");
  assert.equal(await answer(page), "Hello, <b>Ada</b>.");
  const record = await card(page, "replied");
  assert.match(await record.innerText(), /^The agent asked\s+What is your name\?\s+Your answer\s+<b>Ada<\/b>$/);
});

test("what is written into a card outlasts a reload, until it is sent", async () => {
  await asked(page, QUESTION);
  await page.locator(".ask textarea").fill("as blue as\nthe sky");
  await page.reload();
  await card(page);
  assert.equal(await page.locator(".ask textarea").inputValue(), "as blue as\nthe sky");
  const kept = () => page.evaluate(() => Object.keys(sessionStorage).filter((key) => key.startsWith("lockstep.reply.")).length);
  assert.equal(await kept(), 1);
  await button(page, "Reply").click();
  assert.match(await answer(page), /as blue as/);
  await card(page, "replied");
  assert.equal(await kept(), 0);
});

test("an answer that waits outlasts a reload and a restart of the gateway, and goes on after the reply", async () => {
  await asked(page, APPROVAL);
  await page.reload();
  await card(page);
  await control("restart");
  await live(page);
  await card(page);
  await control("drain");
  await live(page);
  await button(page, "Approve calculator").click();
  assert.match(await answer(page), /42/);
  assert.deepEqual(await badges(page), ["Approved"]);
});

test("a reply in one tab closes the card in the other, and the first counts", async () => {
  await asked(page, QUESTION);
  const other = await visit(context);
  await (await card(other)).getByLabel("Your answer").fill("Bea");
  await page.locator(".ask").getByLabel("Your answer").fill("Ada");
  await page.locator(".ask").getByRole("button", { name: "Reply" }).click();
  const record = await card(other, "replied");
  assert.match(await record.textContent(), /Ada$/);
  assert.equal(await other.locator(".ask").locator("button, textarea").count(), 0);
  assert.equal(await answer(other), "Hello, Ada.");
  await other.close();
});

test("who uses the keyboard only is not interrupted while writing, and reaches the buttons", async () => {
  await asked(page, APPROVAL);
  assert.equal(await focused(page), "message");
  const names = [];
  for (let count = 0; count < 12 && names.at(-1) !== "Approve calculator"; count++) {
    await page.keyboard.press("Shift+Tab");
    names.push(await page.evaluate(() => document.activeElement.ariaLabel));
  }
  assert.deepEqual(names.slice(-2), ["Decline calculator", "Approve calculator"]);
  await page.keyboard.press("Enter");
  assert.match(await answer(page), /42/);
  assert.ok(await page.evaluate(() => document.activeElement !== document.body), "the focus is not lost");
});

test("the card of the newest message has the focus if the user is nowhere else", async () => {
  for (const [text, holder] of [[QUESTION, "TEXTAREA"], [APPROVAL, "DIV"]]) {
    await fresh(page);
    await page.fill("#message", text);
    await page.evaluate(() => {
      /** @type {HTMLFormElement} */ (document.querySelector("#composer")).requestSubmit();
      /** @type {HTMLElement} */ (document.activeElement).blur();
    });
    await card(page);
    await page.waitForFunction(() => document.activeElement.closest(".ask") !== null);
    assert.equal(await page.evaluate(() => document.activeElement.nodeName), holder);
    await page.click("#stop");
    await turn(page, "failed");
  }
});

test("an answer that waits is stopped, and the card says that it takes no reply", async () => {
  await asked(page, QUESTION);
  await page.click("#stop");
  await turn(page, "failed");
  const over = await card(page, "over");
  assert.match(await over.textContent(), /What is your name\?The answer ended without a reply\.$/);
  assert.equal(await over.locator("button, textarea").count(), 0);
  assert.equal(await page.locator(".end").last().textContent(), "Stopped.");
});

test("a reply without a connection is sent when it is back", async () => {
  const { shown, network } = await pageOf({ message: "Well?" });
  await asked(shown, QUESTION);
  network.hold();
  network.cut();
  await live(shown, "backoff");
  await shown.locator(".ask").getByLabel("Your answer").fill("Ada");
  await shown.locator(".ask").getByRole("button", { name: "Reply" }).click();
  await (await card(shown, "sent")).getByText("Sending the reply…").waitFor();
  network.release();
  assert.equal(await answer(shown), "Hello, Ada.");
  await shown.close();
});

const STRANGE = {
  message: "<img src=x onerror=alert(1)>",
  urgency: { level: "<script>alert(1)</script>" },
  asks: [
    { id: "a", kind: "approval", tool: `delete_${"everything_".repeat(30)}`, arguments: { path: "/".repeat(300), deep: { list: [1, 2, { x: "y".repeat(900) }] } } },
    { id: "q", kind: "question", message: "Which one?\nThis or that?", schema: { type: "string" } },
    { id: "t", kind: "tool", tool: "read_clipboard", arguments: {} },
    { id: "u", kind: "unheard of" },
  ],
};

test("what an agent asks is text, fits a phone, and is accessible in light and in dark, before the reply and after", async () => {
  const { shown, replies } = await pageOf(STRANGE);
  const ask = await asked(shown, QUESTION);
  assert.equal(await ask.locator("img, script").count(), 0);
  assert.equal(await ask.locator(".what").first().textContent(), STRANGE.message);
  const check = async () => {
    for (const [width, colorScheme] of [[320, "light"], [1280, "dark"]]) {
      await shown.setViewportSize({ width, height: 640 });
      await shown.emulateMedia({ colorScheme });
      assert.deepEqual([await violations(shown), await faint(shown), await tooWide(shown)], [[], [], []], `${width} px, ${colorScheme}`);
    }
  };
  assert.ok(await ask.locator("pre", { hasText: "yyyy" }).isVisible(), "what is approved is seen");
  await check();
  await shown.setViewportSize({ width: 320, height: 640 });
  const targets = await ask.locator("button, textarea, summary").evaluateAll((nodes) => nodes.map((node) => Math.round(node.getBoundingClientRect().height)));
  assert.ok(targets.length >= 7 && targets.every((height) => height >= 44), `${targets}`);
  await ask.getByRole("button", { name: /^Approve/ }).click();
  await ask.getByRole("group", { name: "Which one?" }).getByLabel("Your answer").fill("that");
  await ask.getByRole("group", { name: "read_clipboard" }).getByLabel("Result, as JSON or text").fill('{"text": "<i>"}');
  await ask.getByRole("group", { name: "Question 4" }).getByLabel("Your answer").fill("?");
  await ask.getByRole("button", { name: "Send" }).click();
  await card(shown, "replied");
  assert.deepEqual(replies(), [{ answers: { a: { approved: true }, q: { text: "that" }, t: { result: { text: "<i>" } }, u: { text: "?" } } }]);
  await turn(shown, "completed");
  await check();
  await shown.close();
});

onlyInChromium("the page decides this, whichever the browser")("a reply that came second leaves the card to the first", async () => {
  const { shown, network } = await pageOf({ message: "Well?" });
  await asked(shown, QUESTION);
  network.freeze();
  const other = await visit(context);
  await (await card(other)).getByLabel("Your answer").fill("Bea");
  await other.locator(".ask").getByRole("button", { name: "Reply" }).click();
  assert.equal(await answer(other), "Hello, Bea.");
  await shown.locator(".ask").getByLabel("Your answer").fill("Ada");
  await shown.locator(".ask").getByRole("button", { name: "Reply" }).click();
  await card(shown, "sent");
  network.freeze(false);
  network.cut();
  assert.equal(await answer(shown), "Hello, Bea.");
  assert.match(await (await card(shown, "replied")).textContent(), /Bea$/);
  await Promise.all([shown.close(), other.close()]);
});

test("no page had a fault or broke the content security policy", () => assert.deepEqual(faults, []));
