/** The client around the machine, with the test's sockets and time: first rule by rule, then at random. */
import assert from "node:assert/strict";
import { test } from "node:test";

import { BOUNDS, Client, MAX_REPLIES, PROTOCOL, RequestError, newId } from "../../runtime/web/client.js";
import { Clock, SimpleGateway, chance, sockets } from "./fake.mjs";

const settled = () => new Promise((resolve) => setImmediate(resolve));

/** A client with its environment, and the events it emitted. */
function world(options = {}) {
  const clock = new Clock();
  const { FakeSocket, made, newest } = sockets();
  const tokens = [];
  const token = () => new Promise((resolve, reject) => tokens.push({ resolve, reject }));
  const client = new Client({
    url: "ws://gateway/ws", token, begin: "earliest", WebSocket: FakeSocket, timers: clock, random: () => 1, ...options,
  });
  const told = [];
  for (const type of ["event", "ready", "reset", "accepted", "refused", "unknown", "notice", "error", "loginneeded"]) {
    client.addEventListener(type, ({ detail }) => told.push([type, detail]));
  }
  const states = [];
  client.addEventListener("status", ({ detail }) => states.push(detail));
  return { client, clock, made, newest, tokens, told, states };
}

const READY = {
  type: "connection_ready", connection_id: "c1", user_id: "u", epoch: 3, offset: 6, resumed: true, mode: "ready",
  limits: {}, heartbeat_ms: 7_000, server_time: 1_000,
};
const event = (previous, offset, timestamp = 0) => ({
  type: "agent_thinking", offset, previous, run_id: "r", thread_id: null, timestamp, data: {},
});

async function live(options, ready = READY) {
  const all = world(options);
  all.client.connect();
  all.tokens[0].resolve("first");
  await settled();
  all.newest().open();
  all.newest().say(ready);
  all.newest().take();
  return all;
}

test("a token is got before the first socket is opened, and presented on it", async () => {
  const { client, made, tokens, newest, states, told } = world();
  client.connect();
  assert.deepEqual([made.length, tokens.length], [0, 1]);
  tokens[0].resolve("secret");
  await settled();
  assert.deepEqual([newest().url, newest().protocols], ["ws://gateway/ws", [PROTOCOL]]);
  newest().open();
  assert.deepEqual(newest().take(), [{ type: "auth", token: "secret", resume: "earliest" }]);
  newest().say(READY);
  assert.deepEqual(states.map(({ state }) => state), ["connecting", "authenticating", "live"]);
  assert.deepEqual(told, [["ready", READY]]);
});

test("who leaves while the token is on its way is not connected", async () => {
  const { client, made, tokens } = world();
  client.connect();
  client.disconnect();
  tokens[0].resolve("late");
  await settled();
  assert.equal(made.length, 0);
  client.connect();
  assert.equal(made.length, 1, "the token is kept");
});

test("a provider that gives no token says that the user must log in", async () => {
  const { client, tokens, told, made } = world();
  client.connect();
  const error = new Error("401");
  tokens[0].reject(error);
  await settled();
  assert.deepEqual([told, made.length], [[["loginneeded", { error }]], 0]);
});

test("the heartbeat is the one that the gateway asks for, and two silences in a row find a dead gateway", async () => {
  const { client, clock, newest, made } = await live();
  clock.pass(6_999);
  assert.deepEqual(newest().take(), []);
  clock.pass(1);
  assert.deepEqual(newest().take(), [{ type: "ping" }]);
  newest().say({ type: "pong" });
  clock.pass(7_000);
  assert.deepEqual(newest().take(), [{ type: "ping" }]);
  clock.pass(BOUNDS.pong - 1);
  assert.equal(client.status.state, "live");
  clock.pass(1);
  assert.deepEqual([client.status.state, newest().readyState, made.length], ["backoff", 3, 1]);
});

test("a gateway that falls silent while something is awaited is found within five seconds", async () => {
  const waiting = await live();
  waiting.client.send("hello");
  const reading = await live();
  reading.newest().say(event(6, 7));
  for (const { clock, made } of [waiting, reading]) {
    assert.equal(made.length, 1);
    clock.pass(4_999);
    assert.equal(made.length, 2);
  }
});

test("ready and closed, again and again, is tried less and less", async () => {
  const { clock, newest, made } = await live();
  const start = clock.now();
  while (clock.now() - start < 30_000) {
    newest().end(1011);
    clock.pass(clock.pending[0]);
    newest().open();
    newest().say(READY);
  }
  assert.ok(made.length < 12, `${made.length} attempts in half a minute`);
  clock.pass(BOUNDS.stable);
  newest().say({ type: "pong" });
  newest().end(1011);
  assert.equal(clock.pending[0], BOUNDS.backoff, "it has lasted");
});

