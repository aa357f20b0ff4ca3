/**
 * Edited messages and regenerated answers on the page: replaced turns are folded, in every tab and after a reload. Its
 * requirements are listed at the head of page.test.mjs.
 */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import {
  URL_OF_PAGE, counts, cuttable, faint, faults, focused, fresh, live, loggedIn, onlyInChromium, press, say, threadOf,
  tooWide, turn, violations,
} from "./browser.mjs";

let browser;
let context;
let page;

before(async () => ({ browser, context, page } = await loggedIn()));

after(() => browser?.close());

/** A tab, and its sockets. */
async function tab(address = "") {
  const page = await context.newPage();
  const network = await cuttable(page);
  await page.goto(URL_OF_PAGE + address);
  await live(page);
  return [page, network];
}

const ANSWERED = ["what is 1+1?", "what is 2+2?", "what is 3+3?"];

/** A new conversation of three answered turns. */
async function three(page) {
  await fresh(page);
  for (const [index, text] of ANSWERED.entries()) {
    await say(page, text);
    await page.locator(`#turns > .turn:nth-child(${index + 1})[data-state="completed"]`).waitFor();
  }
}

const shown = (page) => page.locator("#turns > .turn > .said .bubble");
const texts = (page) => shown(page).allTextContents();
const earlier = (page) => page.locator("#turns > .turn > .earlier:not([hidden])");
const named = (page, name, within = "#conversation") => page.locator(within).getByRole("button", { name, exact: true });
/** The messages that the page sent on the socket, in order. */
const messages = ({ sent }) => sent.map((text) => JSON.parse(text)).filter(({ type }) => type === "user_message");

/** Waits until the conversation shows these messages. */
async function shows(page, ...expected) {
  await page.waitForFunction((expected) => {
    const bubbles = [...document.querySelectorAll("#turns > .turn:not(.draft) > .said .bubble")].map(({ textContent }) => textContent);
    return JSON.stringify(bubbles) === JSON.stringify(expected);
  }, expected);
}

/** The earlier messages in the only fold, opened by keyboard. Asserts that it was closed. */
async function unfolded(page, summary) {
  const fold = earlier(page);
  await fold.locator("> summary").getByText(summary, { exact: true }).waitFor();
  assert.deepEqual([await fold.count(), await fold.locator(".bubble").count()], [1, 0]);
  await page.bringToFront();
  await fold.locator("> summary").focus();
  await page.keyboard.press("Enter");
  await fold.locator(".bubble").first().waitFor();
  assert.equal(await fold.getByRole("button", { name: /Edit|Retry|Regenerate|Copy answer|Take back/ }).count(), 0, "nothing can be done with them");
  return fold.locator(".bubble").allTextContents();
}

test("a message in the middle is edited by keyboard, and Escape and Cancel leave it as it was", async () => {
  const [shown, network] = await tab();
  await three(shown);
  await shown.fill("#message", "half a sentence");
  const second = shown.locator("#turns > .turn:nth-child(2)");
  for (const end of ["Escape", "Cancel"]) {
    await second.getByRole("button", { name: "Edit message" }).press("Enter");
    await shown.locator("#turns > .edited").waitFor();
    assert.deepEqual([await shown.inputValue("#message"), await focused(shown)], [ANSWERED[1], "message"]);
    assert.equal(await shown.textContent("#edit-text"), "Editing a message");
    assert.match(await shown.textContent("#announcer"), /Editing a message/);
    assert.deepEqual([await violations(shown), await faint(shown), await tooWide(shown)], [[], [], []]);
    if (end === "Cancel") await press(shown, "Shift+Tab", "edit-cancel");
    await shown.keyboard.press(end === "Cancel" ? "Enter" : end);
    await shown.locator("#turns > .edited").waitFor({ state: "detached" });
    assert.deepEqual([await shown.inputValue("#message"), await focused(shown)], ["half a sentence", "message"]);
    assert.equal(await shown.locator("#edit").isVisible(), false);
  }
  await second.getByRole("button", { name: "Edit message" }).press("Enter");
  await shown.fill("#message", "what is 4+4?");
  await shown.keyboard.press("Enter");
  await shows(shown, ANSWERED[0], "what is 4+4?");
  await turn(shown, "completed");
  assert.deepEqual([await shown.inputValue("#message"), await focused(shown)], ["half a sentence", "message"]);
  assert.deepEqual(messages(network).map(({ replaces }) => typeof replaces), ["undefined", "undefined", "undefined", "number"]);
  assert.deepEqual(await unfolded(shown, "Show 2 earlier messages"), ANSWERED.slice(1));
  for (const [width, colorScheme] of [[320, "dark"], [1280, "light"]]) {
    await shown.setViewportSize({ width, height: 720 });
    await shown.emulateMedia({ colorScheme });
    assert.deepEqual([await violations(shown), await faint(shown), await tooWide(shown)], [[], [], []], `${width} px, ${colorScheme}`);
  }
  await shown.close();
});

