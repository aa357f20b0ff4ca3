/**
 * AG-UI in both directions, against real gateways: front ends with the npm package `@ag-ui/client`, and an agent of
 * the PyPI package `pydantic-ai-slim` behind its own AG-UI adapter.
 *
 * GATEWAY  the gateway's program; by default target/release/lockstep
 * PYTHON   the interpreter that has requirements.txt; by default python3
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";

import { HttpAgent } from "@ag-ui/client";

import { Own, answers, end, freePort } from "./own.mjs";

const LIMIT = 30_000;
const options = { timeout: 2 * LIMIT };
const [USER, PASSWORD] = ["ada", "a password of these tests"];
const ORIGIN = "https://chat.example.org";
const AGENT_TOKEN = "agent-token-very-secret";
const NUMBERS = Array.from({ length: 90 }, (_, index) => index + 1).join(" ");

/** The gateway with the built-in agent, and the one whose agent is Pydantic AI's. */
let own = null;
let remote = null;
let server = null;
let serverUrl = "";

before(async () => {
  own = await Own.create(`origins = ["${ORIGIN}"]\n[agent]\npace_ms = 10\n`, USER, PASSWORD);
  const port = await freePort();
  serverUrl = `http://127.0.0.1:${port}/`;
  server = spawn(process.env.PYTHON ?? "python3", [fileURLToPath(new URL("agui_agent.py", import.meta.url)), port, AGENT_TOKEN], {
    stdio: ["ignore", "inherit", "inherit"],
  });
  server.on("error", (error) => console.error(error.message));
  remote = await Own.create("", USER, PASSWORD);
  const key = join(remote.directory, "agent.token");
  await writeFile(key, `${AGENT_TOKEN}\n`);
  await writeFile(remote.settings, `\n[agent]\nkind = "agui"\nurl = "${serverUrl}"\napi_key_file = "${key}"\n`, { flag: "a" });
  await Promise.all([own.start(), remote.start(), answers(`${serverUrl}seen`, server)]);
}, options);

after(async () => {
  await Promise.all([own?.remove(), remote?.remove(), end(server)]);
});

/** A front end in a thread of its own. */
async function frontEnd(gateway, { threadId = randomUUID(), ...settings } = {}) {
  const headers = { authorization: `Bearer ${await gateway.token()}` };
  return new HttpAgent({ url: new URL("agui", gateway.url).href, headers, threadId, ...settings });
}

/** Adds a message of the user, runs, and returns the messages that came. */
async function ask(agent, content, subscriber) {
  agent.addMessage({ id: randomUUID(), role: "user", content });
  return (await agent.runAgent({}, subscriber)).newMessages;
}

/** The events of a thread, as the gateway keeps them. */
async function kept(gateway, thread) {
  const headers = { authorization: `Bearer ${await gateway.token()}` };
  const response = await fetch(new URL(`threads/turns?thread_id=${thread}`, gateway.url), { headers });
  assert.equal(response.status, 200);
  return (await response.json()).events;
}

const count = (events, type) => events.filter((event) => event.type === type).length;

/** What follows an id, or everything, as raw server-sent events, up to `most`. */
async function read(agent, input, { seen, most = Infinity } = {}) {
  const abort = new AbortController();
  const headers = { ...agent.headers, "content-type": "application/json", ...(seen && { "last-event-id": seen }) };
  const response = await fetch(agent.url, { method: "POST", headers, body: JSON.stringify(input), signal: abort.signal });
  assert.equal(response.status, 200, await (response.ok ? "" : response.text()));
  assert.equal(response.headers.get("content-type"), "text/event-stream");
  const events = [];
  let text = "";
  for await (const chunk of response.body.pipeThrough(new TextDecoderStream())) {
    text += chunk;
    const parts = text.split("\n\n");
    text = parts.pop();
    for (const part of parts) {
      const [, id] = /^id: (.*)$/m.exec(part) ?? [];
      const [, data] = /^data: (.*)$/m.exec(part) ?? [];
      if (data) events.push({ id, event: JSON.parse(data) });
      if (events.length === most) {
        abort.abort();
        return events;
      }
    }
  }
  return events;
}

const inputOf = (threadId, content, id = randomUUID()) => ({
  threadId, runId: randomUUID(), state: {}, messages: [{ id, role: "user", content }], tools: [], context: [], forwardedProps: {},
});

/** The text of raw events. */
const textOf = (events) => events.filter(({ event }) => event.type === "TEXT_MESSAGE_CONTENT").map(({ event }) => event.delta).join("");