test("a pause is between half and the whole of what is ordered", async () => {
  for (const [random, after] of [[0, 100], [0.5, 150], [1, 200]]) {
    const { client, clock, newest, made } = await live({ random: () => random });
    newest().end(1006);
    assert.equal(client.status.retryAt, clock.now() + after);
    clock.pass(after - 1);
    assert.equal(made.length, 1);
    clock.pass(1);
    assert.equal(made.length, 2);
  }
});

test("a gateway that goes away is read for as long as it says, and left at once then", async () => {
  const { client, clock, newest, made, told } = await live();
  newest().say({ type: "going_away", reconnect: true, reconnect_after_ms: 4_321 });
  assert.deepEqual([client.status.state, client.status.leaving], ["leaving", true]);
  clock.pass(4_320);
  newest().say(event(6, 7));
  assert.deepEqual([told.at(-1)[0], made.length], ["event", 1]);
  clock.pass(1);
  assert.deepEqual([made.length, client.status.state, client.status.leaving], [2, "connecting", true]);
  newest().end(1006);
  clock.pass(2 * BOUNDS.backoff);
  newest().open();
  newest().say(READY);
  assert.deepEqual([made.length, client.status.leaving], [3, false]);
});

test("a gateway that has gone away is looked for within a second, again and again", async () => {
  const { clock, newest, made } = await live();
  newest().say({ type: "going_away", reconnect: true, reconnect_after_ms: 60_000 });
  newest().end(4000);
  for (let attempt = 2; attempt < 20; attempt++) {
    clock.pass(4 * BOUNDS.backoff);
    assert.ok(made.length >= attempt);
    newest().end(1006);
  }
});

test("how long to stay is taken as it is said, within reason", async () => {
  for (const [told, stays] of [[0, 0], [undefined, BOUNDS.backoff], [-5, BOUNDS.backoff], [1e15, 600_000], ["x", BOUNDS.backoff]]) {
    const { clock, newest, made } = await live();
    newest().say({ type: "going_away", reconnect: true, reconnect_after_ms: told });
    for (let passed = 0; passed + 2_000 < stays; passed += 2_000) {
      clock.pass(2_000);
      newest().say({ type: "pong" });
    }
    assert.equal(made.length, 1);
    clock.pass(2_000);
    assert.equal(made.length, 2, String(told));
  }
});

test("a credential that is about to expire is renewed on the open socket", async () => {
  const { client, tokens, newest, made } = await live();
  newest().say({ type: "auth_expiring" });
  assert.equal(client.status.renewing, true);
  tokens[1].resolve("second");
  await settled();
  assert.deepEqual(newest().take(), [{ type: "auth", token: "second" }]);
  newest().say({ type: "auth_ok" });
  assert.deepEqual([client.status.renewing, client.status.state, made.length], [false, "live", 1]);
});

test("only the newest request for a token counts", async () => {
  const { tokens, newest } = await live();
  newest().say({ type: "auth_expiring" });
  newest().say({ type: "auth_expiring" });
  tokens[2].resolve("newest");
  await settled();
  tokens[1].resolve("older");
  await settled();
  assert.deepEqual(newest().take(), [{ type: "auth", token: "newest" }]);
});

test("a credential that is presented is newer than one that is being fetched", async () => {
  const { client, newest, tokens, told } = await live();
  newest().say({ type: "auth_expiring" });
  client.present("logged in again");
  tokens[1].resolve("older");
  await settled();
  assert.deepEqual(newest().take(), [{ type: "auth", token: "logged in again" }]);
  newest().say({ type: "auth_expiring" });
  client.present("once more");
  tokens[2].reject(new Error("of no interest any more"));
  await settled();
  assert.ok(!told.some(([type]) => type === "loginneeded"));

  const first = world();
  first.client.connect();
  first.client.present("newer");
  first.tokens[0].resolve("older");
  await settled();
  first.client.connect();
  first.newest().open();
  assert.equal(first.newest().take()[0].token, "newer");
});

test("a token is fetched once, however often it is connected", async () => {
  const { client, tokens, made } = world();
  for (let count = 0; count < 3; count++) client.connect();
  assert.equal(tokens.length, 1);
  client.disconnect();
  client.connect();
  tokens[0].resolve("t");
  await settled();
  assert.deepEqual([tokens.length, made.length], [1, 1]);
});

test("an expired credential is replaced, and the connection resumed with it", async () => {
  for (const code of [4500, 4501, 4502, 4504]) {
    const { client, clock, tokens, newest } = await live();
    newest().say(event(6, 7));
    newest().end(code, "why");
    const { state, reason } = client.status;
    assert.deepEqual([state, client.status.code, reason, tokens.length], ["stopped", code, "why", 2]);
    tokens[1].resolve("second");
    await settled();
    clock.pass(BOUNDS.backoff);
    newest().open();
    const resume = { epoch: 3, offset: 7 };
    assert.deepEqual(newest().take(), [{ type: "auth", token: "second", resume, replaces: "c1" }]);
  }
});