test("another tab sees an edit at once, and both see the same after a reload", async () => {
  await three(page);
  const [second] = await tab(`#${await threadOf(page)}`);
  await shows(second, ...ANSWERED);
  await named(page, "Edit message").first().click();
  await page.fill("#message", "what is 5+5?");
  await page.keyboard.press("Enter");
  for (const isReloaded of [false, true]) {
    for (const shown of [page, second]) {
      if (isReloaded) await shown.reload();
      await shows(shown, "what is 5+5?");
      await turn(shown, "completed");
      assert.deepEqual(await unfolded(shown, "Show 3 earlier messages"), ANSWERED);
    }
  }
  await say(second, "what is 6+6?");
  await shows(page, "what is 5+5?", "what is 6+6?");
  await turn(page, "completed");
  await second.close();
});

test("the newest answer is made again, by keyboard, and focus goes to what took its place", async () => {
  const [shown, network] = await tab();
  await three(shown);
  assert.equal(await named(shown, "Regenerate this answer").count(), 1, "the newest only");
  await named(shown, "Regenerate this answer").press("Enter");
  await earlier(shown).waitFor();
  await turn(shown, "completed");
  assert.deepEqual(await texts(shown), ANSWERED);
  assert.equal(await shown.evaluate(() => document.activeElement === document.querySelector("#turns > .turn:last-child")), true);
  assert.deepEqual(messages(network).map(({ payload }) => payload.text), [...ANSWERED, ANSWERED[2]]);
  await named(shown, "Regenerate this answer").click();
  assert.deepEqual(await unfolded(shown, "Show 2 earlier messages"), [ANSWERED[2], ANSWERED[2]]);
  await turn(shown, "completed");
  await shown.close();
});

onlyInChromium("the page decides this, whichever the browser")("an answer that was stopped is asked for again in its place, and one under way ends when its message is edited", async () => {
  const [shown, network] = await tab();
  await fresh(shown);
  await say(shown, "count to 90");
  await counts(shown, 2);
  assert.equal(await shown.getByRole("button", { name: /Retry|Regenerate/ }).count(), 0, "not while it is made");
  await shown.click("#stop");
  await turn(shown, "failed");
  await named(shown, "Retry this message").press("Enter");
  await earlier(shown).waitFor();
  await counts(shown, 2);
  await named(shown, "Edit message").click();
  await shown.fill("#message", "what is 7+7?");
  await shown.keyboard.press("Enter");
  await shows(shown, "what is 7+7?");
  await turn(shown, "completed");
  assert.equal(messages(network).filter(({ replaces }) => replaces !== undefined).length, 2);
  assert.deepEqual(await unfolded(shown, "Show 2 earlier messages"), ["count to 90", "count to 90"]);
  assert.deepEqual(await earlier(shown).locator(".end").allTextContents(), ["Stopped.", "Stopped."]);
  await shown.close();
});

onlyInChromium("the page decides this, whichever the browser")("what a message that waits will replace stays, muted, and the edit outlasts a reload", async () => {
  const [shown, network] = await tab();
  await three(shown);
  network.hold();
  network.cut();
  await live(shown, "backoff");
  await named(shown, "Edit message").nth(1).click();
  await shown.fill("#message", "what is 8+8?");
  await shown.keyboard.press("Enter");
  await shown.locator('.draft[data-state="waiting"]').waitFor();
  assert.deepEqual(await shown.locator("#turns > .replaced > .said .bubble").allTextContents(), ANSWERED.slice(1));
  assert.equal(await shown.locator(".replaced").getByRole("button", { name: /Edit|Regenerate|Copy/ }).count(), 0);
  assert.deepEqual([await violations(shown), await faint(shown)], [[], []]);
  await shown.locator(".draft").getByRole("button", { name: "Edit" }).click();
  await shown.locator("#turns > .edited").waitFor();
  assert.deepEqual([await shown.locator(".replaced, .draft").count(), await shown.locator("#turns > .edited").count()], [0, 1]);
  await shown.fill("#message", "what is 9+9?");
  network.release();
  await shown.reload();
  await live(shown);
  await shown.locator("#turns > .edited").waitFor();
  assert.deepEqual([await shown.inputValue("#message"), await shown.isVisible("#edit")], ["what is 9+9?", true]);
  await shown.press("#message", "Enter");
  await shows(shown, ANSWERED[0], "what is 9+9?");
  await turn(shown, "completed");
  await shown.close();
});

test("no page had a fault or broke the content security policy", () => assert.deepEqual(faults, []));
