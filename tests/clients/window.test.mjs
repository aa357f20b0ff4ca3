/**
 * What precedes the stream's window, over the socket, against a real gateway that has eight events of a user in memory:
 * a reader that was away for longer misses nothing, and conversations are listed, read and renamed.
 *
 * GATEWAY  the gateway's program; by default target/release/lockstep
 */
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";

import WebSocket from "ws";

import { Client } from "../../runtime/web/client.js";
import { LIMIT, Peer, assertChained, credential, endOf, isEvent, isType, socketUrl } from "./gateway.mjs";

const PROGRAM = process.env.GATEWAY ?? fileURLToPath(new URL("../../target/release/lockstep", import.meta.url));
const [USER, PASSWORD] = ["ada", "a password of these tests"];
const RETAINED = 8;
/** How many requests one connection may have pending by default. */
const QUERIES = 4;
const options = { timeout: 2 * LIMIT };

/** The environment without the gateway's variables. */
const environment = () => Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("LOCKSTEP_")));

async function freePort() {
  const listener = createServer().listen(0, "127.0.0.1");
  await once(listener, "listening");
  const { port } = listener.address();
  listener.close();
  return port;
}

/** The tests' gateway. */
const gateway = {
  directory: "",
  settings: "",
  process: null,

  async start() {
    this.process = spawn(PROGRAM, ["serve", "--config", this.settings, "--log-filter", "warn"], {
      env: environment(), stdio: ["ignore", "inherit", "inherit"],
    });
    this.process.on("error", (error) => console.error(error.message));
    while (!(await fetch(new URL("readyz", process.env.LOCKSTEP_URL)).then(({ ok }) => ok, () => false))) {
      assert.equal(this.process.exitCode, null, "the gateway does not start");
      await new Promise((resolve) => setImmediate(resolve));
    }
  },

  async end(signal) {
    if (this.process === null || this.process.exitCode !== null || this.process.signalCode !== null) return;
    const ended = once(this.process, "exit");
    this.process.kill(signal);
    await ended;
  },
};

before(async () => {
  const port = await freePort();
  gateway.directory = await mkdtemp(join(tmpdir(), "lockstep-window-"));
  gateway.settings = join(gateway.directory, "lockstep.toml");
  const bounds = `[bounds]\nretained = ${RETAINED}\nrequests = 0\npage = 256\n`;
  const data = join(gateway.directory, "data");
  await writeFile(gateway.settings, `listen = "127.0.0.1:${port}"\ndata_dir = "${data}"\n${bounds}[agent]\npace_ms = 0\n`);
  Object.assign(process.env, { LOCKSTEP_URL: `http://127.0.0.1:${port}/`, LOCKSTEP_USER: USER, LOCKSTEP_PASSWORD: PASSWORD });
  const added = spawnSync(PROGRAM, ["user", "--config", gateway.settings, "add", USER], { input: `${PASSWORD}\n`, env: environment() });
  assert.equal(added.status, 0, String(added.stderr ?? added.error));
  await gateway.start();
}, options);

after(async () => {
  await gateway.end("SIGTERM");
  await rm(gateway.directory, { recursive: true, force: true });
});

let count = 0;

/** Sends messages one after the other, and returns the events of their answers. */
async function say(peer, thread, ...texts) {
  const events = [];
  for (const text of texts) {
    const message_id = `m${++count}`;
    peer.say({ type: "user_message", message_id, thread_id: thread, payload: { text } });
    events.push(...(await peer.until(endOf(message_id))).filter(isEvent));
  }
  return events;
}

/** The answer to a request, which must name it. */
async function ask(peer, request) {
  const request_id = `r${++count}`;
  peer.say({ ...request, request_id });
  return (await peer.until((frame) => frame.request_id === request_id)).at(-1);
}

/** All pages of a list. */
async function pages(peer, request, member) {
  const found = [];
  for (let next; next !== null; ) {
    const page = await ask(peer, { ...request, before: next });
    assert.notEqual(page.type, "error", JSON.stringify(page));
    found.push(page[member]);
    ({ next } = page);
  }
  return found;
}

const isPiece = isType("agent_delta");

/** The pieces of each part as one text. */
function texts(events) {
  const parts = new Map();
  for (const { run_id, data: { part, kind, text } } of events.filter(isPiece)) {
    const name = `${run_id} ${part} ${kind}`;
    parts.set(name, (parts.get(name) ?? "") + text);
  }
  return parts;
}

/** STR-3: what was read is what was seen live, perhaps in fewer frames. */
function assertSame(read, live, told) {
  const others = (events) => events.filter((event) => !isPiece(event));
  assert.deepEqual(others(read), others(live), told);
  assert.deepEqual(texts(read), texts(live), told);
  const places = new Set(live.map(({ offset }) => offset));
  assert.ok(read.every(({ offset }) => places.has(offset)), told);
}

