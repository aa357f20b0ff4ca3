/**
 * The page, against a real gateway with its built-in agent.
 *
 * LOCKSTEP_URL                      the gateway, such as http://127.0.0.1:8080/
 * LOCKSTEP_USER, LOCKSTEP_PASSWORD  an account that may log in
 * LOCKSTEP_NEWCOMER                 an account with the same password and without conversations
 * LOCKSTEP_CONTROL                  controls the gateway, with one word: `restart` (kill it, start it again on
 *                                   the same data), `drain` (ask it to end, start it again), `revoke` (every session of
 *                                   the user), `passwd` (set the same password by the command line), `notice` (send the
 *                                   user "Back at noon.") or `expire` (let access tokens end within half a minute)
 * BROWSER                           `firefox` for Firefox in place of Chromium
 * CHROMIUM, FIREFOX                 the browser; by default Debian's
 * WEB                               a directory with the page, in place of the one in the gateway's binary
 *
 * The tests of a file run one after the other, in one browser, as one user who logs in rarely: logins are limited.
 */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import {
  PASSWORD, URL_OF_PAGE, USER, addressOf, control, counted, counts, cuttable, faint, faults, focused, fresh, launch, live,
  login, onlyInChromium, userContext, press, say, threadOf, tooWide, turn, visit,
} from "./browser.mjs";

let browser;
let context;
let page;

before(async () => {
  browser = await launch();
  context = await userContext(browser);
});

after(() => browser?.close());

/** Long enough for something to happen in the middle. */
const LONG = "count to 90";

/** Asserts that the answer to `LONG` is complete: every number once, in order. */
async function assertCounted(shown) {
  await turn(shown, "completed");
  assert.deepEqual(await counted(shown), Array.from({ length: 90 }, (_, index) => index + 1));
}

test("a wrong password is refused in words, and the right one opens the chat", async () => {
  page = await visit(context);
  assert.equal(await focused(page), "username");
  await page.click("#login-button");
  assert.equal(await page.textContent("#login-error"), "Enter your user name.");
  await page.fill("#username", USER);
  await page.fill("#password", `not ${PASSWORD}`);
  await page.keyboard.press("Enter");
  await page.getByText("The user name or the password is wrong.").waitFor();
  assert.equal(await focused(page), "password");
  await page.fill("#password", PASSWORD);
  await page.keyboard.press("Enter");
  await live(page);
  assert.equal(await focused(page), "message");
  const kept = await page.evaluate(() => JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.cookie]));
  assert.doesNotMatch(kept, /token|eyJ/, "no credential is where a script can read it");
});

test("an answer shows the tool that was called, its arguments, its result, and the text", async () => {
  await fresh(page);
  await say(page, "what is 2+3*4?");
  const last = await turn(page, "completed");
  assert.equal(await last.locator(".bubble").textContent(), "what is 2+3*4?");
  const tool = last.locator(".tool").first();
  assert.equal(await tool.locator(".name").textContent(), "calculator");
  assert.equal(await tool.locator(".badge").textContent(), "Done");
  assert.match(await tool.textContent(), /2\s*\+\s*3\s*\*\s*4/);
  assert.match(await tool.locator(".output").textContent(), /14/);
  assert.match(await last.locator(".answer").last().textContent(), /14/);
  assert.equal(await page.inputValue("#message"), "");
  assert.match(await page.textContent("#announcer"), /^Answer: .*14/s, "who cannot see it is told");
});

test("an answer is shown as it comes, event by event", async () => {
  await fresh(page);
  const seen = await page.evaluateHandle(() => {
    const seen = new Set();
    const look = () => document.querySelectorAll(".answer").forEach((node) => seen.add(node.textContent));
    new MutationObserver(look).observe(document.querySelector("#turns"), { childList: true, subtree: true, characterData: true });
    return seen;
  });
  await say(page, "count to 30");
  await turn(page, "completed");
  assert.deepEqual(await counted(page), Array.from({ length: 30 }, (_, index) => index + 1));
  const states = await seen.evaluate((set) => [...set]);
  assert.ok(states.length > 15, `the answer was drawn in ${states.length} states`);
  for (const [index, state] of states.entries()) assert.ok(index === 0 || state.startsWith(states[index - 1]), "it only grows");
});