test("a whole run, with its tool and its text", options, async () => {
  const agent = await frontEnd(own);
  const messages = await ask(agent, "what is 2+3*4?");
  const caller = messages.find((message) => message.toolCalls);
  assert.equal(caller.toolCalls[0].function.name, "calculator");
  assert.deepEqual(JSON.parse(caller.toolCalls[0].function.arguments), { expression: "2+3*4" });
  const result = messages.find((message) => message.role === "tool");
  assert.equal(result.toolCallId, caller.toolCalls[0].id);
  assert.match(result.content, /14/);
  assert.match(messages.at(-1).content, /14/);
  // The thread goes on.
  assert.ok((await ask(agent, "hello")).length > 0);
  assert.equal(count(await kept(own, agent.threadId), "message_received"), 2);
});

test("a run that was cut in the middle goes on where the front end is", options, async () => {
  let most = 12;
  // As a proxy that gives up in the middle: the body just ends.
  const cutting = async (url, init) => {
    const response = await fetch(url, init);
    const through = new TransformStream({
      transform: (chunk, controller) => (most-- > 0 ? controller.enqueue(chunk) : controller.terminate()),
    });
    return new Response(response.body.pipeThrough(through), { status: response.status, headers: response.headers });
  };
  const agent = await frontEnd(own, { fetch: cutting });
  await ask(agent, "count to 90");
  const partial = agent.messages.at(-1).content;
  assert.ok(partial.length > 0 && NUMBERS.startsWith(partial) && partial !== NUMBERS, partial);
  most = Infinity;
  // The same messages again, with what had come of the answer.
  await agent.runAgent();
  assert.equal(agent.messages.at(-1).content, NUMBERS);
  assert.equal(agent.messages.length, 2);
  // And once more, when there is nothing left to say.
  await agent.runAgent();
  assert.equal(agent.messages.at(-1).content, NUMBERS);
  assert.equal(count(await kept(own, agent.threadId), "message_received"), 1);
});

test("Last-Event-ID resumes behind any event, without gap or repeat", options, async () => {
  const agent = await frontEnd(own);
  const input = inputOf(agent.threadId, "what is 2+3*4?");
  const whole = await read(agent, input);
  assert.equal(whole.at(0).event.type, "RUN_STARTED");
  assert.equal(whole.at(-1).event.type, "RUN_FINISHED");
  for (const [index, { id }] of whole.entries()) {
    const rest = await read(agent, input, { seen: id });
    const expected = whole.slice(index + 1);
    assert.equal(textOf(rest), textOf(expected), `behind ${id}`);
    const others = (events) => events.map(({ event }) => event.type).filter((type) => type !== "TEXT_MESSAGE_CONTENT");
    assert.deepEqual(others(rest), others(expected), `behind ${id}`);
  }
  // In the middle of a growing answer.
  const growing = inputOf(agent.threadId, "count to 90");
  const first = await read(agent, growing, { most: 9 });
  const rest = await read(agent, growing, { seen: first.at(-1).id });
  assert.equal(textOf(first) + textOf(rest), NUMBERS);
  assert.equal(rest.at(-1).event.type, "RUN_FINISHED");
  const response = await fetch(agent.url, {
    method: "POST", headers: { ...agent.headers, "content-type": "application/json", "last-event-id": "1:1" }, body: JSON.stringify(growing),
  });
  assert.equal(response.status, 410);
});

test("the same message twice, also at the same time, runs once", options, async () => {
  const threadId = randomUUID();
  const message = { id: "1", role: "user", content: "count to 30" };
  const agents = await Promise.all([1, 2].map(() => frontEnd(own, { threadId, initialMessages: [message] })));
  const [one, two] = await Promise.all(agents.map((agent) => agent.runAgent()));
  assert.deepEqual(one.newMessages, two.newMessages);
  const later = await frontEnd(own, { threadId, initialMessages: [message] });
  assert.deepEqual((await later.runAgent()).newMessages, one.newMessages);
  assert.equal(count(await kept(own, threadId), "message_received"), 1);
  // Another thread's message of that id is another message.
  const other = await frontEnd(own, { initialMessages: [{ ...message, content: "hello" }] });
  assert.notDeepEqual((await other.runAgent()).newMessages, one.newMessages);
});

test("a run outlives its request, and is cancelled by a request", options, async () => {
  const agent = await frontEnd(own);
  const input = { ...inputOf(agent.threadId, "count to 500"), protocolVersion: "1.0" };
  await read(agent, input, { most: 4 });
  const headers = { ...agent.headers, "content-type": "application/json" };
  const cancel = () => fetch(`${agent.url}/cancel`, { method: "POST", headers, body: JSON.stringify(input) });
  assert.equal((await cancel()).status, 204);
  const rest = await read(agent, input);
  assert.deepEqual(rest.at(-1).event.outcome, { type: "cancelled" });
  assert.equal((await cancel()).status, 404);
  // A client from before 1.0 does not know this outcome.
  const earlier = await read(agent, { ...input, protocolVersion: undefined });
  assert.deepEqual([earlier.at(-1).event.type, earlier.at(-1).event.code], ["RUN_ERROR", "cancelled"]);
});

