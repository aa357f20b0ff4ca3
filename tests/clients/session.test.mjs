/** Who is logged in, with answers that arrive late or never, and frozen tabs. In the test's time. */
import assert from "node:assert/strict";
import { afterEach, beforeEach, mock, test } from "node:test";

import { LoginNeeded, LoginRefused, Session } from "../../runtime/web/session.js";

const answer = (status, body) => ({ status, ok: status < 300, headers: new Headers(), text: async () => JSON.stringify(body) });
const GOOD = answer(200, { token: "t", user: "ada" });

/** Runs all pending microtasks. */
const settled = async () => {
  for (let count = 0; count < 20; count++) await Promise.resolve();
};

let asked;
let locks;

class Channel {
  onmessage = null;
  postMessage() {}
}

/** A request that is answered when the test says so, or never. */
function fetched(path, { signal }) {
  return new Promise((resolve, reject) => {
    const request = { path, resolve, reject, isOver: false };
    signal.addEventListener("abort", () => {
      request.isOver = true;
      reject(new DOMException("aborted", "AbortError"));
    });
    asked.push(request);
  });
}

/** A browser's lock: one holder at a time, in the order of requests, until its work is done. */
class Locks {
  waiting = [];
  isHeld = false;

  request(name, { signal }, run) {
    return new Promise((resolve, reject) => {
      const turn = { run, resolve, reject };
      signal.addEventListener("abort", () => {
        if (!this.waiting.includes(turn)) return;
        this.waiting = this.waiting.filter((other) => other !== turn);
        reject(new DOMException("aborted", "AbortError"));
      });
      this.waiting.push(turn);
      this.next();
    });
  }

  next() {
    const turn = this.isHeld ? undefined : this.waiting.shift();
    if (!turn) return;
    this.isHeld = true;
    const done = () => {
      this.isHeld = false;
      this.next();
    };
    turn.run().then(turn.resolve, turn.reject).then(done);
  }
}

beforeEach(() => {
  asked = [];
  locks = new Locks();
  mock.timers.enable({ apis: ["setTimeout"] });
  globalThis.fetch = fetched;
  globalThis.BroadcastChannel = Channel;
  Object.defineProperty(globalThis, "navigator", { value: { locks }, configurable: true });
});

afterEach(() => mock.timers.reset());

const session = () => new Session({ onLogout() {} });

test("a refresh that is never answered is given up, and tried again", async () => {
  const resumed = session();
  const token = resumed.token();
  await settled();
  mock.timers.tick(8_000);
  await settled();
  assert.deepEqual([asked.length, asked[0].isOver], [1, true]);
  mock.timers.tick(1_000);
  await settled();
  assert.equal(asked.length, 2);
  asked[1].resolve(GOOD);
  assert.equal(await token, "t");
  assert.equal(resumed.user, "ada");
});

test("an answer whose body never ends is given up, too", async () => {
  const token = session().resume();
  await settled();
  const endless = new Promise((resolve, reject) => void (asked[0].end = reject));
  asked[0].resolve({ ...GOOD, text: () => endless });
  await settled();
  mock.timers.tick(8_000);
  asked[0].end(new DOMException("aborted", "AbortError"));
  await assert.rejects(token, { name: "AbortError" });
  assert.equal(asked[0].isOver, true);
});

test("a tab that is frozen while it has its turn does not freeze the others", async () => {
  locks.isHeld = true;
  const token = session().token();
  await settled();
  mock.timers.tick(3_999);
  await settled();
  assert.equal(asked.length, 0, "it waits for a while");
  mock.timers.tick(1);
  await settled();
  assert.equal(asked.length, 1);
  asked[0].resolve(GOOD);
  assert.equal(await token, "t");
  assert.equal(locks.waiting.length, 0);
});

test("tabs take turns while each is answered", async () => {
  const tokens = [session(), session()].map((tab) => tab.token());
  await settled();
  assert.equal(asked.length, 1);
  asked[0].resolve(GOOD);
  assert.equal(await tokens[0], "t");
  await settled();
  assert.equal(asked.length, 2);
  asked[1].resolve(GOOD);
  assert.equal(await tokens[1], "t");
});

test("a browser without locks, or that forbids them, does without", async () => {
  for (const value of [{}, { locks: { request: () => Promise.reject(new DOMException("no", "SecurityError")) } }]) {
    Object.defineProperty(globalThis, "navigator", { value, configurable: true });
    const resumed = session().resume();
    await settled();
    asked.at(-1).resolve(GOOD);
    assert.equal(await resumed, true);
  }
});

test("an answer that says no ends the waiting at once", async () => {
  const token = session().token();
  await settled();
  asked[0].resolve(answer(401, {}));
  await assert.rejects(token, LoginNeeded);
  const login = session().login("ada", "wrong");
  await settled();
  asked[1].resolve(answer(401, {}));
  await assert.rejects(login, LoginRefused);
});

test("a login may take longer, for a password is slow to check, but not for ever", async () => {
  const login = session().login("ada", "right");
  await settled();
  mock.timers.tick(29_999);
  await settled();
  assert.equal(asked[0].isOver, false);
  mock.timers.tick(1);
  await assert.rejects(login, /cannot be reached/);
});

test("a request gets the token that is there until it is about to end, and a fresh one if it asks", async () => {
  for (const [seconds, isFresh, asks] of [[900, false, 1], [900, true, 2], [4, false, 2], [undefined, false, 2]]) {
    asked = [];
    const tab = session();
    const resumed = tab.resume();
    await settled();
    asked[0].resolve(answer(200, { token: "first", user: "ada", expires_in: seconds }));
    await resumed;
    assert.equal(await tab.token(), "first");
    const bearer = tab.bearer(isFresh);
    await settled();
    assert.equal(asked.length, asks, `${seconds} s`);
    if (asks === 2) asked[1].resolve(answer(200, { token: "second", user: "ada" }));
    assert.equal(await bearer, asks === 2 ? "second" : "first");
  }
});

test("a gateway without a login of its own is found out at once, and tokens come from the user", async () => {
  for (const status of [404, 405]) {
    asked = [];
    const tab = session();
    const resumed = tab.resume();
    await settled();
    asked[0].resolve(answer(status, null));
    assert.deepEqual([await resumed, tab.isForeign], [false, true]);
    for (const bad of ["", " ", "two words", "umläut", "x".repeat(20_000)]) assert.throws(() => tab.present(bad), LoginRefused);
    const jwt = `e30.${Buffer.from(JSON.stringify({ sub: "Zoë" })).toString("base64url")}.sig`;
    tab.present(` Bearer ${jwt}\n`);
    assert.equal(tab.user, "Zoë");
    assert.deepEqual([await tab.token(), await tab.bearer(false)], [jwt, jwt]);
    await assert.rejects(tab.token(), { reason: "foreign" });
    await assert.rejects(tab.bearer(true), { reason: "foreign" });
    tab.present("opaque");
    assert.deepEqual([tab.user, await tab.token()], [null, "opaque"]);
    await tab.logout(false);
    await assert.rejects(tab.bearer(false), { reason: "foreign" });
    assert.equal(asked.length, 1, "nothing is asked of a login that is not there");
  }
});
