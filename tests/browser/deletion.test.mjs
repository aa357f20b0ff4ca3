/**
 * Deleted conversations on the page: the confirmation, both tabs, a running answer, unsent messages. Its requirements
 * are listed at the head of page.test.mjs.
 */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import {
  URL_OF_PAGE, addressOf, counts, cuttable, faint, faults, focused, fresh, live, loggedIn, onlyInChromium, press, say,
  threadOf, tooWide, turn, violations,
} from "./browser.mjs";

const LONG = "count to 90";

let browser;
let context;
let page;

before(async () => ({ browser, context, page } = await loggedIn()));

after(() => browser?.close());

/** A tab that shows a thread, and its sockets; `heard` is what its gateway sent. */
async function tab(address = "") {
  const page = await context.newPage();
  const heard = [];
  const network = await cuttable(page, (text) => {
    heard.push(JSON.parse(text));
    return text;
  });
  await page.goto(URL_OF_PAGE + address);
  await live(page);
  return [page, heard, network];
}

const isOpen = (page) => page.locator("#deletion").evaluate((dialog) => dialog.open);

/** Opens the confirmation by keyboard. */
async function ask(page) {
  await page.bringToFront();
  await page.focus("#menu summary");
  await page.keyboard.press("Enter");
  await press(page, "Tab", "delete");
  await page.keyboard.press("Enter");
  await page.locator("#deletion[open]").waitFor();
}

async function confirm(page) {
  await press(page, "Tab", "deletion-confirm");
  await page.keyboard.press("Enter");
}

/**
 * Waits until a page shows a new, empty conversation in place of the deleted one. On a page that is connecting, the
 * connection's announcement may follow that of the deletion.
 */
async function gone(page, thread, isLive = true) {
  await page.waitForFunction((thread) => decodeURIComponent(location.hash.slice(1)) !== thread, thread);
  await page.locator(".turn").first().waitFor({ state: "detached" });
  assert.deepEqual([await isOpen(page), await focused(page)], [false, "message"]);
  if (isLive) assert.equal(await page.textContent("#announcer"), "Conversation deleted");
}

/** The titles in the menu. */
async function titles(page) {
  await page.click("#menu summary");
  const titles = await page.locator("#earlier .title").allTextContents();
  await page.keyboard.press("Escape");
  return titles;
}

/** Records whether the end of a run is ever shown, and the announcements for screen readers. */
const watch = (page) =>
  page.evaluate(() => {
    const seen = (globalThis.seen = []);
    const look = () => {
      if (document.querySelector('.turn[data-state="failed"]')) seen.push("an end");
      seen.push(document.querySelector("#announcer").textContent);
    };
    new MutationObserver(look).observe(document.body, { childList: true, subtree: true, characterData: true, attributes: true });
  });
const seen = (page) => page.evaluate(() => [...new Set(globalThis.seen)]);

test("it is asked first, by keyboard and at the width of a phone, and Cancel changes nothing", async () => {
  const requests = [];
  page.on("request", (request) => request.method() === "DELETE" && requests.push(request.url()));
  await fresh(page);
  await page.click("#menu summary");
  assert.equal(await page.locator("#delete").isVisible(), false, "there is nothing to delete");
  await page.keyboard.press("Escape");
  await say(page, "what is 2+3*4?");
  await turn(page, "completed");
  const address = await addressOf(page);
  const size = page.viewportSize();
  for (const [end, width] of [["Escape", size.width], ["Enter", 320]]) {
    await page.setViewportSize({ ...size, width });
    await ask(page);
    assert.equal(await focused(page), "deletion-cancel");
    assert.equal(await page.textContent("#deletion-title"), "what is 2+3*4?");
    assert.match(await page.textContent("#deletion-what"), /cannot be undone.*in progress is stopped/);
    assert.deepEqual([await violations(page), await faint(page), await tooWide(page)], [[], [], []]);
    await page.keyboard.press(end);
    await page.locator("#deletion[open]").waitFor({ state: "detached" });
    assert.equal(await page.evaluate(() => document.activeElement.localName), "summary", "focus goes back");
  }
  await page.setViewportSize(size);
  assert.deepEqual([await addressOf(page), await page.locator(".turn").count(), requests], [address, 1, []]);
});