test("a front end whose connection ends is told, and goes on", options, async () => {
  const agent = await frontEnd(own);
  const operator = (await readFile(join(own.directory, "data", "operator.token"), "utf8")).trim();
  const revoke = () => fetch(new URL("operator/revoke", own.url), {
    method: "POST", headers: { authorization: `Bearer ${operator}`, "content-type": "application/json" }, body: JSON.stringify({ subject: USER }),
  });
  let error = null;
  let revoked = null;
  await ask(agent, "count to 90", {
    onTextMessageContentEvent: () => void (revoked ??= revoke()),
    onRunErrorEvent: ({ event }) => void (error = event),
  });
  assert.equal((await revoked).status, 204);
  assert.equal(error.code, "disconnected");
  assert.ok(agent.messages.at(-1).content.length < NUMBERS.length);
  agent.headers = (await frontEnd(own)).headers;
  await agent.runAgent();
  assert.equal(agent.messages.at(-1).content, NUMBERS);
});

test("what is wrong with a request is told by its status", options, async () => {
  const agent = await frontEnd(own);
  const url = agent.url;
  const good = { ...agent.headers, "content-type": "application/json" };
  const input = inputOf(randomUUID(), "hello");
  const post = (body, headers) => fetch(url, { method: "POST", headers, body: JSON.stringify(body) });
  for (const [status, code, body, headers] of [
    [401, "no_token", input, {}],
    [401, "rejected", input, { ...good, authorization: "Bearer nonsense" }],
    [403, "origin", input, { ...good, origin: "https://elsewhere.example" }],
    [400, "bad_request", {}, good],
    [400, "bad_request", { ...input, messages: [] }, good],
    [400, "bad_request", input, { ...good, "last-event-id": "nonsense" }],
    [400, "bad_request", { ...input, resume: [{ interruptId: "i", status: "perhaps" }] }, good],
    [404, "unknown_run", { ...input, resume: [{ interruptId: "i", status: "resolved" }] }, good],
    [404, "unknown_run", { ...input, messages: [...input.messages, { id: "t", role: "tool", toolCallId: "c", content: "1" }] }, good],
    [413, "too_large", inputOf("t", "x".repeat(70_000)), good],
    [413, "too_large", inputOf("t", "x".repeat(1_100_000)), good],
  ]) {
    const response = await post(body, headers);
    assert.equal(response.status, status, JSON.stringify(body).slice(0, 200));
    assert.equal((await response.json()).error.code, code);
  }
  const preflight = await fetch(url, { method: "OPTIONS", headers: { origin: ORIGIN, "access-control-request-method": "POST" } });
  assert.deepEqual([preflight.status, preflight.headers.get("access-control-allow-origin")], [204, ORIGIN]);
  assert.match(preflight.headers.get("access-control-allow-headers"), /authorization.*last-event-id/);
});

test("an agent of another language answers, with thoughts, tool and text", options, async () => {
  const agent = await frontEnd(remote);
  const messages = await ask(agent, "what is 2 and 3?");
  assert.equal(messages.find((message) => message.role === "reasoning").content, "Hm, let me see.");
  const call = messages.find((message) => message.toolCalls).toolCalls[0].function;
  assert.deepEqual([call.name, JSON.parse(call.arguments)], ["add", { a: 2, b: 3 }]);
  assert.deepEqual(JSON.parse(messages.find((message) => message.role === "tool").content), { sum: 5 });
  assert.equal(messages.at(-1).content, "The sum is {'sum': 5}.");
  // It is told the thread's history, with its tools.
  assert.equal((await ask(agent, "thanks")).at(-1).content, "You said: what is 2 and 3? | thanks");
  const events = await kept(remote, agent.threadId);
  assert.deepEqual([count(events, "tool_executing"), count(events, "tool_completed"), count(events, "agent_completed")], [1, 1, 2]);
});

const seen = async () => (await fetch(`${serverUrl}seen`)).json();

