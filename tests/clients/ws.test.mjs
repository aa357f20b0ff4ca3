/**
 * The wire from the side of Node's `ws`, against a real gateway with its built-in agent.
 *
 * LOCKSTEP_URL                      the gateway, such as http://127.0.0.1:8080/
 * LOCKSTEP_USER, LOCKSTEP_PASSWORD  an account that may log in
 */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { beforeEach, describe, test } from "node:test";

import { LIMIT, Peer, assertChained, credential, endOf, isEvent, isType, logIn } from "./gateway.mjs";

let token;
beforeEach(async () => (token = await credential()));

const options = { timeout: 2 * LIMIT };
const message = (text, extra = {}) => ({
  type: "user_message", message_id: randomUUID(), thread_id: `thread-${randomUUID()}`, payload: { text }, ...extra,
});
const ofRun = (frames, run) => frames.filter((frame) => isEvent(frame) && frame.run_id === run);
const answerOf = (events) => events.map(({ type, data }) => (type === "agent_delta" ? data.text : "")).join("");
const numbersTo = (last) => Array.from({ length: last }, (_, index) => index + 1).join(" ");

test("the golden path: every event, in order, and each names its predecessor", options, async () => {
  const [peer, ready] = await Peer.ready({ token });
  for (const name of ["connection_id", "user_id", "epoch", "offset", "heartbeat_ms", "server_time", "mode"]) {
    assert.notEqual(ready[name], undefined, name);
  }
  assert.deepEqual([ready.resumed, typeof ready.limits], [true, "object"]);
  const asked = message("what is 2+3*4?");
  peer.say(asked);
  const frames = await peer.until(endOf(asked.message_id));
  const events = frames.filter(isEvent);
  assert.deepEqual(frames.filter(isType("error")), []);
  assertChained(events, ready.offset);
  const [received] = events;
  assert.deepEqual(received.data, { message_id: asked.message_id, payload: asked.payload });
  assert.deepEqual([...new Set(events.map(({ thread_id }) => thread_id))], [asked.thread_id]);
  assert.deepEqual([...new Set(events.map(({ run_id }) => run_id))], [received.run_id]);
  const types = events.map(({ type }) => type).join(" ");
  assert.match(types, /^message_received agent_started( agent_(thinking|delta))*( tool_executing tool_completed)( agent_(thinking|delta))* agent_completed$/);
  const [executing, completed] = ["tool_executing", "tool_completed"].map((type) => events.find(isType(type)).data);
  assert.deepEqual([executing.name, completed.tool_id, completed.status], ["calculator", executing.tool_id, "success"]);
  assert.match(JSON.stringify(executing.arguments), /2\s*\+\s*3\s*\*\s*4/);
  assert.match(JSON.stringify(completed.result), /14/);
  assert.match(events.at(-1).data.text, /14/);
  await peer.close();
});

test("a socket that is killed in mid-answer is resumed without gap or repeat", options, async () => {
  const [first, ready] = await Peer.ready({ token });
  const asked = message("count to 90");
  first.say(asked);
  let count = 0;
  const before = await first.until((frame) => frame.type === "agent_delta" && ++count === 10);
  first.socket.terminate();
  await first.closed;
  const { epoch } = ready;
  const { offset } = before.at(-1);
  const [second, again] = await Peer.ready({ token, resume: { epoch, offset }, replaces: ready.connection_id });
  assert.deepEqual([again.epoch, again.offset, again.resumed], [epoch, offset, true]);
  const { run_id: run } = before.find(isType("message_received"));
  const after = await second.until((frame) => frame.run_id === run && frame.type === "agent_completed");
  const events = [...before, ...after].filter(isEvent);
  assertChained(events, ready.offset);
  assert.equal(answerOf(ofRun(events, run)), numbersTo(90));
  assert.ok(ofRun(after, run).length > 1, "the answer was not over when the socket was killed");
  await second.close();

  const [third] = await Peer.ready({ token, resume: "earliest" });
  const all = await third.until((frame) => frame.run_id === run && frame.type === "agent_completed");
  const kept = ofRun(all, run);
  assert.equal(answerOf(kept), numbersTo(90), "what is kept is what was delivered");
  assert.deepEqual(kept.filter((event) => !isType("agent_delta")(event)), ofRun(events, run).filter((event) => !isType("agent_delta")(event)));
  assert.ok(kept.filter(isType("agent_delta")).length <= 2, "in few frames");
  await third.close();
});