/** What a reader receives that resumes from an offset. */
async function resumed(token, resume) {
  const [peer, ready] = await Peer.ready({ token, resume });
  assert.deepEqual([ready.resumed, ready.offset, ready.epoch], [true, resume.offset, resume.epoch]);
  const frames = ready.head > ready.offset ? await peer.until(({ offset }) => offset >= ready.head) : [];
  assert.deepEqual(frames.filter((frame) => !("previous" in frame)), [], "nothing but events: no gap is told");
  assertChained(frames, resume.offset);
  await peer.close();
  return frames;
}

test("a reader that comes back from before the window gets all that it has missed, also after a crash", options, async () => {
  const token = await credential();
  const [peer, { epoch, offset, limits }] = await Peer.ready({ token, resume: "latest" });
  assert.equal(limits.retained, RETAINED);
  const live = await say(peer, "first", "count to 12", "what is 2+3*4?", "count to 3", "hello", "what is 5+5?");
  assertChained(live, offset);
  await peer.close();
  const places = [offset, ...live.map((event) => event.offset)];
  assert.ok(live.filter((event) => !isPiece(event)).length > 2 * RETAINED, "most of it is before the window");
  for (const place of places) {
    const read = await resumed(token, { epoch, offset: place });
    assertSame(read, live.filter((event) => event.offset > place), `from ${place}`);
  }
  await gateway.end("SIGKILL");
  await gateway.start();
  for (const place of [places[0], places[5], places.at(-2)]) {
    const read = await resumed(await credential(), { epoch, offset: place });
    // An open run would have been ended; there was none.
    assertSame(read, live.filter((event) => event.offset > place), `after a crash, from ${place}`);
  }
});

test("conversations are listed, read and renamed over the socket", options, async () => {
  const [peer] = await Peer.ready({ token: await credential(), resume: "latest" });
  const sums = await say(peer, "sums", "what is 1+2?", "count to 5", "what is 3+4?");
  await say(peer, "other", "what is 6+7?");
  const listed = (await pages(peer, { type: "list_threads", limit: 1 }, "threads")).flat();
  assert.deepEqual(listed.slice(0, 2).map(({ thread_id, title, open }) => [thread_id, title, open]), [
    ["other", "what is 6+7?", false], ["sums", "what is 1+2?", false],
  ]);
  assert.ok(listed.every(({ updated_at }, index) => index === 0 || updated_at <= listed[index - 1].updated_at));
  assert.deepEqual((await ask(peer, { type: "list_threads" })).threads, listed, "in one page");

  const turns = await pages(peer, { type: "read_turns", thread_id: "sums", limit: 1 }, "events");
  assert.deepEqual(turns.filter((page) => page.length > 0).map((page) => page[0].data.payload?.text), [
    "what is 3+4?", "count to 5", "what is 1+2?",
  ]);
  const read = turns.toReversed().flat();
  const unlinked = sums.map(({ previous, ...event }) => event);
  assertSame(read, unlinked, "as they were on the socket, but for what says where they were in the stream");
  assert.ok(read.filter(isPiece).length < sums.filter(isPiece).length, "pieces are joined");

  const title = async () => (await ask(peer, { type: "list_threads" })).threads.find(({ thread_id }) => thread_id === "sums").title;
  assert.equal((await ask(peer, { type: "rename_thread", thread_id: "sums", title: " Sums " })).type, "thread_renamed");
  assert.equal(await title(), "Sums");
  assert.equal((await ask(peer, { type: "rename_thread", thread_id: "sums", title: null })).type, "thread_renamed");
  assert.equal(await title(), "what is 1+2?");
  await peer.close();
});

test("a request that is wrong is refused by its name, and the connection goes on", options, async () => {
  const [peer] = await Peer.ready({ token: await credential(), resume: "latest" });
  for (const [request, code] of [
    [{ type: "rename_thread", thread_id: "there is none", title: "x" }, "unknown_thread"],
    [{ type: "rename_thread", thread_id: "sums", title: "  " }, "invalid_field"],
    [{ type: "rename_thread", thread_id: "sums", title: "x".repeat(201) }, "invalid_field"],
    [{ type: "list_threads", limit: 0 }, "invalid_field"], [{ type: "list_threads", limit: 201 }, "invalid_field"],
    [{ type: "list_threads", before: "x" }, "invalid_field"], [{ type: "read_turns", before: "x" }, "invalid_field"],
    [{ type: "read_turns", before: 7 }, "invalid_field"], [{ type: "read_turns", thread_id: 7 }, "invalid_field"],
  ]) {
    const answer = await ask(peer, request);
    assert.deepEqual([answer.type, answer.code], ["error", code], JSON.stringify(request));
    assert.ok(answer.message.endsWith("."));
  }
  for (const request_id of [undefined, null, "", 7, "x".repeat(129)]) {
    peer.say({ type: "list_threads", request_id });
    const refused = await peer.next();
    assert.deepEqual([refused.code, refused.request_id], ["invalid_field", undefined], String(request_id));
  }
  const empty = await ask(peer, { type: "read_turns", thread_id: "there is none" });
  assert.deepEqual([empty.events, empty.next], [[], null]);
  await peer.close();
});