test("what no credential mends waits for the user", async () => {
  for (const code of [1002, 1009, 4503, 4505, 4506, 4507, 4508, 4999]) {
    const { client, clock, tokens, newest, made } = await live();
    newest().end(code);
    clock.pass(1e9);
    assert.deepEqual([client.status.state, tokens.length, made.length], ["stopped", 1, 1], String(code));
    client.connect();
    clock.pass(BOUNDS.backoff);
    assert.equal(made.length, 2);
  }
});

test("a new log in is presented without being asked for", async () => {
  const { client, clock, tokens, newest, made } = await live();
  newest().end(4502);
  tokens[1].reject(new Error("401"));
  await settled();
  client.present("logged in again");
  clock.pass(BOUNDS.backoff);
  newest().open();
  assert.deepEqual([made.length, newest().take()[0].token], [2, "logged in again"]);
});

test("a nudge ends a pause, and asks a live gateway whether it is there", async () => {
  const { client, clock, newest, made } = await live();
  client.nudge();
  client.nudge();
  assert.deepEqual(newest().take(), [{ type: "ping" }]);
  newest().end(1006);
  client.nudge();
  assert.equal(made.length, 2);
  client.nudge();
  assert.equal(made.length, 2);
  clock.pass(BOUNDS.connect);
  assert.equal(client.status.state, "backoff");
});

test("a socket that cannot be made is one that was lost", async () => {
  const { client, clock, tokens } = world({ WebSocket: class { constructor() { throw new SyntaxError("url"); } } });
  client.connect();
  tokens[0].resolve("t");
  await settled();
  clock.pass(0);
  assert.deepEqual([client.status.state, client.status.reason], ["backoff", "SyntaxError: url"]);
});

test("catching up ends at the head that the gateway announced", async () => {
  const { client, newest, clock, states } = await live({}, { ...READY, head: 9 });
  assert.equal(client.status.catchingUp, true);
  newest().say(event(6, 8));
  clock.pass(1_000);
  assert.equal(client.status.catchingUp, true);
  newest().say(event(8, 9));
  assert.equal(client.status.catchingUp, false);
  assert.deepEqual(states.slice(2).map((status) => status.catchingUp), [true, false]);
  const empty = await live({}, { ...READY, head: 6 });
  assert.equal(empty.client.status.catchingUp, false);
});

test("what a reset passes over is caught up with too", async () => {
  const { client, newest } = await live({}, { ...READY, head: 9 });
  newest().say({ type: "stream_reset", from: 6, to: 9 });
  assert.equal(client.status.catchingUp, false);
});

test("a notice for this connection is told, and moves nothing", async () => {
  const { client, newest, told } = await live();
  const { position } = client;
  newest().say({ type: "connection_notice", thread_id: null, timestamp: 1, data: { text: "hello" } });
  assert.deepEqual(told.at(-1), ["notice", { data: { text: "hello" }, thread: null }]);
  assert.deepEqual(client.position, position);
});

test("what cannot be read is passed over, and shows as a gap if it was an event", async () => {
  const { client, newest, told } = await live();
  for (const frame of ["not JSON", "null", "7", "[]", '{"no":"type"}']) newest().say(frame);
  assert.deepEqual(told.slice(1).map(([type, { code }]) => [type, code]), Array(5).fill(["error", "unreadable"]));
  assert.equal(client.status.state, "live");
  newest().say(event(7, 8));
  assert.equal(client.status.state, "backoff");
});

test("the mode is told, and a run is cancelled only while live", async () => {
  const { client, newest } = await live();
  newest().say({ type: "mode", mode: "degraded" });
  assert.equal(client.status.mode, "degraded");
  assert.equal(client.cancel("r1"), true);
  assert.deepEqual(newest().take(), [{ type: "cancel", run_id: "r1" }]);
  newest().end(1006);
  assert.equal(client.cancel("r1"), false);
});

const REPLY = { type: "reply", run_id: "r", pause: 1, payload: { text: "Ada" } };
const resumed = (previous, offset, run = "r", pause = 1) => ({
  ...event(previous, offset), type: "agent_resumed", run_id: run, data: { pause, reply: {} },
});
const replies = (socket) => socket.take().filter(({ type }) => type === "reply");
/** Cuts the connection, and makes the next one ready. */
function reconnect({ client, newest }, ready = READY) {
  newest().end(4002);
  client.nudge();
  newest().open();
  newest().say(ready);
}

