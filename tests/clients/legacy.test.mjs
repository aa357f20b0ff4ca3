/**
 * The contract with clients of the earlier system: exactly the frames that they send, and the fields that they read,
 * against a real gateway with its built-in agent.
 *
 * LOCKSTEP_URL                      the gateway, such as http://127.0.0.1:8080/
 * LOCKSTEP_USER, LOCKSTEP_PASSWORD  an account that may log in
 * LOCKSTEP_CONTROL                  a command that restarts the gateway: see run.mjs
 */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { randomUUID } from "node:crypto";
import { test } from "node:test";
import { promisify } from "node:util";

import { LIMIT, credential, logIn, socketUrl } from "./gateway.mjs";
import { Client, FORMS } from "./legacy.mjs";

const options = { timeout: 3 * LIMIT };
const control = (what) => promisify(execFile)(process.env.LOCKSTEP_CONTROL, [what]);
const newThread = () => `thread-${randomUUID()}`;
const numbersTo = (last) => Array.from({ length: last }, (_, index) => index + 1).join(" ");
const isPiece = (thread) => ({ type, thread_id: of }) => type === "partial_result" && of === thread;

async function connected(extra = {}) {
  const client = new Client({ token: credential, ...extra });
  await client.connect();
  return client;
}

/** Resolves after that many pieces of a thread's answer. */
async function pieces(client, thread, count) {
  for (let piece = 0; piece < count; piece++) await client.until(isPiece(thread));
}

/** No event came twice, and the answer that was joined from pieces is the one that was told at the end. */
function assertWhole(client, run, text) {
  assert.equal(new Set(client.seen).size, client.seen.length, "an event came twice");
  assert.equal(run.partial, text);
  assert.equal(run.result, text);
  assert.equal(run.status, "completed");
}

test("the first message: five events, with the fields that the store reads", options, async () => {
  const client = await connected();
  const thread = newThread();
  client.start(thread, "what is 2+3*4?");
  const frames = await client.until(({ type, thread_id: of }) => of === thread && type === "agent_completed");
  const types = frames.filter(({ thread_id: of }) => of === thread).map(({ type }) => type);
  for (const type of ["agent_started", "agent_thinking", "tool_executing", "tool_completed", "partial_result", "agent_completed"]) {
    assert.ok(types.includes(type), `${type} is missing: ${types}`);
  }
  const [run] = client.store.of(thread);
  assert.equal(run.agent, "assistant");
  assert.ok(run.thoughts.every((thought) => thought.length > 0) && run.thoughts.length > 0);
  assert.deepEqual([run.tools.length, run.tools[0].name, run.tools[0].status], [1, "calculator", "completed"]);
  assert.match(JSON.stringify(run.tools[0].parameters), /2\s*\+\s*3\s*\*\s*4/);
  assert.match(JSON.stringify(run.tools[0].result), /14/);
  assert.ok(run.tools[0].time >= 0 && run.time >= run.tools[0].time);
  assert.match(run.result, /14/);
  assertWhole(client, run, run.partial);
  const { code } = await client.close();
  assert.equal(code, 1000);
});

test("later messages, by each name and with the text in each place", options, async () => {
  const client = await connected();
  const thread = newThread();
  client.start(thread, "count to 1");
  await client.end(thread);
  const messages = [
    ["user_message", { content: "count to 2", references: [], thread_id: thread }],
    ["chat", { message: "count to 3" }, { thread_id: thread }],
    ["chat_message", { content: "count to 4" }, { thread_id: thread }],
    ["agent_request", { text: "count to 5", thread_id: thread }],
    ["execute_agent", { user_request: "count to 6", thread_id: thread }],
    ["user_input", "count to 7", { thread_id: thread }],
    ["chat", undefined, { content: "count to 8", thread_id: thread }],
  ];
  for (const [index, [type, payload, beside]] of messages.entries()) {
    client.say(type, payload, beside);
    const run = await client.end(thread);
    assert.equal(run.result, numbersTo(index + 2), type);
  }
  assert.deepEqual(client.store.errors, []);
  await client.close();
});

