/**
 * Sockets of older browser clients, in a real browser: each way in which they offer their credential connects, answers, and
 * is closed with a code that they know. Its requirements are listed at the head of page.test.mjs.
 */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { PASSWORD, URL_OF_PAGE, USER, faults, launch, userContext } from "./browser.mjs";

let browser;
let page;

before(async () => {
  browser = await launch();
  page = await (await userContext(browser)).newPage();
  await page.goto(URL_OF_PAGE);
});

after(() => browser?.close());

async function token() {
  const body = JSON.stringify({ username: USER, password: PASSWORD });
  const answer = await fetch(new URL("auth/login", URL_OF_PAGE), { method: "POST", headers: { "content-type": "application/json" }, body });
  return (await answer.json()).token;
}

/** Opens a socket in the page, asks one question, and returns what came of it. */
const ask = (protocols, path = "ws") =>
  page.evaluate(
    ([protocols, url]) =>
      new Promise((resolve) => {
        const socket = new WebSocket(url, protocols);
        const seen = { protocol: null, text: "", result: null, code: null };
        socket.onopen = () => {
          seen.protocol = socket.protocol;
          const thread_id = `thread-${Math.random()}`;
          seen.thread = thread_id;
          socket.send(JSON.stringify({ type: "start_agent", payload: { user_request: "count to 5", thread_id, context: {}, settings: {} } }));
        };
        socket.onmessage = ({ data }) => {
          const { type, thread_id: thread, payload } = JSON.parse(data);
          if (thread !== seen.thread) return;
          if (type === "partial_result") seen.text += payload.content;
          if (type !== "agent_completed") return;
          seen.result = payload.result;
          socket.close(1000);
        };
        socket.onclose = ({ code }) => resolve({ ...seen, code });
      }),
    [protocols, Object.assign(new URL(path, URL_OF_PAGE), { protocol: URL_OF_PAGE.startsWith("https") ? "wss" : "ws" }).href],
  );

const base64url = (text) => Buffer.from(text).toString("base64url");

for (const [name, offer] of Object.entries({
  "jwt-auth and jwt.": (token) => ["jwt-auth", `jwt.${base64url(token)}`],
  "jwt. alone": (token) => [`jwt.${base64url(token)}`],
  "jwt-auth. alone": (token) => [`jwt-auth.${base64url(token)}`],
  "jwt-auth and bearer.": (token) => ["jwt-auth", `bearer.${token}`],
})) {
  test(`a browser connects with ${name}, and reads its answer`, async () => {
    const offered = offer(await token());
    const { protocol, text, result, code } = await ask(offered);
    assert.deepEqual({ protocol, text, result, code }, { protocol: offered[0], text: "1 2 3 4 5", result: "1 2 3 4 5", code: 1000 });
  });
}

test("a browser connects with a ticket, and a wrong credential is closed with 1008", async () => {
  const headers = { authorization: `Bearer ${await token()}` };
  const { ticket } = await (await fetch(new URL("websocket/ticket", URL_OF_PAGE), { method: "POST", headers })).json();
  const { protocol, result } = await ask(["jwt-auth"], `websocket?ticket=${ticket}`);
  assert.deepEqual([protocol, result], ["jwt-auth", "1 2 3 4 5"]);
  const refused = await ask([`jwt.${base64url("no.token.here")}`]);
  assert.equal(refused.code, 1008);
});

test("no page had a fault", () => assert.deepEqual(faults, []));