test("what the agent says of its work is folded when it is over, and can be looked at", async () => {
  await fresh(page);
  await say(page, "what is 12*12?");
  const last = await turn(page, "completed");
  const thinking = last.locator(".thinking").first();
  assert.equal(await thinking.getAttribute("open"), null);
  await thinking.locator("summary").click();
  assert.equal(await thinking.locator(".thoughts li").first().isVisible(), true);
});

test("what a user writes is text, never markup", async () => {
  await fresh(page);
  const text = '<img src=x onerror="document.title=1"><b>bold</b> & [x](javascript:alert(1))';
  await say(page, text);
  const last = await turn(page, "completed");
  assert.equal(await last.locator(".bubble").textContent(), text);
  assert.equal(await page.locator(".turns img, .turns b, .turns a").count(), 0);
});

test("a reload in mid-answer loses nothing and shows nothing twice", async () => {
  await fresh(page);
  await say(page, LONG);
  await counts(page, 5);
  await page.reload();
  await turn(page, "open");
  await assertCounted(page);
  assert.equal(await page.locator(".turn").count(), 1);
});

test("a draft and the conversation survive a reload, and so does going back", async () => {
  await fresh(page);
  await say(page, "hello there");
  await turn(page, "completed");
  const first = await addressOf(page);
  await page.fill("#message", "not sent yet");
  await page.reload();
  await turn(page, "completed");
  assert.equal(await page.inputValue("#message"), "not sent yet");
  await fresh(page);
  assert.notEqual(await addressOf(page), first);
  assert.equal(await page.inputValue("#message"), "");
  await page.goBack();
  await turn(page, "completed");
  assert.equal(await page.inputValue("#message"), "not sent yet");
  await page.fill("#message", "");
  await page.click("#menu summary");
  assert.match(await page.locator('#earlier [aria-current="true"]').textContent(), /hello there/);
  await page.keyboard.press("Escape");
});

test("a second tab shows the same conversation as it goes on", async () => {
  await fresh(page);
  await say(page, LONG);
  await counts(page, 3);
  const second = await visit(context);
  await turn(second, "open");
  await live(second);
  assert.equal(await threadOf(second), await threadOf(page));
  await Promise.all([assertCounted(page), assertCounted(second)]);
  await say(second, "what is 6*7?");
  const last = await turn(page, "completed");
  await page.getByText("what is 6*7?").waitFor();
  assert.match(await last.locator(".bubble").textContent(), /what is 6\*7\?/);
  await second.close();
});

test("what the service says is shown where the user is, also after a reload", async () => {
  await fresh(page);
  await say(page, "what is 6*7?");
  await turn(page, "completed");
  await control("notice");
  const notice = page.locator(".turn.notice", { hasText: "Back at noon." });
  await notice.waitFor();
  assert.equal(await notice.locator("h2:visible").textContent(), "Notice");
  await page.reload();
  await notice.waitFor();
  assert.deepEqual([await notice.count(), await page.locator(".turn").count()], [1, 2]);
});

test("an answer can be stopped", async () => {
  await fresh(page);
  await say(page, LONG);
  await counts(page, 2);
  await page.click("#stop");
  const last = await turn(page, "failed");
  assert.equal(await last.locator(".end").textContent(), "Stopped.");
  await page.locator("#stop").waitFor({ state: "hidden" });
  const numbers = await counted(page);
  assert.ok(numbers.length >= 2 && numbers.length < 90);
  assert.deepEqual(numbers, numbers.map((_, index) => index + 1));
});