test("a conversation that is deleted in one tab is gone in both, and from the list, and after a reload", async () => {
  const title = `what is ${Date.now() % 1_000_000}+1?`;
  await fresh(page);
  await say(page, title);
  await turn(page, "completed");
  await page.fill("#message", "half a sentence of the first");
  const thread = await threadOf(page);
  const [second] = await tab(`#${thread}`);
  await turn(second, "completed");
  await second.fill("#message", "half a sentence of the second");
  assert.ok((await titles(second)).includes(title));
  await ask(page);
  await confirm(page);
  await Promise.all([gone(page, thread), gone(second, thread)]);
  const texts = [await page.inputValue("#message"), await second.inputValue("#message")];
  assert.deepEqual(texts, ["", "half a sentence of the second"], "what is being written elsewhere stays");
  await second.fill("#message", "");
  for (const shown of [page, second]) {
    assert.ok(!(await titles(shown)).includes(title));
    await shown.reload();
    await live(shown);
    await shown.waitForLoadState("networkidle");
    assert.ok(!(await titles(shown)).includes(title), "after a reload");
  }
  await second.goto(`${URL_OF_PAGE}#${thread}`);
  await second.reload();
  await live(second);
  await second.locator("#empty").waitFor();
  assert.equal(await second.locator(".turn").count(), 0, "at its address");
  await second.close();
});

test("a deletion during an answer stops it, no end of it is shown, and the thread begins again empty", async () => {
  const [first] = await tab();
  await fresh(first);
  await say(first, LONG);
  await counts(first, 3);
  const thread = await threadOf(first);
  const [second, heard] = await tab(`#${thread}`);
  await counts(second, 4);
  await Promise.all([watch(first), watch(second)]);
  await ask(first);
  await confirm(first);
  await Promise.all([gone(first, thread), gone(second, thread)]);
  for (const shown of [first, second]) assert.deepEqual((await seen(shown)).filter((text) => /Stop|an end/.test(text)), []);
  await second.goto(`${URL_OF_PAGE}#${thread}`);
  await say(second, "what is 1+1?");
  await turn(second, "completed");
  const at = heard.findIndex(({ type, thread_id: of }) => type === "thread_deleted" && of === thread);
  const rest = heard.slice(at + 1).filter(({ thread_id: of }) => of === thread);
  assert.ok(at >= 0);
  assert.deepEqual([rest[0].type, new Set(rest.map(({ run_id: run }) => run)).size], ["message_received", 1]);
  for (const isReloaded of [false, true]) {
    if (isReloaded) await second.reload();
    await turn(second, "completed");
    await second.waitForLoadState("networkidle");
    assert.deepEqual(await second.locator(".turn .bubble").allTextContents(), ["what is 1+1?"]);
  }
  await Promise.all([first.close(), second.close()]);
});

onlyInChromium("the page decides this, whichever the browser")("messages that were not sent go with their conversation, also where the connection is away", async () => {
  const [shown, , network] = await tab();
  await fresh(shown);
  await say(shown, "count to 89");
  await counts(shown, 3);
  const thread = await threadOf(shown);
  network.hold();
  network.cut();
  await live(shown, "backoff");
  await say(shown, "said too late");
  await shown.locator('.draft[data-state="waiting"]').waitFor();
  await ask(shown);
  await confirm(shown);
  await gone(shown, thread, false);
  network.release();
  await live(shown);
  await say(shown, "what is 3+4?");
  await turn(shown, "completed");
  assert.deepEqual(network.sent.filter((frame) => frame.includes("said too late")), []);
  assert.equal((await titles(shown)).filter((title) => title === "count to 89" || title === "said too late").length, 0);
  await shown.close();
});

onlyInChromium("the page decides this, whichever the browser")("what could not be deleted is said, and all of it is there", async () => {
  const [shown] = await tab();
  await fresh(shown);
  await say(shown, "what is 5+6?");
  await turn(shown, "completed");
  const address = await addressOf(shown);
  await shown.route(/\/threads\?/, (route) => (route.request().method() === "DELETE" ? route.fulfill({ status: 503 }) : route.continue()));
  await ask(shown);
  await confirm(shown);
  await shown.locator("#hint", { hasText: "could not be deleted" }).waitFor();
  assert.match(await shown.textContent("#announcer"), /could not be deleted/);
  assert.deepEqual([await isOpen(shown), await addressOf(shown), await shown.locator(".turn").count()], [false, address, 1]);
  assert.ok((await titles(shown)).includes("what is 5+6?"));
  await shown.close();
});

test("no page had a fault or broke the content security policy", () => assert.deepEqual(faults, []));