test("a message that is sent twice runs once, on whichever connection", options, async () => {
  const [[first], [second]] = await Promise.all([Peer.ready({ token }), Peer.ready({ token })]);
  const asked = message("what is 5+5?");
  first.say(asked);
  const frames = await first.until(endOf(asked.message_id));
  const received = frames.find(({ type, data }) => type === "message_received" && data.message_id === asked.message_id);
  for (const peer of [first, second]) {
    peer.say({ ...asked, repeat: true });
    const known = (await peer.until(isType("message_known"))).at(-1);
    const { message_id, run_id, offset } = known;
    assert.deepEqual([message_id, run_id, offset], [asked.message_id, received.run_id, received.offset]);
  }
  const last = message("what is 1+1?");
  second.say(last);
  const rest = await second.until(endOf(last.message_id));
  assert.equal(rest.filter(({ run_id, type }) => run_id === received.run_id && type === "message_received").length, 0);
  await Promise.all([first.close(), second.close()]);
});

test("both connections of a user see the same events", options, async () => {
  const [[first, a], [second]] = await Promise.all([Peer.ready({ token }), Peer.ready({ token })]);
  const asked = message("count to 20");
  first.say(asked);
  const seen = await Promise.all([first, second].map((peer) => peer.until(endOf(asked.message_id))));
  const [one, other] = seen.map((frames) => frames.filter(isEvent).filter(({ offset }) => offset > a.offset));
  const { run_id: run } = one.find(({ data }) => data.message_id === asked.message_id);
  assert.deepEqual(ofRun(other, run), ofRun(one, run));
  await Promise.all([first.close(), second.close()]);
});

test("a cancelled run ends once, and a run that is not open is none", options, async () => {
  const [peer] = await Peer.ready({ token });
  const asked = message("count to 90");
  peer.say(asked);
  const { run_id } = (await peer.until(({ type, data }) => type === "message_received" && data.message_id === asked.message_id)).at(-1);
  peer.say({ type: "cancel", run_id });
  const end = (await peer.until((frame) => frame.run_id === run_id && /agent_(error|completed)/.test(frame.type))).at(-1);
  assert.deepEqual([end.type, end.data.reason], ["agent_error", "cancelled"]);
  peer.say({ type: "cancel", run_id });
  assert.equal((await peer.until(isType("error"))).at(-1).code, "unknown_run");
  await peer.close();
});

test("a credential may be renewed on the open socket", options, async () => {
  const [peer] = await Peer.ready({ token });
  peer.say({ type: "auth", token: await logIn() });
  await peer.until(isType("auth_ok"));
  await peer.close();
});

describe("bad input", { concurrency: true, ...options }, () => {
  const cases = [
    ["an unknown type", { type: "nonsense" }, "unknown_type"],
    ["garbage", "{not JSON", "malformed"],
    ["JSON that is no object", "[1, 2]", "malformed"],
    ["nesting that is too deep", `${'{"a":'.repeat(200)}1${"}".repeat(200)}`, "malformed"],
    ["a message without an id", { type: "user_message", payload: {} }, "invalid_field"],
    ["an id that is no string", { type: "user_message", message_id: 7, payload: {} }, "invalid_field"],
    ["a cancel of nothing", { type: "cancel" }, "invalid_field"],
  ];
  for (const [name, frame, code] of cases) {
    test(`${name} is an error, and the connection goes on`, options, async () => {
      const [peer] = await Peer.ready({ token });
      peer.say(frame);
      const error = (await peer.until(isType("error"))).at(-1);
      assert.equal(error.code, code);
      assert.ok(error.message.length > 0);
      peer.say({ type: "ping" });
      await peer.until(isType("pong"));
      await peer.close();
    });
  }

  test("a binary frame closes with 1003", options, async () => {
    const [peer] = await Peer.ready({ token });
    peer.say(new Uint8Array([1, 2, 3]));
    assert.equal(await peer.closed, 1003);
  });

  test("who presents no credential is closed with 4504", options, async () => {
    const peer = await Peer.open();
    assert.equal(await peer.closed, 4504);
    assert.equal((await peer.next()).type, "closed", "and was told nothing");
  });

  test("a credential that is not good is closed with 4500", options, async () => {
    const [head, body, signature] = token.split(".");
    const forged = signature ? [head, body, [...signature].reverse().join("")].join(".") : `${token}x`;
    for (const bad of ["nonsense", forged]) {
      const peer = await Peer.open();
      peer.say({ type: "auth", token: bad });
      assert.equal(await peer.closed, 4500);
      assert.equal((await peer.next()).type, "closed", "and was told nothing");
    }
  });
});
