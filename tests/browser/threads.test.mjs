/**
 * Conversations from before the stream's window, on the page in Chromium: the list, their pages, and merging both with
 * the stream. A fake gateway answers the two routes. Further requirements are listed at the head of page.test.mjs.
 */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import {
  URL_OF_PAGE, cuttable, faint, faults, focused, fresh, launch, live, login, userContext, press, say, threadOf,
  tooWide, turn, violations, visit,
} from "./browser.mjs";

let browser;
let context;

before(async () => {
  browser = await launch();
  context = await userContext(browser);
  await login(await visit(context));
});

after(() => browser?.close());

/** Turns of a thread from before the gateway's data: their offsets are below zero. */
function turns(thread, count, from = -100_000) {
  return Array.from({ length: count }, (_, index) => {
    const at = from + 10 * index;
    const event = (offset, type, data) => ({ type, offset, run_id: `${thread}-${index}`, thread_id: thread, timestamp: 1_700_000_000_000 + at, data });
    return [
      event(at, "message_received", { message_id: `m-${thread}-${index}`, payload: { text: `question ${index + 1} of ${thread}` } }),
      event(at + 1, "agent_started", {}),
      event(at + 2, "agent_completed", { text: `**answer** ${index + 1}` }),
    ];
  });
}

/** The fake gateway's data, and the requests it received. */
class Kept {
  /** @type {Map<string, any[][]>} */ threads = new Map();
  asked = [];
  status = 200;
  /** @type {Map<string, string>} */ titles = new Map();

  async answer(route) {
    const url = new URL(route.request().url());
    this.asked.push(url.pathname.replace(/^.*\/threads/, "threads") + url.search);
    if (!/^Bearer \S+$/.test(route.request().headers().authorization ?? "")) return route.fulfill({ status: 401 });
    if (this.status !== 200) return route.fulfill({ status: this.status, headers: { "retry-after": "0" } });
    if (route.request().method() === "PATCH") {
      const { title } = route.request().postDataJSON();
      if (title === null) this.titles.delete(url.searchParams.get("thread_id"));
      else this.titles.set(url.searchParams.get("thread_id"), title);
      return route.fulfill({ status: 204 });
    }
    if (route.request().method() === "DELETE") {
      this.threads.delete(url.searchParams.get("thread_id"));
      return route.fulfill({ status: 204 });
    }
    const json = url.pathname.endsWith("/turns") ? this.#turns(url.searchParams) : this.#list(url.searchParams);
    return route.fulfill(json ? { json } : { status: 404 });
  }

  #list(query) {
    const all = [...this.threads].map(([key, [[first]], index]) => ({
      thread_id: key, title: this.titles.get(key) ?? first.data.payload.text, updated_at: 1_700_000_000_000 - index, open: false,
    }));
    const from = Number(query.get("before") ?? 0);
    const to = from + Number(query.get("limit"));
    return { threads: all.slice(from, to), next: to < all.length ? String(to) : null };
  }

  #turns(query) {
    const all = this.threads.get(query.get("thread_id"));
    if (!all) return null;
    const before = Number(query.get("before") ?? Infinity);
    const older = all.filter(([{ offset }]) => offset < before);
    const page = older.slice(-Number(query.get("limit")));
    return { events: page.flat(), next: page.length < older.length ? page[0][0].offset : null };
  }
}

async function open(kept, address = "") {
  const page = await context.newPage();
  const network = await cuttable(page);
  await page.route(/\/threads(\/turns)?(\?|$)/, (route) => kept.answer(route));
  await page.goto(URL_OF_PAGE + address);
  await live(page);
  return [page, network];
}

/** The address fragments at which a page is empty from now on. */
const addressesOfEmpty = (page) =>
  page.evaluateHandle(() => {
    const hashes = [];
    const look = () => document.querySelector("#empty").hidden || hashes.push(location.hash);
    new MutationObserver(look).observe(document.querySelector("#conversation"), { attributes: true, childList: true, subtree: true });
    return hashes;
  });

const questions = (page) => page.locator(".turn .bubble").allTextContents();
const numbered = (from, to, thread) => Array.from({ length: to - from + 1 }, (_, index) => `question ${from + index} of ${thread}`);

test("the menu lists what the stream does not tell of, and opening it shows its newest turns", async () => {
  const kept = new Kept();
  for (const [thread, count] of [["old", 45], ["older", 2]]) kept.threads.set(thread, turns(thread, count));
  const [page] = await open(kept);
  await page.click("#menu summary");
  await page.getByRole("button", { name: "question 1 of older" }).waitFor();
  await page.getByRole("button", { name: "question 1 of old", exact: true }).click();
  await page.getByText("question 45 of old").waitFor();
  assert.deepEqual(await questions(page), numbered(26, 45, "old"));
  assert.equal(await threadOf(page), "old");
  assert.match(await page.locator(".turn time").last().textContent(), /2023/, "on which day that was");
  await page.locator(".answer strong").last().waitFor();
  assert.deepEqual([await violations(page), await tooWide(page)], [[], []]);
  await page.close();
});