test("a reply is written at once, and the connection is checked", async () => {
  const all = await live();
  all.client.reply("r", 1, { text: "Ada" });
  assert.deepEqual(all.newest().take(), [REPLY, { type: "ping" }]);
  all.newest().say(resumed(6, 7));
  reconnect(all, { ...READY, offset: 7 });
  assert.deepEqual([replies(all.newest()), all.told.filter(([type]) => type === "error")], [[], []], "it is settled");
});

test("a reply that was not written, was sent back or not answered is written again on the next connection, and once", async () => {
  const all = await live();
  const draining = { type: "error", code: "draining", message: "why" };
  all.newest().end(4002);
  all.client.reply("r", 1, { text: "Ada" });
  all.newest().open();
  assert.deepEqual(replies(all.newest()), []);
  all.newest().say(READY);
  assert.deepEqual(replies(all.newest()), [REPLY], "not written before");
  all.newest().say(draining);
  all.newest().say({ type: "mode", mode: "draining" });
  assert.deepEqual(replies(all.newest()), [], "not on a gateway that goes away");
  reconnect(all);
  assert.deepEqual(replies(all.newest()), [REPLY], "sent back");
  reconnect(all);
  assert.deepEqual(replies(all.newest()), [REPLY], "not answered");
  assert.deepEqual(all.told.filter(([type]) => type === "error"), []);
  reconnect(all);
  assert.deepEqual(replies(all.newest()), []);
  const [[, told]] = all.told.filter(([type]) => type === "error");
  assert.deepEqual([told.code, told.run, told.pause], ["unanswered", "r", 1]);
});

test("a gateway that stays after all is replied to on the same connection", async () => {
  const { client, newest } = await live();
  client.reply("r", 1, { text: "Ada" });
  newest().say({ type: "error", code: "draining", message: "why" });
  newest().take();
  newest().say({ type: "mode", mode: "ready" });
  assert.deepEqual(replies(newest()), [REPLY]);
});

test("a reply waits until the client has caught up, and is not written if another came first or the run has ended", async () => {
  for (const end of [resumed(6, 9), { ...event(6, 9), type: "agent_error", run_id: "r", data: { reason: "no_reply" } }]) {
    const { client, newest } = await live({}, { ...READY, head: 9 });
    client.reply("r", 1, { text: "Ada" });
    client.reply("s", 2, "yes");
    assert.deepEqual(replies(newest()), []);
    newest().say(end);
    assert.deepEqual(replies(newest()), [{ type: "reply", run_id: "s", pause: 2, payload: "yes" }]);
  }
});

test("a reply that came second is told with its run, and other errors without one", async () => {
  const { client, newest, told } = await live();
  client.reply("r", 1, "one");
  client.reply("s", 1, "two");
  newest().say({ type: "error", code: "invalid_field", message: "no" });
  newest().say({ type: "error", code: "not_paused", message: "late" });
  newest().say({ type: "error", code: "unknown_run", message: "over" });
  newest().say({ type: "error", code: "unknown_run", message: "a cancel" });
  assert.deepEqual(told.filter(([type]) => type === "error").map(([, error]) => error), [
    { code: "invalid_field", text: "no" }, { code: "not_paused", text: "late", run: "r", pause: 1 },
    { code: "unknown_run", text: "over", run: "s", pause: 1 }, { code: "unknown_run", text: "a cancel" },
  ]);
});

test("a reply is measured, the newest to a pause counts, and there are not too many", async () => {
  const { client, newest, told } = await live({}, { ...READY, limits: { message_bytes: 200 } });
  client.reply("r", 1, "x".repeat(200));
  assert.deepEqual(told.map(([type, detail]) => [type, detail.code, detail.run]).slice(-1), [["error", "too_long", "r"]]);
  newest().end(4002);
  client.reply("r", 1, "no");
  client.reply("r", 1, "yes");
  for (let run = 1; run < MAX_REPLIES; run++) client.reply(`r${run}`, 1, null);
  client.reply("one more", 1, null);
  assert.deepEqual([told.at(-1)[1].code, told.at(-1)[1].run], ["too_many", "one more"]);
  newest().open();
  newest().say(READY);
  const written = replies(newest());
  assert.deepEqual([written.length, written[0].payload], [MAX_REPLIES, "yes"]);
});

test("a thread is deleted only while live, and is told to be gone as any event is", async () => {
  const { client, newest, told } = await live();
  assert.deepEqual([client.deleteThread("t1"), client.deleteThread(null)], [true, true]);
  assert.deepEqual(newest().take(), [{ type: "delete_thread", thread_id: "t1" }, { type: "delete_thread" }]);
  const gone = { ...event(6, 7), type: "thread_deleted", thread_id: "t1" };
  newest().say(gone);
  assert.deepEqual([told.at(-1), client.position], [["event", gone], { epoch: 3, offset: 7 }]);
  newest().say({ type: "error", code: "busy", message: "no room" });
  assert.deepEqual(told.at(-1), ["error", { code: "busy", text: "no room" }]);
  newest().readyState = 2;
  assert.deepEqual([client.deleteThread("t1"), client.cancel("r1")], [false, false], "the socket is closing");
  newest().end(1006);
  assert.equal(client.deleteThread("t1"), false);
  assert.deepEqual(newest().take(), []);
});