test("each of many requests is answered once, and what is one too many is busy", options, async () => {
  const [peer] = await Peer.ready({ token: await credential(), resume: "latest" });
  const ids = Array.from({ length: 5 * QUERIES }, (_, index) => `many ${index}`);
  for (const request_id of ids) peer.say({ type: "list_threads", request_id });
  const answers = [];
  while (answers.length < ids.length) answers.push(await peer.next());
  assert.deepEqual(answers.map(({ request_id }) => request_id).sort(), [...ids].sort());
  assert.ok(answers.filter(isType("threads")).length >= QUERIES);
  assert.ok(answers.every(({ type, code }) => type === "threads" || code === "busy"));
  peer.say({ type: "ping" });
  assert.equal((await peer.next()).type, "pong", "and nothing else comes");
  await peer.close();
});

test("an answer that comes after a deletion has nothing of what is deleted", options, async () => {
  const [peer, { epoch }] = await Peer.ready({ token: await credential(), resume: "latest" });
  for (let round = 0; round < 5; round++) {
    const [received] = await say(peer, "secret", `secret 1+${round}`);
    await say(peer, "sums", "count to 9");
    peer.say({ type: "read_turns", thread_id: "secret", request_id: "before" });
    peer.say({ type: "delete_thread", thread_id: "secret" });
    peer.say({ type: "read_turns", thread_id: "secret", request_id: "after" });
    peer.say({ type: "list_threads", request_id: "list" });
    const waiting = new Set(["before", "after", "list", "thread_deleted"]);
    let isDeleted = false;
    while (waiting.size > 0) {
      const frame = await peer.next();
      waiting.delete(frame.request_id ?? frame.type);
      isDeleted ||= frame.type === "thread_deleted";
      if (isDeleted) assert.doesNotMatch(JSON.stringify(frame), /secret 1|"title":"secret/, `round ${round}`);
    }
    // A reader that resumes from before it does not get it either.
    const read = await resumed(await credential(), { epoch, offset: received.previous });
    assert.doesNotMatch(JSON.stringify(read), /secret 1/);
    assert.equal(read.at(-1).type, "thread_deleted");
  }
  await peer.close();
});

test("the client of the page reads on from before the window, and lists, reads and renames", options, async () => {
  const [peer, { epoch, offset }] = await Peer.ready({ token: await credential(), resume: "latest" });
  const live = await say(peer, "client", "count to 12", "what is 2+3?", "what is 4+5?", "what is 6+7?");
  await peer.close();
  const client = new Client({ url: socketUrl(), token: credential, begin: { epoch, offset }, WebSocket });
  const [read, resets] = [[], []];
  client.addEventListener("event", ({ detail }) => read.push(detail));
  client.addEventListener("reset", ({ detail }) => resets.push(detail));
  const caughtUp = new Promise((resolve) => {
    client.addEventListener("status", ({ detail }) => detail.state === "live" && !detail.catchingUp && resolve(undefined));
  });
  await assert.rejects(client.threads(), { code: "closed" }, "it is not connected");
  client.connect();
  await caughtUp;
  assertChained(read, offset);
  assertSame(read, live, "all of it");
  assert.deepEqual(resets, []);

  const { threads, next } = await client.threads({ limit: 1 });
  assert.deepEqual([threads.map(({ thread_id }) => thread_id), typeof next], [["client"], "string"]);
  assert.notEqual((await client.threads({ limit: 1, before: next })).threads[0].thread_id, "client");
  const newest = await client.turns("client", { limit: 1 });
  assert.equal(newest.events[0].data.payload.text, "what is 6+7?");
  const earlier = await client.turns("client", { before: newest.next });
  assert.deepEqual(earlier.events.filter(isType("message_received")).map(({ data }) => data.payload.text), [
    "count to 12", "what is 2+3?", "what is 4+5?",
  ]);
  assert.equal(await client.rename("client", "Renamed"), undefined);
  assert.equal((await client.threads()).threads[0].title, "Renamed");
  await assert.rejects(client.rename("there is none", "x"), { code: "unknown_thread" });
  const cut = client.threads();
  client.disconnect();
  await assert.rejects(cut, { code: "closed" });
});
