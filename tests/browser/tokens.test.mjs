/**
 * The page in Chromium with a gateway without a login of its own, for which the user brings a token. Its requirements
 * are listed at the head of page.test.mjs.
 */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { PASSWORD, URL_OF_PAGE, USER, faults, focused, launch, live, userContext, say, turn, violations } from "./browser.mjs";

let browser;
let context;

before(async () => {
  browser = await launch();
  context = await userContext(browser);
});

after(() => browser?.close());

/** A token as another issuer would make it. */
async function issued() {
  const body = JSON.stringify({ username: USER, password: PASSWORD });
  const answer = await fetch(new URL("auth/login", URL_OF_PAGE), { method: "POST", headers: { "content-type": "application/json" }, body });
  return (await answer.json()).token;
}

/** The page of a gateway without login routes. */
async function open() {
  const page = await context.newPage();
  const told = [];
  page.on("console", (message) => told.push(message.text()));
  page.on("request", (request) => told.push(request.url()));
  await page.route(/\/auth\//, (route) => route.fulfill({ status: 404 }));
  await page.goto(`${URL_OF_PAGE}#tokens-${Date.now()}`);
  await page.locator("#token-entry").waitFor({ timeout: 5_000 });
  return [page, told];
}

async function paste(page, token) {
  await page.fill("#token", token);
  await page.press("#token", "Enter");
}

test("it is said at once that a token is needed, and with one the chat opens", async () => {
  const [page, told] = await open();
  assert.match(await page.textContent("#token-why"), /no login of its own.*the service that issues its logins/);
  assert.equal(await focused(page), "token");
  assert.deepEqual(await violations(page), []);
  await page.click("#token-button");
  assert.equal(await page.textContent("#token-error"), "Paste a token.");
  await paste(page, "two words");
  assert.match(await page.textContent("#token-error"), /not a token/);
  await paste(page, "no.token.here");
  await page.getByText("The gateway did not accept this token.").waitFor();
  const token = await issued();
  await paste(page, ` Bearer ${token}\n`);
  await live(page);
  await say(page, "what is 2+3*4?");
  const answer = (await turn(page, "completed")).locator(".answer").last();
  await answer.locator("p").waitFor();
  assert.match(await answer.textContent(), /14/);
  const kept = await page.evaluate(() => JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.cookie, location.href, history.state]));
  assert.ok(![kept, ...told].some((text) => text.includes(token) || text.includes("no.token.here")), "in no storage, address or console");
  await page.click("#menu summary");
  assert.equal(await page.textContent("#who"), USER);
  await page.reload();
  await page.locator("#token-entry").waitFor();
  await paste(page, token);
  await live(page);
  await page.click("#menu summary");
  await page.getByRole("button", { name: "Forget the token" }).click();
  await page.getByText("The token is forgotten.").waitFor();
  assert.equal(await page.locator(".turn").count(), 0);
  await page.close();
});

test("before a token expires another is asked for, and after that the chat goes on where it was", async () => {
  const [page] = await open();
  await paste(page, await issued());
  await live(page);
  await page.fill("#message", "half a thought");
  const banner = page.locator("#banner-text", { hasText: "Your token is about to expire." });
  await banner.waitFor();
  await page.getByRole("button", { name: "Paste a token" }).click();
  await page.getByRole("button", { name: "Back to the conversation" }).click();
  assert.equal(await focused(page), "message");
  await page.getByRole("button", { name: "Paste a token" }).click();
  await paste(page, await issued());
  await live(page);
  await banner.waitFor({ state: "hidden" });
  await page.getByText("Your token has expired.").waitFor({ timeout: 60_000 });
  await paste(page, await issued());
  await live(page);
  assert.equal(await page.inputValue("#message"), "half a thought");
  await page.close();
});

test("no page had a fault or broke the content security policy", () => assert.deepEqual(faults, []));