test("what is written while the connection is lost is sent once when it is back", async () => {
  const other = await context.newPage();
  const network = await cuttable(other);
  await other.goto(URL_OF_PAGE);
  await live(other);
  await fresh(other);
  network.hold();
  await network.cut();
  await live(other, "backoff");
  assert.match(await other.textContent("#status-text"), /^Reconnecting/);
  await say(other, "what is 20+3?");
  await other.locator('.draft[data-state="waiting"]').waitFor();
  assert.equal(await other.locator(".draft .meta").textContent(), "Waiting for the connection");
  await other.reload();
  await other.locator('.draft[data-state="waiting"]').waitFor();
  network.release();
  const last = await turn(other, "completed");
  assert.match(await last.locator(".answer").last().textContent(), /23/);
  assert.deepEqual([await other.locator(".draft").count(), await other.locator(".turn").count()], [0, 1]);
  await other.close();
});

test("a connection that is cut in mid-answer goes on where it was", async () => {
  const other = await context.newPage();
  const network = await cuttable(other);
  await other.goto(URL_OF_PAGE);
  await live(other);
  await fresh(other);
  await say(other, LONG);
  await counts(other, 3);
  await network.cut();
  await live(other, "backoff");
  await assertCounted(other);
  await other.close();
});

test("a gateway that says to stay away is obeyed, and the page says why and what to do", async () => {
  const other = await context.newPage();
  const network = await cuttable(other);
  await other.goto(URL_OF_PAGE);
  await live(other);
  for (const [code, words] of [[4505, /too many connections.*Close another tab/i], [4506, /newer connection/], [4508, /Wait a moment/]]) {
    await network.cut(code, "by the test");
    await live(other, "stopped");
    assert.match(await other.textContent("#banner"), words);
    await other.getByRole("button", { name: "Connect again" }).click();
    await live(other);
  }
  await other.close();
});

test("on a phone nothing is wider than the screen, and everything can be touched", async () => {
  await page.setViewportSize({ width: 320, height: 568 });
  await fresh(page);
  await say(page, `what is 2+3*4? ${"x".repeat(300)}`);
  await turn(page, "completed");
  assert.deepEqual(await tooWide(page), []);
  await page.click("#menu summary");
  assert.deepEqual(await tooWide(page), []);
  const sizes = await page.locator("button:visible, summary:visible").evaluateAll((nodes) =>
    nodes.map((node) => ({ name: node.textContent, height: node.getBoundingClientRect().height })));
  assert.deepEqual(sizes.filter(({ height }) => height < 24), [], "WCAG 2.2, 2.5.8");
  await page.keyboard.press("Escape");
  await page.setViewportSize({ width: 1280, height: 720 });
});

onlyInChromium("it cannot be told to prefer dark")("every text can be read, in light and in dark", async () => {
  const grounds = [];
  for (const colorScheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme });
    await page.click("#menu summary");
    assert.deepEqual(await faint(page), [], colorScheme);
    await page.keyboard.press("Escape");
    grounds.push(await page.evaluate(() => getComputedStyle(document.body).backgroundColor));
  }
  const [light, dark] = grounds.map((color) => color.match(/\d+/g).reduce((sum, channel) => sum + Number(channel), 0));
  assert.ok(light > 600 && dark < 150, grounds.join(" and "));
  await page.emulateMedia({ colorScheme: "light", reducedMotion: "reduce" });
  await fresh(page);
  await say(page, LONG);
  await counts(page, 1);
  const moving = await page.evaluate(() => document.getAnimations().length);
  assert.equal(moving, 0, "nothing moves for who asked for that");
  await page.click("#stop");
  await turn(page, "failed");
});

