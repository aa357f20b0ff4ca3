/**
 * The wire from the side of Node's `ws`, against a real gateway with its built-in agent.
 *
 * LOCKSTEP_URL                      the gateway, such as http://127.0.0.1:8080/
 * LOCKSTEP_USER, LOCKSTEP_PASSWORD  an account that may log in
 * LOCKSTEP_CONTROL                  a command that restarts the gateway: see run.mjs
 */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { randomUUID } from "node:crypto";
import { beforeEach, describe, test } from "node:test";
import { promisify } from "node:util";

import { LIMIT, Peer, assertChained, credential, endOf, isEvent, isType, logIn } from "./gateway.mjs";

let token;
beforeEach(async () => (token = await credential()));

const control = (what) => promisify(execFile)(process.env.LOCKSTEP_CONTROL, [what]);
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

/** Sends a message whose run pauses, and returns that event. */
async function paused(peer, text = "ask me something") {
  const asked = message(text);
  peer.say(asked);
  const isOwn = ({ type, thread_id: thread }) => type === "agent_paused" && thread === asked.thread_id;
  return (await peer.until(isOwn)).at(-1);
}

const reply = ({ run_id, data: { pause } }, payload) => ({ type: "reply", run_id, pause, payload });
const isLast = ({ run_id: run }) => (frame) => frame.run_id === run && /^agent_(completed|error)$/.test(frame.type);

test("a run that asks goes on with the reply, and every connection sees what was asked and replied", options, async () => {
  const [[first], [second]] = await Promise.all([Peer.ready({ token }), Peer.ready({ token })]);
  const pause = await paused(first, "ask me, then 6 * 7");
  assert.equal(pause.data.pause, 1);
  assert.deepEqual(pause.data.request.asks.map(({ kind, tool }) => [kind, tool]), [["approval", "calculator"]]);
  const payload = { answers: { [pause.data.request.asks[0].id]: { approved: true } } };
  await second.until(({ type, run_id: run }) => type === "agent_paused" && run === pause.run_id);
  second.say(reply(pause, payload));
  const [here, there] = await Promise.all([first, second].map((peer) => peer.until(isLast(pause))));
  const resumed = here.find(isType("agent_resumed"));
  assert.deepEqual(resumed.data, { pause: 1, reply: payload });
  assert.equal(resumed.previous, pause.offset, "nothing happens between");
  assert.deepEqual(ofRun(there, pause.run_id), ofRun(here, pause.run_id));
  assert.match(here.at(-1).data.text, /42/);
  await Promise.all([first.close(), second.close()]);
});

test("the first reply counts, and others are refused by name", options, async () => {
  const [[first], [second]] = await Promise.all([Peer.ready({ token }), Peer.ready({ token })]);
  const pause = await paused(first);
  first.say({ ...reply(pause, null), pause: 2 });
  assert.equal((await first.until(isType("error"))).at(-1).code, "not_paused");
  for (const wrong of [{ pause: "1" }, { pause: undefined }, { run_id: undefined }]) {
    first.say({ ...reply(pause, null), ...wrong });
    assert.equal((await first.until(isType("error"))).at(-1).code, "invalid_field", JSON.stringify(wrong));
  }
  first.say(reply(pause, { text: "Ada" }));
  first.say(reply(pause, { text: "Bea" }));
  const frames = await first.until(isLast(pause));
  const codes = frames.filter(isType("error")).map(({ code }) => code);
  assert.deepEqual([codes, frames.at(-1).data.text], [["not_paused"], "Hello, Ada."]);
  second.say(reply(pause, { text: "Cy" }));
  assert.equal((await second.until(isType("error"))).at(-1).code, "unknown_run");
  await Promise.all([first.close(), second.close()]);
});

test("a run that waits outlasts the gateway, and goes on with a reply to the next one", options, async () => {
  const [peer, ready] = await Peer.ready({ token });
  const pause = await paused(peer, "ask me, then 6 * 7");
  await control("restart");
  await peer.closed;
  const resume = { epoch: ready.epoch, offset: pause.offset };
  const [back, again] = await Peer.ready({ token, resume });
  assert.deepEqual([again.epoch, again.offset, again.resumed], [ready.epoch, pause.offset, true]);
  back.say(reply(pause, { answers: { [pause.data.request.asks[0].id]: { approved: true } } }));
  const frames = await back.until(isLast(pause));
  assertChained(frames.filter(isEvent), pause.offset);
  assert.deepEqual([frames[0].type, frames.at(-1).type], ["agent_resumed", "agent_completed"]);
  assert.match(frames.at(-1).data.text, /42/);
  await back.close();
});

test("a gateway that drains sends a reply back, and the next one takes it", options, async () => {
  const [peer, ready] = await Peer.ready({ token });
  const pause = await paused(peer);
  // The drain waits for a run that has an agent.
  const busy = message("count to 60");
  peer.say(busy);
  await peer.until(({ type, thread_id: thread }) => type === "agent_delta" && thread === busy.thread_id);
  const drained = control("drain");
  await peer.until(({ type, mode }) => type === "mode" && mode !== "ready");
  peer.say(reply(pause, { text: "Ada" }));
  const frames = await peer.until(isType("error"));
  assert.equal(frames.at(-1).code, "draining");
  await Promise.all([drained, peer.closed]);
  const [back] = await Peer.ready({ token, resume: { epoch: ready.epoch, offset: pause.offset } });
  back.say(reply(pause, { text: "Ada" }));
  const rest = await back.until(isLast(pause));
  assert.deepEqual([rest.filter(isType("agent_resumed")).length, rest.at(-1).data.text], [1, "Hello, Ada."]);
  await back.close();
});

test("a run that waits is cancelled as any other, and takes no reply then", options, async () => {
  const [peer] = await Peer.ready({ token });
  const pause = await paused(peer);
  peer.say({ type: "cancel", run_id: pause.run_id });
  const end = (await peer.until(isLast(pause))).at(-1);
  assert.deepEqual([end.type, end.data.reason], ["agent_error", "cancelled"]);
  peer.say(reply(pause, { text: "Ada" }));
  assert.equal((await peer.until(isType("error"))).at(-1).code, "unknown_run");
  await peer.close();
});

test("a pause and its reply are read again with their turn", options, async () => {
  const [peer] = await Peer.ready({ token });
  const pause = await paused(peer);
  peer.say(reply(pause, { text: "Ada" }));
  const frames = await peer.until(isLast(pause));
  peer.say({ type: "read_turns", request_id: "r-1", thread_id: pause.thread_id });
  const { events } = (await peer.until(isType("turns"))).at(-1);
  const kept = (list) => list.filter(({ type }) => type === "agent_paused" || type === "agent_resumed").map(({ type, data }) => [type, data]);
  assert.deepEqual(kept(events), kept([pause, ...frames]));
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