for (const [name, payload] of [["nothing", {}], ["its agent", { agent_id: "assistant" }]]) {
  test(`the stop button, which names ${name}, ends what the client sees`, options, async () => {
    const client = await connected();
    const thread = newThread();
    client.start(thread, "count to 200");
    await pieces(client, thread, 3);
    client.say("stop_agent", payload);
    const run = await client.end(thread);
    assert.equal(run.status, "cancelled");
    assert.ok(run.error.length > 0 && run.partial.length > 0);
    assert.deepEqual(client.store.errors, []);
    client.ask(thread, "count to 3");
    assert.equal((await client.end(thread)).result, "1 2 3");
    await client.close();
  });
}

for (const early of [true, false]) {
  test(`a cut in mid-answer, restored ${early ? "before" : "after"} the connection is established`, options, async () => {
    const client = await connected({ early });
    const thread = newThread();
    client.start(thread, "count to 90");
    await pieces(client, thread, 12);
    client.socket.terminate();
    const { code } = await client.comeBack();
    assert.equal(code, 1006);
    assertWhole(client, await client.end(thread), numbersTo(90));
    assert.deepEqual(client.store.errors, []);
    await client.close();
  });
}

test("what an agent asks is a thought with a status, and so is the reply, which an older client may send", options, async () => {
  const client = await connected();
  const thread = newThread();
  client.start(thread, "ask me something");
  const isThought = (status) => ({ type, thread_id: of, payload }) => type === "agent_thinking" && of === thread && payload.status === status;
  const { run_id: run, payload: asked } = (await client.until(isThought("paused"))).at(-1);
  assert.deepEqual([asked.pause, asked.request, asked.reasoning], [1, { message: "What is your name?" }, "What is your name?"]);
  const reply = (pause) => client.say("reply", { text: "Ada" }, { run_id: run, pause });
  reply(2);
  reply(1);
  const { payload: resumed } = (await client.until(isThought("resumed"))).at(-1);
  assert.deepEqual([resumed.pause, resumed.reply], [1, { text: "Ada" }]);
  const told = await client.end(thread);
  assert.deepEqual([told.result, told.status, client.store.errors], ["Hello, Ada.", "completed", ["not_paused"]]);
  await client.close();
});

test("a client that was away gets what happened meanwhile", options, async () => {
  const client = await connected();
  const thread = newThread();
  client.start(thread, "count to 60");
  await pieces(client, thread, 2);
  client.socket.terminate();
  const other = await connected();
  other.ask(newThread(), "count to 70");
  await other.until(({ type, payload }) => type === "agent_completed" && payload.result === numbersTo(70));
  await other.close();
  await client.comeBack();
  assertWhole(client, await client.end(thread), numbersTo(60));
  await client.close();
});

test("two conversations at a time are kept apart, and one is stopped alone", options, async () => {
  const client = await connected();
  const [one, other] = [newThread(), newThread()];
  client.start(one, "count to 200");
  client.start(other, "count to 40");
  await pieces(client, one, 1);
  client.say("switch_thread", { thread_id: one });
  client.say("stop_agent", {});
  const run = await client.end(other);
  assertWhole(client, run, numbersTo(40));
  const [stopped] = client.store.of(one);
  assert.equal(stopped.status, "cancelled");
  assert.ok(numbersTo(200).startsWith(stopped.partial));
  await client.close();
});

test("what expects no answer gets none, and heartbeats are answered in their own words", options, async () => {
  const client = await connected();
  await client.until(({ type }) => type === "handshake_response");
  client.say("pong");
  client.say("heartbeat_ack");
  client.say("event_confirmation", { event_id: "e" });
  client.say("typing_start", { thread_id: "t" });
  client.say("typing_stopped");
  client.say("switch_thread", { thread_id: "t" });
  client.say("heartbeat");
  client.say("ping");
  client.say("disconnect", undefined, { connectionId: "c", reason: "unload" });
  client.say("page_unload");
  client.say("heartbeat");
  const frames = await client.until((() => {
    let acknowledged = 0;
    return ({ type }) => type === "heartbeat_ack" && ++acknowledged === 2;
  })());
  const answers = frames.map(({ type }) => type).filter((type) => /pong|heartbeat|error/.test(type));
  assert.deepEqual(answers, ["heartbeat_ack", "pong", "heartbeat_ack"]);
  await client.close();
});

