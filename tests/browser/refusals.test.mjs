/**
 * The page in Chromium when something goes wrong: messages that are too long or refused, a frozen gateway, addresses
 * without a target, slow networks. Its requirements are listed at the head of page.test.mjs.
 */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import {
  NEWCOMER, URL_OF_PAGE, cuttable, faults, focused, fresh, launch, live, login, userContext, say, turn, violations, visit,
} from "./browser.mjs";

let browser;
let context;

before(async () => {
  browser = await launch();
  context = await userContext(browser);
  await login(await visit(context));
});

after(() => browser?.close());

/** A page whose frames the test may change. */
async function open(change) {
  const page = await context.newPage();
  const network = await cuttable(page, change);
  await page.goto(URL_OF_PAGE);
  await live(page);
  await fresh(page);
  return [page, network];
}

/** How often a text was written to a socket. */
const written = (network, text) => network.sent.filter((frame) => frame.includes(text)).length;

test("a text that is too long is said to be so before it is sent, and stays where it is", async () => {
  const [page, network] = await open();
  const long = "é".repeat(40_000);
  await page.fill("#message", long);
  assert.match(await page.textContent("#hint"), /Too long by [\d.,]+ bytes/);
  assert.equal(await page.getAttribute("#message", "aria-invalid"), "true");
  await page.press("#message", "Enter");
  assert.deepEqual([await page.inputValue("#message"), await page.locator(".draft").count()], [long, 0]);
  assert.match(await page.textContent("#announcer"), /Too long/);
  assert.equal(written(network, "éé"), 0);
  await page.reload();
  await live(page);
  assert.equal(await page.inputValue("#message"), long, "also over a reload");
  await page.fill("#message", "what is 1+1?");
  assert.match(await page.textContent("#hint"), /^Enter sends/);
  await page.press("#message", "Enter");
  await turn(page, "completed");
  await page.close();
});

test("the longest text that fits is taken", async () => {
  const [page] = await open();
  const most = await page.evaluate(() => {
    const field = document.querySelector("#message");
    const fits = (length) => {
      field.value = "x".repeat(length);
      field.dispatchEvent(new Event("input"));
      return field.getAttribute("aria-invalid") === "false";
    };
    let [low, high] = [1, 70_000];
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (fits(middle)) low = middle;
      else high = middle;
    }
    fits(low);
    return low;
  });
  assert.ok(most > 64_000, String(most));
  await page.press("#message", "Enter");
  await page.locator(".turn:not(.draft)").waitFor();
  await page.close();
});

test("what turns out to be too long comes back to be changed, and what was written later is sent", async () => {
  let longest = null;
  const shorter = (text) => {
    const frame = JSON.parse(text);
    if (frame.type !== "connection_ready" || longest === null) return text;
    return JSON.stringify({ ...frame, limits: { ...frame.limits, message_bytes: longest } });
  };
  const [page, network] = await open(shorter);
  network.hold();
  await network.cut();
  await live(page, "backoff");
  const long = `too long ${"y".repeat(400)}`;
  await say(page, long);
  await say(page, "what is 2+2?");
  longest = 300;
  network.release();
  const draft = page.locator('.draft[data-state="refused"]');
  await draft.waitFor();
  assert.match(await draft.locator(".meta").textContent(), /longer than this gateway accepts/);
  await turn(page, "completed");
  assert.deepEqual([written(network, "yyy"), written(network, "what is 2+2?")], [0, 1]);
  assert.equal(await draft.getByRole("button", { name: "Send again" }).isVisible(), false);
  await draft.getByRole("button", { name: "Edit" }).click();
  await draft.waitFor({ state: "detached" });
  assert.deepEqual([await page.inputValue("#message"), await page.locator(".draft").count()], [long, 0]);
  assert.equal(await focused(page), "message");
  await page.fill("#message", "what is 3+3?");
  await page.keyboard.press("Enter");
  await page.locator(".turn:not(.draft)", { hasText: "what is 3+3?" }).waitFor();
  await page.close();
});