test("the keyboard is enough: log in, ask, stop, look at thoughts, begin again, log out", async () => {
  const own = await userContext(browser);
  const alone = await visit(own);
  await alone.keyboard.type(USER);
  await alone.keyboard.press("Tab");
  await alone.keyboard.type(PASSWORD);
  await alone.keyboard.press("Enter");
  await live(alone);
  assert.equal(await focused(alone), "message");
  await press(alone, "Shift+Tab", "new");
  await alone.keyboard.press("Enter");
  assert.equal(await focused(alone), "message");
  await alone.keyboard.type(LONG);
  await alone.keyboard.press("Enter");
  await counts(alone, 2);
  await press(alone, "Tab", "stop");
  await alone.keyboard.press("Enter");
  await turn(alone, "failed");
  assert.equal(await focused(alone), "message", "focus is not lost with the button");
  await alone.keyboard.type("what is 4*4?");
  await alone.keyboard.press("Enter");
  await turn(alone, "completed");
  await press(alone, "Shift+Tab", "summary");
  const isOpen = () => alone.locator(".thinking").first().evaluate((node) => node.open);
  assert.equal(await isOpen(), false);
  await alone.keyboard.press("Enter");
  assert.equal(await isOpen(), true);
  await alone.evaluate(() => document.querySelector("#menu summary").focus());
  await alone.keyboard.press("Enter");
  await press(alone, "Tab", "logout");
  await alone.keyboard.press("Enter");
  await alone.getByText("You are logged out.").waitFor();
  assert.equal(await focused(alone), "username");
  await alone.reload();
  await alone.locator("#login").waitFor();
  await own.close();
});

test("a gateway that is restarted in mid-answer is found again, and the answer's end is told once", async () => {
  await fresh(page);
  await say(page, LONG);
  await counts(page, 3);
  await control("restart");
  const last = await turn(page, "failed");
  assert.match(await last.locator(".end").textContent(), /The gateway was restarted/);
  const numbers = await counted(page);
  assert.deepEqual(numbers, numbers.map((_, index) => index + 1), "what came before is kept, in order");
  await live(page);
  await say(page, "what is 5*5?");
  await page.getByText("what is 5*5?").waitFor();
  assert.match(await (await turn(page, "completed")).locator(".answer").last().textContent(), /25/);
  assert.equal(await page.locator(".turn").count(), 2);
});

test("a gateway that drains says so, and the page comes back", async () => {
  await fresh(page);
  const told = page.waitForFunction(() => /[Rr]estarting/.test(document.querySelector("#status-text").textContent));
  await Promise.all([told, control("drain")]);
  await live(page);
  await say(page, "what is 7+8?");
  assert.match(await (await turn(page, "completed")).locator(".answer").last().textContent(), /15/);
});

onlyInChromium("it takes half a minute, of which the browser has no part")("a login that expires is renewed without a word of the user's", async () => {
  await fresh(page);
  const renewed = page.waitForResponse((response) => response.url().includes("/auth/refresh") && response.ok());
  await Promise.all([renewed, control("expire")]);
  await live(page);
  await say(page, "what is 9+9?");
  assert.match(await (await turn(page, "completed")).locator(".answer").last().textContent(), /18/);
});

test("who logs out in one tab is logged out in the others", async () => {
  const second = await visit(context);
  await live(second);
  await second.click("#menu summary");
  await second.click("#logout");
  await second.getByText("You are logged out.").waitFor();
  await page.getByText("You have logged out in another tab.").waitFor();
  assert.equal(await page.locator(".turn").count(), 0, "nothing of the conversation is left");
  await second.close();
  await login(page);
});

test("a login that is revoked ends at the log in, and leads back to where one was", async () => {
  await fresh(page);
  await say(page, "what is 3*3?");
  await turn(page, "completed");
  await page.fill("#message", "half a thought");
  await control("revoke");
  await page.locator("#login").waitFor();
  assert.match(await page.textContent("#login-why"), /revoked|ended/);
  assert.equal(await page.inputValue("#username"), USER);
  await page.fill("#password", PASSWORD);
  await page.keyboard.press("Enter");
  await live(page);
  assert.match(await page.locator(".turn .answer").textContent(), /9/);
  assert.equal(await page.inputValue("#message"), "half a thought");
});

test("a password that the command line sets ends the login on the page that is open", async () => {
  await control("passwd");
  await page.locator("#login").waitFor();
  await page.fill("#password", PASSWORD);
  await page.keyboard.press("Enter");
  await live(page);
});

test("no page had a fault or broke the content security policy", () => assert.deepEqual(faults, []));