test("a conversation can be renamed, and be called again what it began with", async () => {
  const kept = new Kept();
  kept.threads.set("old", turns("old", 2));
  const [page] = await open(kept, "#old");
  await page.getByText("question 2 of old").waitFor();
  for (const [given, shown] of [[" Sums ", "Sums"], ["", "question 1 of old"]]) {
    page.once("dialog", (dialog) => dialog.accept(given));
    await page.click("#menu summary");
    await page.getByRole("button", { name: "Rename this conversation" }).click();
    await page.locator("#menu[open]").waitFor({ state: "detached" });
    await page.click("#menu summary");
    await page.getByRole("button", { name: shown, exact: true }).waitFor();
    await page.keyboard.press("Escape");
  }
  kept.status = 503;
  page.once("dialog", (dialog) => dialog.accept("Lost"));
  await page.click("#menu summary");
  await page.getByRole("button", { name: "Rename this conversation" }).click();
  await page.locator("#hint", { hasText: "could not be renamed" }).waitFor();
  await page.close();
});

test("a conversation that only the gateway keeps can be deleted, and nothing of it comes back", async () => {
  const kept = new Kept();
  for (const thread of ["old", "older"]) kept.threads.set(thread, turns(thread, 25));
  const [page, network] = await open(kept, "#old");
  await page.getByText("question 25 of old").waitFor();
  await page.click("#menu summary");
  await page.getByRole("button", { name: "Delete this conversation" }).click();
  assert.equal(await page.textContent("#deletion-title"), "question 1 of old");
  const emptied = await addressesOfEmpty(page);
  await page.click("#deletion-confirm");
  await page.locator("#empty").waitFor();
  assert.deepEqual([await questions(page), await emptied.evaluate((hashes) => hashes.includes("#old"))], [[], false]);
  assert.notEqual(await threadOf(page), "old");
  await page.click("#menu summary");
  await page.getByRole("button", { name: "question 1 of older", exact: true }).waitFor();
  assert.equal(await page.getByRole("button", { name: "question 1 of old", exact: true }).count(), 0);
  await page.keyboard.press("Escape");
  await page.goto(`${URL_OF_PAGE}#old`);
  await page.locator("#empty").waitFor();
  assert.deepEqual([await questions(page), await page.locator("#older").isVisible()], [[], false]);
  assert.deepEqual(kept.asked.filter((asked) => asked.endsWith("thread_id=old") && !asked.includes("turns")), ["threads?thread_id=old"]);
  await page.goto(`${URL_OF_PAGE}#older`);
  await page.getByText("question 25 of older").waitFor();
  // Another tab deletes it while this one loads more of it.
  kept.threads.delete("older");
  network.tell({ type: "thread_deleted", offset: 1e12, previous: 0, run_id: "d", thread_id: "older", timestamp: Date.now(), data: {} });
  await page.locator("#empty").waitFor();
  assert.deepEqual(await questions(page), []);
  await page.close();
});

test("earlier messages come above those that are read, which stay where they are, by keyboard too", async () => {
  const kept = new Kept();
  kept.threads.set("old", turns("old", 45));
  const [page] = await open(kept, "#old");
  await page.getByText("question 45 of old").waitFor();
  const scroller = page.locator("#conversation");
  await page.locator(".answer strong").last().waitFor();
  await scroller.evaluate((node) => (node.scrollTop = 0));
  await page.locator("#down").waitFor();
  const place = () => page.getByText("question 26 of old").evaluate((node) => Math.round(node.getBoundingClientRect().top));
  const before = await place();
  await page.focus("#older");
  assert.equal(await page.textContent("#older"), "Earlier messages");
  await page.keyboard.press("Enter");
  await page.getByText("question 6 of old").waitFor();
  assert.ok(Math.abs((await place()) - before) < 3, `${await place()}, was ${before}`);
  assert.equal(await focused(page), "older", "focus stays");
  await page.keyboard.press("Enter");
  await page.getByText("question 1 of old").waitFor();
  assert.deepEqual(await questions(page), numbered(1, 45, "old"));
  await page.locator("#older").waitFor({ state: "hidden" });
  assert.equal(await focused(page), "conversation", "focus is not lost with the button");
  assert.deepEqual(kept.asked.filter((asked) => asked.includes("turns")), [
    "threads/turns?limit=20&thread_id=old", "threads/turns?limit=20&thread_id=old&before=-99750", "threads/turns?limit=20&thread_id=old&before=-99950",
  ]);
  await page.close();
});