test("a message for which the socket was closed is not sent again, and its user decides", async () => {
  for (const code of [1009, 1007]) {
    const [page, network] = await open();
    network.freeze();
    await say(page, `the culprit of ${code}`);
    await page.locator('.draft[data-state="sent"]').waitFor();
    network.freeze(false);
    await network.cut(code, "message too big");
    const draft = page.locator('.draft[data-state="unknown"]');
    await draft.waitFor();
    await live(page);
    await say(page, "what is 4+4?");
    await turn(page, "completed");
    assert.equal(written(network, `the culprit of ${code}`), 1);
    await page.reload();
    await draft.waitFor();
    await live(page);
    assert.equal(written(network, `the culprit of ${code}`), 1, "nor after a reload");
    // The keyboard suffices.
    await page.focus("#message");
    for (let count = 0; count < 10; count++) {
      await page.keyboard.press("Shift+Tab");
      if ((await page.evaluate(() => document.activeElement.textContent)) === "Discard") break;
    }
    await page.keyboard.press("Enter");
    await draft.waitFor({ state: "detached" });
    await page.close();
  }
});

test("a message that the gateway refuses by name is settled, and can be changed or sent again", async () => {
  const [page, network] = await open();
  network.freeze();
  await say(page, "refuse me");
  await page.locator('.draft[data-state="sent"]').waitFor();
  const { message_id } = JSON.parse(network.sent.findLast((frame) => frame.includes("refuse me")));
  network.tell({ type: "error", code: "invalid_field", message: "A field is missing.", message_id });
  const draft = page.locator('.draft[data-state="refused"]');
  await draft.waitFor();
  assert.match(await draft.locator(".meta").textContent(), /Not sent. A field is missing./);
  network.freeze(false);
  await network.cut();
  await live(page, "live");
  assert.equal(written(network, "refuse me"), 1, "it is not repeated");
  await draft.getByRole("button", { name: "Send again" }).click();
  await turn(page, "completed");
  assert.equal(written(network, "refuse me"), 2);
  await page.close();
});

test("a gateway that is frozen is noticed within five seconds of a message", async () => {
  const [page, network] = await open();
  network.freeze();
  const start = performance.now();
  await say(page, "is anybody there?");
  await page.locator('#status:not([data-state="live"])').waitFor();
  const took = performance.now() - start;
  assert.ok(took < 5_500, `${took} ms`);
  network.freeze(false);
  await turn(page, "completed");
  await page.close();
});

test("a device without a network is said to be so at once", async () => {
  const [page] = await open();
  await context.setOffline(true);
  await page.getByText("You are offline").waitFor({ timeout: 2_000 });
  await context.setOffline(false);
  await live(page);
  await page.getByText("You are offline").waitFor({ state: "detached" });
  await page.close();
});

test("a page that is loaded without a network says so, and goes on when there is one", async () => {
  const page = await context.newPage();
  await page.addInitScript(() => Object.defineProperty(navigator, "onLine", { get: () => globalThis.isOnline === true }));
  let isOffline = true;
  await page.route(/\/auth\/refresh$/, (route) => (isOffline ? route.abort() : route.continue()));
  await page.goto(URL_OF_PAGE);
  await page.getByText("You are offline. Trying again…").waitFor();
  isOffline = false;
  await page.evaluate(() => {
    globalThis.isOnline = true;
    dispatchEvent(new Event("online"));
  });
  await live(page);
  await page.close();
});

test("an answer that the model's limit cut off says so", async () => {
  const cut = (text) => {
    const frame = JSON.parse(text);
    return frame.type === "agent_completed" ? JSON.stringify({ ...frame, data: { ...frame.data, truncated: true } }) : text;
  };
  const [page] = await open(cut);
  await say(page, "what is 5+5?");
  const last = await turn(page, "completed");
  assert.match(await last.locator(".end").textContent(), /cut off/);
  assert.equal(await last.locator(".end").isVisible(), true);
  await page.close();
});