/** The state of a promise: `[]`, `[value]`, or `["rejected", code]`. */
function settledTo(promise) {
  const outcome = [];
  promise.then(
    (value) => outcome.push(value),
    (error) => outcome.push("rejected", error instanceof RequestError ? error.code : error),
  );
  return outcome;
}

test("threads are listed and renamed, and turns read, over the socket; each answer goes to its request", async () => {
  const { client, newest, told } = await live();
  const { position } = client;
  const asked = [
    client.threads(), client.threads({ limit: 7, before: "5.a" }), client.turns("t1"), client.turns(null, { limit: 2, before: 40 }),
    client.rename("t1", "Sums"), client.rename(null, null),
  ].map(settledTo);
  const written = newest().take();
  const ids = written.map(({ request_id }) => request_id);
  assert.equal(new Set(ids).size, 6);
  assert.deepEqual(written.map(({ request_id, ...frame }) => frame), [
    { type: "list_threads" }, { type: "list_threads", limit: 7, before: "5.a" },
    { type: "read_turns", thread_id: "t1", before: null }, { type: "read_turns", thread_id: null, limit: 2, before: "40" },
    { type: "rename_thread", thread_id: "t1", title: "Sums" }, { type: "rename_thread", thread_id: null, title: null },
  ]);
  const threads = [{ thread_id: "t1", title: "one", updated_at: 3, open: false }];
  const { previous, ...past } = event(6, 7);
  newest().say({ type: "thread_renamed", request_id: ids[5] });
  newest().say({ type: "turns", request_id: ids[3], events: [past], next: "7" });
  newest().say({ type: "turns", request_id: ids[2], events: [], next: null });
  newest().say({ type: "threads", request_id: ids[1], threads, next: null });
  newest().say({ type: "threads", request_id: ids[0], threads, next: "3.t1" });
  newest().say({ type: "thread_renamed", request_id: ids[4] });
  await settled();
  assert.deepEqual(asked, [
    [{ threads, next: "3.t1" }], [{ threads, next: null }], [{ events: [], next: null }], [{ events: [past], next: "7" }],
    [undefined], [undefined],
  ]);
  assert.deepEqual([told.slice(1), client.position], [[], position], "an answer is no event, and moves nothing");
});

test("a request that is refused rejects with the code, and nothing else is told", async () => {
  const { client, newest, told } = await live();
  for (const code of ["busy", "not_kept", "unknown_thread", "invalid_field"]) {
    const asked = client.rename("t1", "x");
    const [{ request_id }] = newest().take();
    newest().say({ type: "error", request_id, code, message: `${code}.` });
    await assert.rejects(asked, { code, message: `${code}.` });
    newest().say({ type: "error", request_id, code, message: "once more" });
    newest().say({ type: "thread_renamed", request_id });
  }
  newest().say({ type: "threads", request_id: "of nothing", threads: [], next: null });
  assert.deepEqual([told.length, client.status.state], [1, "live"]);
  newest().say({ type: "error", code: "unknown_run", message: "none" });
  assert.deepEqual(told.at(-1), ["error", { code: "unknown_run", text: "none" }]);
});

test("a request that is not written, or whose connection is gone, rejects at once and is not repeated", async () => {
  const idle = world();
  assert.deepEqual(await Promise.all([idle.client.threads(), idle.client.turns("t"), idle.client.rename("t", null)].map(
    (asked) => asked.catch(({ code }) => code),
  )), ["closed", "closed", "closed"]);
  const ends = {
    lost: ({ newest }) => newest().end(1006), sentAway: ({ newest }) => newest().end(4007),
    stopped: ({ newest }) => newest().end(4505), left: ({ client }) => client.disconnect(),
    gap: ({ newest }) => newest().say(event(8, 9)),
    silent: ({ clock }) => clock.pass(7_000 + BOUNDS.pong),
  };
  for (const [name, end] of Object.entries(ends)) {
    const all = await live();
    const asked = settledTo(all.client.threads());
    end(all);
    await settled();
    assert.deepEqual(asked, ["rejected", "closed"], name);
    all.client.connect();
    all.clock.pass(BOUNDS.backoff);
    if (all.made.length > 1) {
      all.newest().open();
      all.newest().say(READY);
      assert.deepEqual(all.newest().take().map(({ type }) => type), ["auth"], name);
    }
  }
  const closing = await live();
  closing.newest().readyState = 2;
  await assert.rejects(closing.client.threads(), { code: "closed" });
});

