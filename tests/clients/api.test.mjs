/** Requests in a user's name: which token they have, and what happens after a refusal. */
import assert from "node:assert/strict";
import { test } from "node:test";

import { Api, Refused } from "../../runtime/web/api.js";
import { LoginNeeded } from "../../runtime/web/session.js";

const ok = (body) => new Response(JSON.stringify(body));

/** An api, the requests it made, and its answers in turn: a response, or an error. */
function apiWith(...answers) {
  const asked = [];
  globalThis.fetch = async (path, { headers }) => {
    asked.push([path, headers.authorization]);
    const answer = answers.shift();
    if (answer instanceof Error) throw answer;
    return answer;
  };
  let tokens = 1;
  const session = { bearer: async (isFresh) => (isFresh ? `token ${++tokens}` : `token ${tokens}`) };
  return { api: new Api(session), asked };
}

test("a token that has expired on the way is renewed once", async () => {
  const renewed = apiWith(new Response("", { status: 401 }), ok({ a: 1 }));
  assert.deepEqual(await renewed.api.ask("threads"), { a: 1 });
  assert.deepEqual(renewed.asked, [["threads", "Bearer token 1"], ["threads", "Bearer token 2"]]);
  const rejected = apiWith(new Response("", { status: 401 }), new Response("", { status: 401 }));
  await assert.rejects(rejected.api.ask("threads"), { status: 401 });
  assert.equal(rejected.asked.length, 2);
});

test("every failure is a refusal with its status and its pause", async () => {
  for (const [answer, status, after, isMissing] of [
    [new Response("", { status: 404 }), 404, null, true], [new Response("", { status: 405 }), 405, null, true],
    [new Response("", { status: 429, headers: { "retry-after": "3" } }), 429, 3_000, false],
    [new TypeError("no network"), 0, null, false], [new Response("no JSON"), 0, null, false],
  ]) {
    const { api } = apiWith(answer);
    await assert.rejects(api.ask("markdown"), (error) => {
      assert.ok(error instanceof Refused);
      assert.deepEqual([error.status, error.after, error.isMissing], [status, after, isMissing]);
      return true;
    });
  }
  const out = new Api({ bearer: () => Promise.reject(new LoginNeeded("ended")) });
  await assert.rejects(out.ask("markdown"), { status: 401 });
});