test("an address that names no thread opens the page all the same, and can be written in", async () => {
  for (const hash of ["#100%", "#%", "#%ff", `#${"long".repeat(100)}`, "#%E0%A4%A", "#a%00b", "##", "#<b>&'\""]) {
    const page = await visit(context, hash);
    await live(page);
    await say(page, `what is 6+6? ${hash.length}`);
    await turn(page, "completed");
    await page.close();
  }
});

test("a restart that was announced is told, while what is being answered goes on", async () => {
  const [page, network] = await open();
  await say(page, "count to 90");
  await page.locator(".answer", { hasText: /\b3\b/ }).waitFor();
  network.tell({ type: "going_away", reconnect: true, reconnect_after_ms: 60_000 });
  await live(page, "leaving");
  assert.match(await page.textContent("#banner"), /about to restart/);
  const shown = await page.locator(".answer").last().textContent();
  await page.waitForFunction((before) => [...document.querySelectorAll(".answer")].at(-1).textContent.length > before, shown.length + 8);
  await say(page, "what is 7+7?");
  await page.locator('.draft[data-state="waiting"]').waitFor();
  await network.cut(4000, "going away");
  await live(page);
  await page.locator(".turn:not(.draft)", { hasText: "what is 7+7?" }).waitFor();
  await page.close();
});

test("a reload asks for little, one thing after the other for less", async () => {
  // Earlier conversations would be read again, at the network's pace.
  const newcomer = await userContext(browser);
  const page = await visit(newcomer);
  await login(page, NEWCOMER);
  await page.reload();
  await live(page);
  const loaded = await page.evaluate(() =>
    performance.getEntriesByType("resource").filter(({ transferSize }) => transferSize > 0).map(({ name }) => new URL(name).pathname));
  const asked = loaded.filter((path) => !path.startsWith("/threads"));
  assert.deepEqual(asked, ["/auth/refresh"], "all else but what was said is kept");
  const session = await newcomer.newCDPSession(page);
  await session.send("Network.enable");
  // Slow 3G as in Lighthouse.
  const slow = { offline: false, latency: 400, downloadThroughput: 50_000, uploadThroughput: 50_000 };
  await session.send("Network.emulateNetworkConditions", slow);
  const start = performance.now();
  await page.reload();
  await live(page);
  const took = Math.round(performance.now() - start);
  console.log(`live ${took} ms after a reload on slow 3G`);
  assert.ok(took < 4_000, `${took} ms`);
  await newcomer.close();
});

test("no rule of axe is broken, at three widths, in light and in dark", async () => {
  const found = [];
  const look = async (page, what) => found.push(...(await violations(page)).map((rule) => `${what}: ${rule}`));
  const stranger = await (await userContext(browser)).newPage();
  await stranger.goto(URL_OF_PAGE);
  await stranger.locator("#login").waitFor();
  const [page, network] = await open();
  await say(page, "what is 8+8?");
  await turn(page, "completed");
  for (const colorScheme of ["light", "dark"]) {
    for (const width of [320, 768, 1280]) {
      for (const each of [stranger, page]) {
        await each.emulateMedia({ colorScheme });
        await each.setViewportSize({ width, height: 640 });
      }
      const at = `${colorScheme}, ${width} px`;
      await look(stranger, `login, ${at}`);
      await look(page, `chat, ${at}`);
      await page.click("#menu summary");
      await look(page, `menu, ${at}`);
      await page.keyboard.press("Escape");
    }
  }
  network.hold();
  await network.cut();
  await live(page, "backoff");
  await say(page, "waits");
  await look(page, "a lost connection and a draft");
  await stranger.context().close();
  await page.close();
  assert.deepEqual(found, []);
});

test("no page had a fault or broke the content security policy", () => assert.deepEqual(faults, []));