test("a request that is not answered in time rejects, and its answer is ignored then", async () => {
  const { client, clock, newest } = await live();
  const asked = settledTo(client.threads());
  const [{ request_id }] = newest().take();
  for (let passed = 0; passed < BOUNDS.answer; passed += 2_000) {
    await settled();
    assert.deepEqual(asked, [], `after ${passed}`);
    newest().say({ type: "pong" });
    clock.pass(2_000);
  }
  await settled();
  newest().say({ type: "threads", request_id, threads: [], next: null });
  await settled();
  assert.deepEqual([asked, client.status.state], [["rejected", "timeout"], "live"]);
  const answered = client.threads();
  newest().say({ type: "threads", request_id: newest().take().at(-1).request_id, threads: [], next: null });
  assert.deepEqual(await answered, { threads: [], next: null });
  assert.ok(clock.pending.every((after) => after < BOUNDS.answer), "nothing is left of it");
});

test("who was sent away because what was missed cannot be read comes back to the same place", async () => {
  const { client, clock, newest } = await live();
  newest().say(event(6, 7));
  newest().end(4007, "missed events cannot be read now: reconnect and resume");
  assert.equal(client.status.state, "backoff");
  clock.pass(BOUNDS.backoff);
  newest().open();
  assert.deepEqual(newest().take()[0].resume, { epoch: 3, offset: 7 });
});

test("messages carry their thread, are kept until live, and are refused when there are too many", async () => {
  const { client, newest, tokens } = world();
  const id = client.send({ text: "hello" }, { thread: "t1" });
  assert.throws(() => client.send("again", { id }), TypeError);
  client.connect();
  tokens[0].resolve("t");
  await settled();
  newest().open();
  newest().take();
  newest().say(READY);
  const frame = { type: "user_message", message_id: id, payload: { text: "hello" }, thread_id: "t1" };
  assert.deepEqual(newest().take(), [frame]);
  for (let number = 1; number < 64; number++) client.send(number);
  assert.throws(() => client.send("one too many"), RangeError);
});

test("a message says which turn it replaces, is measured with that, and says nothing of another epoch", async () => {
  const { client, clock, newest } = await live();
  const replaces = { epoch: 3, offset: 4 };
  assert.equal(client.measure("x", { replaces }) - client.measure("x"), ',"replaces":4'.length);
  client.send("b", { id: "m1", thread: "t1", replaces });
  client.send("c", { id: "m2", replaces: { ...replaces, epoch: 2 } });
  const frames = [
    { type: "user_message", message_id: "m1", payload: "b", thread_id: "t1", replaces: 4 },
    { type: "user_message", message_id: "m2", payload: "c" },
  ];
  assert.deepEqual(newest().take(), frames);
  newest().end(1006);
  client.send("d", { id: "m3", replaces });
  clock.pass(clock.pending[0]);
  newest().open();
  newest().say({ ...READY, epoch: 8, resumed: false });
  assert.deepEqual(newest().take().slice(1), [{ type: "user_message", message_id: "m3", payload: "d" }]);
});

test("a message that the gateway would not take is refused at once, and the next is sent", async () => {
  const { client, newest, told } = await live({}, { ...READY, limits: { message_bytes: 200 } });
  assert.equal(client.longest, 200);
  const id = client.send({ text: "é".repeat(100) });
  assert.deepEqual(told.at(-1), ["refused", { message: id, code: "too_long", text: "The message is too long." }]);
  assert.deepEqual([newest().take(), client.outgoing.length], [[], 0]);
  client.send("short");
  assert.equal(newest().take().length, 1);
  // As long as allowed, including as a repetition.
  const payload = "x".repeat(200 - client.measure("", { id: "a" }));
  client.send(payload, { id: "a" });
  assert.equal(newest().take().length, 1);
  newest().end(1006);
});

test("what the gateway takes is measured as it is written, also the second time", async () => {
  const { client, clock, newest } = await live({}, { ...READY, limits: { message_bytes: 300 } });
  client.send("x".repeat(300 - client.measure("", { id: "a", thread: "t" })), { id: "a", thread: "t" });
  assert.ok(new TextEncoder().encode(newest().raw.at(-1)).length < 300);
  newest().end(1006);
  clock.pass(clock.pending[0]);
  newest().open();
  newest().say({ ...READY, limits: { message_bytes: 300 } });
  assert.equal(new TextEncoder().encode(newest().raw.at(-1)).length, 300);
});

test("a message that nobody has carried can be taken back", async () => {
  const { client, newest } = await live();
  const written = client.send("written");
  newest().end(1006);
  const kept = client.send("kept");
  assert.deepEqual([client.withdraw(kept), client.withdraw(kept), client.withdraw(written)], [true, false, false]);
  assert.deepEqual(client.outgoing.map(({ message }) => message), [written]);
});