test("an approval at an agent of another language waits for the front end, and its tool runs once", options, async () => {
  const agent = await frontEnd(remote);
  const first = await ask(agent, "pay");
  const [interrupt, ...others] = agent.pendingInterrupts;
  assert.equal(others.length, 0);
  assert.equal(interrupt.toolCallId, first.find((message) => message.toolCalls).toolCalls[0].id);
  assert.match(interrupt.message, /^Approve pay\(.*5.*\)\?$/);
  assert.deepEqual(interrupt.responseSchema.required, ["approved"]);
  await assert.rejects(agent.runAgent(), /not addressed/, "the client itself wants an answer");
  const copy = agent.clone();
  const resume = [{ interruptId: interrupt.id, status: "resolved", payload: { approved: true } }];
  const { newMessages } = await agent.runAgent({ resume });
  assert.equal(newMessages.find((message) => message.role === "tool").content, "paid 5 euros");
  assert.equal(agent.messages.at(-1).content, "pay: paid 5 euros");
  assert.deepEqual(agent.pendingInterrupts, []);
  // The same answer again, from another client: the first counted.
  copy.headers = agent.headers;
  await copy.runAgent({ resume });
  assert.equal(copy.messages.at(-1).content, "pay: paid 5 euros");
  assert.equal((await seen()).paid, 1);
  const events = await kept(remote, agent.threadId);
  assert.deepEqual(["agent_paused", "agent_resumed", "tool_executing", "tool_completed", "agent_completed"].map((type) => count(events, type)), [1, 1, 1, 1, 1]);
  // The conversation goes on.
  assert.equal((await ask(agent, "thanks")).at(-1).content, "You said: pay | thanks");
});

test("what is denied or left unanswered is not done, over a restart too", options, async () => {
  const { paid } = await seen();
  for (const answer of [{ status: "resolved", payload: { approved: false, reason: "too much" } }, { status: "cancelled" }]) {
    const agent = await frontEnd(remote);
    await ask(agent, "pay");
    await end(remote.process);
    await remote.start();
    agent.headers = (await frontEnd(remote)).headers;
    await agent.runAgent({ resume: [{ interruptId: agent.pendingInterrupts[0].id, ...answer }] });
    assert.equal(agent.messages.at(-1).content, answer.payload ? "pay: too much" : "pay: Cancelled by user.");
  }
  assert.equal((await seen()).paid, paid);
});

test("a tool of the front end runs there, and the agent of another language goes on with its result", options, async () => {
  const agent = await frontEnd(remote);
  const tools = [{ name: "colour", description: "The colour of something.", parameters: { type: "object", properties: { of: { type: "string" } } } }];
  agent.addMessage({ id: randomUUID(), role: "user", content: "which colour?" });
  const { newMessages } = await agent.runAgent({ tools });
  const [call] = newMessages.find((message) => message.toolCalls).toolCalls;
  assert.deepEqual([call.function.name, JSON.parse(call.function.arguments)], ["colour", { of: "sky" }]);
  assert.deepEqual(agent.pendingInterrupts, []);
  agent.addMessage({ id: randomUUID(), role: "tool", toolCallId: call.id, content: "blue" });
  await agent.runAgent({ tools });
  assert.equal(agent.messages.at(-1).content, "colour: blue");
  assert.equal(agent.messages.filter((message) => message.role === "tool").length, 1, "the client has the result already");
  await agent.runAgent({ tools });
  assert.equal(agent.messages.at(-1).content, "colour: blue");
  const events = await kept(remote, agent.threadId);
  assert.deepEqual(["agent_paused", "agent_resumed", "tool_completed", "agent_completed"].map((type) => count(events, type)), [1, 1, 1, 1]);
});

test("the built-in agent asks first, and takes no for an answer", options, async () => {
  const agent = await frontEnd(own);
  await ask(agent, "ask me, then 6 * 7");
  const [{ id, message }] = agent.pendingInterrupts;
  assert.equal(message, "May I use these tools?");
  await agent.runAgent({ resume: [{ interruptId: id, status: "cancelled" }] });
  assert.equal(agent.messages.at(-1).content, "Then I leave it.");
});

test("a run that is cancelled stops at its agent", options, async () => {
  const agent = await frontEnd(remote);
  const input = inputOf(agent.threadId, "endless");
  await read(agent, input, { most: 3 });
  const headers = { ...agent.headers, "content-type": "application/json" };
  const cancelled = await fetch(`${agent.url}/cancel`, { method: "POST", headers, body: JSON.stringify(input) });
  assert.equal(cancelled.status, 204);
  while ((await (await fetch(`${serverUrl}seen`)).json()).stopped === 0) await new Promise((resolve) => setImmediate(resolve));
});

test("an agent that fails says so once, and no one learns its token", options, async () => {
  const agent = await frontEnd(remote);
  let error = null;
  await ask(agent, "fail", { onRunErrorEvent: ({ event }) => void (error = event) }).catch(() => {});
  assert.deepEqual([error.code, error.message], ["reported", "the agent reported an error"]);
  assert.equal(count(await kept(remote, agent.threadId), "agent_error"), 1);
  const said = await remote.said();
  assert.match(said, /the model is broken, says \[key\]/);
  for (const text of [said, remote.printed(), JSON.stringify(error)]) assert.ok(!text.includes(AGENT_TOKEN), text);
  assert.match(remote.printed(), /url = /);
});