test("a conversation goes on where the gateway keeps its beginning, and each run is there once", async () => {
  const kept = new Kept();
  const thread = `going-on-${Date.now()}`;
  kept.threads.set(thread, turns(thread, 2));
  const [page, network] = await open(kept, `#${thread}`);
  await page.getByText(`question 2 of ${thread}`).waitFor();
  await say(page, "what is 2+2?");
  const last = await turn(page, "completed");
  const expected = [...numbered(1, 2, thread), "what is 2+2?"];
  assert.deepEqual(await questions(page), expected);
  // From now on the gateway stores this run too, as the socket delivered it.
  const run = await last.getAttribute("data-run");
  const offset = 1;
  const told = (type, data, index) => ({ type, offset: offset + index, run_id: run, thread_id: thread, timestamp: Date.now(), data });
  kept.threads.get(thread).push([
    told("message_received", { message_id: "other", payload: { text: "what is 2+2?" } }, 0), told("agent_completed", { text: "kept" }, 1),
  ]);
  await page.reload();
  await live(page);
  await turn(page, "completed");
  await page.getByText("what is 2+2?").waitFor();
  await page.getByText(`question 1 of ${thread}`).waitFor();
  assert.deepEqual(await questions(page), expected, "after a reload");
  assert.match(await page.locator(".turn .answer").last().textContent(), /4/, "as the stream tells it");
  const asked = page.waitForRequest((request) => request.url().includes(`/threads/turns?limit=20&thread_id=${thread}`));
  network.tell({ type: "stream_reset", from: 0, to: 0 });
  await asked;
  await turn(page, "completed");
  assert.deepEqual(await questions(page), expected, "after a part of the stream was lost");
  await page.close();
});

test("without an address the newest conversation is shown, even one that only the gateway keeps", async () => {
  const kept = new Kept();
  kept.threads.set("kept", turns("kept", 1));
  const newcomer = await userContext(browser);
  const page = await newcomer.newPage();
  await page.route(/\/threads(\/turns)?(\?|$)/, (route) => kept.answer(route));
  await page.goto(URL_OF_PAGE);
  await page.locator("#login").waitFor();
  await login(page, process.env.LOCKSTEP_NEWCOMER);
  await page.getByText("question 1 of kept").waitFor();
  assert.equal(await threadOf(page), "kept");
  await newcomer.close();
});

test("conversations are found by their title, by keyboard too", async () => {
  const kept = new Kept();
  for (let number = 0; number < 250; number++) kept.threads.set(`many-${number}`, turns(`many-${number}`, 1));
  const [page] = await open(kept);
  await page.focus("#menu summary");
  await page.keyboard.press("Enter");
  await press(page, "Tab", "filter");
  await page.getByText(/\d+ more: search by title/).waitFor();
  await page.keyboard.type("OF MANY-24");
  const found = page.locator("#earlier button");
  await page.waitForFunction(() => document.querySelectorAll("#earlier button").length === 11);
  assert.deepEqual(await found.allTextContents(), ["24", ...Array.from({ length: 10 }, (_, index) => `24${index}`)].map((number) => `question 1 of many-${number}`));
  assert.deepEqual([await violations(page), await faint(page), await tooWide(page)], [[], [], []]);
  await page.keyboard.type("x");
  assert.deepEqual([await found.count(), await page.textContent("#earlier-hint")], [0, "None with this title"]);
  await page.keyboard.press("Backspace");
  await page.keyboard.press("Tab");
  for (const key of ["End", "ArrowDown", "ArrowUp", "Home", "ArrowDown"]) await page.keyboard.press(key);
  assert.equal(await page.evaluate(() => document.activeElement.textContent), "question 1 of many-240");
  await page.keyboard.press("Tab");
  assert.equal(await focused(page), "rename", "Tab passes the others");
  await page.keyboard.press("Shift+Tab");
  await page.keyboard.press("Enter");
  await page.locator(".turn .bubble", { hasText: "question 1 of many-240" }).waitFor();
  assert.deepEqual(kept.asked.filter((asked) => !asked.includes("turns")), ["threads?limit=100", "threads?limit=100&before=100", "threads?limit=100&before=200"]);
  await page.close();
});

test("what cannot be loaded is said, and can be tried again", async () => {
  const kept = new Kept();
  kept.threads.set("old", turns("old", 25));
  const [page] = await open(kept, "#old");
  await page.getByText("question 25 of old").waitFor();
  kept.status = 500;
  await page.click("#older");
  await page.getByText("Earlier messages could not be loaded. Try again").waitFor();
  kept.status = 200;
  await page.click("#older");
  await page.getByText("question 1 of old").waitFor();
  await page.close();
});

test("a gateway whose log keeps no conversations is asked once, and all is as the stream tells it", async () => {
  const kept = new Kept();
  kept.status = 404;
  const [page] = await open(kept);
  await fresh(page);
  await say(page, "what is 3+3?");
  await turn(page, "completed");
  const asked = kept.asked.length;
  await fresh(page);
  await page.click("#menu summary");
  await page.locator("#earlier button", { hasText: "what is 3+3?" }).first().click();
  await turn(page, "completed");
  assert.equal(kept.asked.length, asked);
  assert.equal(await page.locator("#older").isVisible(), false);
  await page.close();
});

test("no page had a fault or broke the content security policy", () => assert.deepEqual(faults, []));