test("a listener may send: orders stay in order", async () => {
  const { client, newest } = await live();
  client.addEventListener("event", ({ detail }) => client.send(`about ${detail.offset}`));
  newest().say(event(6, 7));
  newest().say(event(7, 8));
  assert.deepEqual(newest().take().map(({ payload }) => payload), ["about 7", "about 8"]);
  assert.equal(client.outgoing.length, 2);
});

test("ids are many", () => {
  const ids = new Set(Array.from({ length: 1_000 }, newId));
  assert.equal(ids.size, 1_000);
  assert.match([...ids][0], /^[0-9a-f]{32}$/);
});

/**
 * One random run: a network that opens sockets and cuts them, without losing or reordering frames before; a gateway
 * that answers, refuses, trims, loses its log and skips events; and a user who sends, leaves and comes back.
 */
class Walk {
  gateway = new SimpleGateway();
  sent = new Set();
  answers = new Map();
  place = null;
  /** Requests that are not settled. */
  asked = new Set();
  counts = {
    delivered: 0, sockets: 0, resets: 0, gaps: 0, repeated: 0, unknown: 0, refused: 0, accepted: 0, listed: 0, busy: 0, unanswered: 0,
  };

  constructor(seed) {
    this.random = chance(seed);
    Object.assign(this, world({ random: this.random, begin: this.random() < 0.5 ? "earliest" : "latest" }));
    const { client } = this;
    client.addEventListener("ready", ({ detail }) => this.begun(detail));
    client.addEventListener("event", ({ detail }) => this.delivered(detail));
    client.addEventListener("reset", ({ detail }) => this.wasReset(detail));
    client.addEventListener("accepted", ({ detail }) => this.answered("accepted", detail.message));
    client.addEventListener("unknown", ({ detail }) => this.answered("unknown", detail.message));
    client.addEventListener("refused", ({ detail }) => this.answered("refused", detail.message));
  }

  get socket() {
    const open = this.made.filter((socket) => socket.readyState < 2);
    assert.ok(open.length <= 1, "at most one socket");
    return open[0] ?? null;
  }

  begun({ epoch, offset }) {
    if (this.place && this.place.epoch === epoch && this.place.offset !== offset) this.counts.resets += 1;
    this.place = { epoch, offset };
  }

  /** STR-1: the next event of the log, and no other. */
  delivered(detail) {
    this.counts.delivered += 1;
    const expected = this.gateway.log.find(({ offset }) => offset > this.place.offset);
    assert.deepEqual(detail, expected, "the next event, and no other");
    this.place.offset = detail.offset;
  }

  wasReset({ to }) {
    this.counts.resets += 1;
    this.place.offset = Math.max(this.place.offset, to);
  }

  /**
   * Each message is answered once; one that the client gave up on may still be refused, because then it did not run.
   */
  answered(how, message) {
    this.counts[how] += 1;
    // A message that is too long is refused while it is being sent.
    if (how === "refused") this.sent.add(message);
    assert.ok(this.sent.has(message));
    const before = this.answers.get(message);
    assert.ok(before === undefined || (before === "unknown" && how === "refused"), `${message}: ${before}, then ${how}`);
    this.answers.set(message, how);
  }

  /** Each request is settled, with its own answer or with the reason why there is none. */
  async list() {
    const number = this.made.length;
    const asked = this.client.threads();
    this.asked.add(asked);
    const listed = await asked.then(({ next }) => ["listed", next], ({ code }) => [code === "busy" ? code : "unanswered", null]);
    this.asked.delete(asked);
    this.counts[listed[0]] += 1;
    if (listed[0] === "listed") assert.equal(listed[1], `socket ${number}`, "answered on the socket that carried it");
  }

  carry() {
    const { socket } = this;
    if (!socket || socket.readyState !== 1) return;
    for (const frame of socket.take()) {
      if (frame.type === "user_message" && frame.repeat) this.counts.repeated += 1;
      this.gateway.wire.push(frame.type === "list_threads" ? { ...frame, socket: this.made.length } : frame);
    }
  }

  hear() {
    this.carry();
    this.gateway.hear();
  }

  open() {
    if (this.socket?.readyState !== 0) return;
    this.gateway.opened();
    this.counts.sockets += 1;
    this.socket.open();
    this.carry();
  }

  ready() {
    if (this.socket?.readyState !== 1 || this.gateway.at !== null) return;
    this.carry();
    const frame = this.gateway.ready(`c${this.made.length}`);
    const limits = this.random() < 0.3 ? { message_bytes: 300 } : {};
    if (frame) this.socket.say({ ...frame, limits });
  }

  next() {
    if (this.socket?.readyState !== 1) return;
    const frame = this.gateway.next();
    if (frame) this.socket.say(frame);
  }

  pick(list) {
    return list[Math.floor(this.random() * list.length)];
  }