test("the store reads an error, and the conversation goes on", options, async () => {
  const client = await connected();
  client.say("rearrange_furniture", {});
  const error = (await client.until(({ type }) => type === "error")).at(-1);
  for (const name of ["error_code", "error_message", "details", "recovery_suggestions"]) {
    assert.deepEqual(error[name], error.payload[name], name);
  }
  assert.deepEqual(client.store.errors, ["unknown_type"]);
  const thread = newThread();
  client.ask(thread, "count to 2");
  assert.equal((await client.end(thread)).result, "1 2");
  await client.close();
});

test("a command-line client is told its thread, and uses it", options, async () => {
  const client = await connected();
  const { thread_id: thread } = (await client.until(({ type }) => type === "handshake_response")).at(-1);
  client.ask(thread, "count to 2");
  assert.equal((await client.end(thread)).result, "1 2");
  await client.close();
});

for (const form of Object.keys(FORMS)) {
  for (const path of ["/ws", "/websocket"]) {
    test(`a credential as ${form}, at ${path}`, options, async () => {
      const client = await connected({ form, path });
      const thread = newThread();
      client.start(thread, "count to 2");
      assert.equal((await client.end(thread)).result, "1 2");
      await client.close();
    });
  }
}

test("a ticket, and the paths beside the socket", options, async () => {
  const at = (path) => Object.assign(socketUrl(), { protocol: socketUrl().protocol.replace("ws", "http"), pathname: path });
  const headers = { authorization: `Bearer ${await credential()}` };
  const issued = await fetch(at("/websocket/ticket"), { method: "POST", headers });
  assert.equal(issued.status, 200);
  assert.ok((await issued.json()).ticket.length > 20);
  const health = await fetch(at("/ws/health"));
  assert.deepEqual([health.status, (await health.json()).status], [200, "healthy"]);
  const { websocket } = await (await fetch(at("/ws/config"))).json();
  assert.ok(websocket.heartbeat_interval > 0 && websocket.max_message_size > 0);
  const stats = await (await fetch(at("/ws/stats"))).text();
  assert.ok(JSON.parse(stats).active_connections >= 0);
  assert.ok(!stats.includes(process.env.LOCKSTEP_USER));
});

test("an expired credential: the client refreshes it, comes back, and has missed nothing", options, async () => {
  let token = await logIn();
  const client = new Client({ token: async () => token });
  await client.connect();
  const thread = newThread();
  // Longer than the credential lives: see run.mjs.
  const isOver = client.closed.then(() => true);
  const ended = () => client.end(thread).then(() => false, () => true);
  do {
    client.ask(thread, "count to 150");
  } while (!(await Promise.race([isOver, ended()])));
  const { code } = await client.comeBack(async () => (token = await logIn()));
  assert.equal(code, 1008);
  const runs = () => client.store.of(thread);
  assert.ok(runs().length > 0);
  while (runs().some(({ status }) => status !== "completed")) await client.end(thread);
  for (const run of runs()) assertWhole(client, run, numbersTo(150));
  await client.close();
});

test("a restart of the gateway ends the answer once, and the client goes on", options, async () => {
  const client = await connected();
  const thread = newThread();
  client.start(thread, "count to 200");
  await pieces(client, thread, 5);
  await control("restart");
  await client.comeBack();
  const run = await client.end(thread);
  assert.equal(run.status, "failed");
  assert.equal(new Set(client.seen).size, client.seen.length, "an event came twice");
  assert.ok(numbersTo(200).startsWith(run.partial) && run.partial.length > 0);
  client.ask(thread, "count to 3");
  assert.equal((await client.end(thread)).result, "1 2 3");
  await client.close();
});