  /** One random step. */
  move() {
    const { client, gateway, socket } = this;
    const moves = {
      connect: 3, disconnect: 1, send: 6, present: 1, long: 1, open: 10, ready: 10, hear: 8, answer: 8, next: 24, skip: 1, append: 10, late: 4,
      trim: 1, lose: 0.3, end: 3, pass: 8, token: 6, noToken: 1, tell: 1, nudge: 1, again: 2, list: 8,
    };
    let at = this.random() * Object.values(moves).reduce((sum, weight) => sum + weight, 0);
    const name = Object.keys(moves).find((key) => (at -= moves[key]) < 0) ?? "next";
    switch (name) {
      case "connect": return client.connect();
      case "disconnect": return client.disconnect();
      case "send": return client.outgoing.length < 60 ? void this.sent.add(client.send("hello")) : undefined;
      case "present": return client.present("t");
      case "long": return client.outgoing.length < 60 ? void this.sent.add(client.send("x".repeat(this.random() * 400))) : undefined;
      case "open": return this.open();
      case "ready": return this.ready();
      case "hear": return this.hear();
      case "answer": return gateway.answer(this.random() < 0.8);
      case "next": return this.next();
      case "skip": this.counts.gaps += 1; return gateway.skip();
      case "append": return void gateway.append(1 + Math.floor(this.random() * 3), "agent_thinking");
      case "late": return this.made.length > 1 ? this.late() : undefined;
      case "trim": return gateway.trim(Math.floor(this.random() * 6));
      case "lose": gateway.lose(); return socket?.end(1006);
      case "end": return socket?.end(this.pick([1000, 1006, 1006, 1009, 4000, 4007, 4500, 4501, 4505]));
      case "pass": return this.clock.pass(this.clock.pending[0] ?? 0);
      case "token": return this.tokens.shift()?.resolve("t");
      case "noToken": return this.tokens.shift()?.reject(new Error("no"));
      case "tell": return gateway.at === null ? undefined : socket?.say(this.pick([
        { type: "auth_expiring" }, { type: "going_away" }, { type: "stream_reset", from: 0, to: gateway.tail },
      ]));
      case "nudge": return client.nudge();
      case "list": return client.status.state === "live" || this.random() < 0.1 ? void this.list() : undefined;
      case "again": return gateway.at > gateway.tail && this.socket?.readyState === 1 ? this.again() : undefined;
    }
  }

  /** A socket that was left receives a frame: its handlers are gone. */
  late() {
    const old = this.pick(this.made.slice(0, -1));
    old.say({ type: "auth_expiring" });
    old.end(4500);
  }

  /** An event that was shown is sent again. */
  again() {
    const shown = this.gateway.log.filter(({ offset }) => offset <= (this.place?.offset ?? 0));
    if (shown.length > 0) this.socket.say(this.pick(shown));
  }

  /** From here on there are no faults. */
  async calmDown() {
    let lists = 2;
    for (let round = 0; round < 5_000; round++) {
      const { state } = this.client.status;
      while (this.tokens.length > 0) this.tokens.shift().resolve("t");
      await settled();
      if (state === "idle" || state === "stopped") this.client.connect();
      else if (state === "backoff" || state === "leaving") this.clock.pass(this.clock.pending[0]);
      else if (state === "connecting") this.open();
      else if (state === "authenticating") this.ready();
      else {
        if (lists-- > 0) this.list();
        this.carry();
        if (this.gateway.isQuiet && this.client.position.offset === this.gateway.head) return;
        this.hear();
        this.gateway.answer(true);
        this.next();
      }
    }
    assert.fail(`never caught up: ${JSON.stringify(this.client.status)}`);
  }
}

test("over everything that a network and a gateway do, nothing is shown twice, skipped or lost", async () => {
  const total = {};
  const walks = Number(process.env.WALKS ?? 300);
  for (let seed = 1; seed <= walks; seed++) {
    const walk = new Walk(seed);
    try {
      for (let moves = 0; moves < 300; moves++) {
        walk.move();
        if (walk.random() < 0.3) await settled();
      }
      await walk.calmDown();
      assert.deepEqual(walk.place, walk.client.position, "it reaches the head");
      assert.equal(walk.client.outgoing.length, 0, "no message is left");
      assert.deepEqual([...walk.sent].filter((id) => !walk.answers.has(id)), [], "each message is answered");
      await settled();
      assert.equal(walk.asked.size, 0, "each request is settled");
    } catch (error) {
      error.message = `seed ${seed}: ${error.message}`;
      throw error;
    }
    for (const [name, count] of Object.entries(walk.counts)) total[name] = (total[name] ?? 0) + count;
  }
  for (const [name, count] of Object.entries(total)) assert.ok(count > walks / 20, `${name} happens: ${count}`);
});
