/**
 * A user's chat without a document: deleted conversations, whatever the order of the events, and messages that replace
 * a turn.
 */
import assert from "node:assert/strict";
import { afterEach, mock, test } from "node:test";

import { sockets } from "./fake.mjs";

/** What the chat needs of a browser. */
const kept = new Map();
globalThis.document = /** @type {any} */ ({ baseURI: "http://gateway/" });
globalThis.sessionStorage = /** @type {any} */ ({
  getItem: (key) => kept.get(key) ?? null,
  setItem: (key, value) => kept.set(key, value),
  removeItem: (key) => kept.delete(key),
});
const { Chat } = await import("../../runtime/web/chat.js");

const settled = () => new Promise((resolve) => setImmediate(resolve));

const READY = {
  type: "connection_ready", connection_id: "c1", user_id: "u", epoch: 3, offset: 0, head: 0, resumed: true, mode: "ready",
  limits: {}, heartbeat_ms: 60_000, server_time: 1_000,
};

/** @type {any[]} */ let chats = [];
afterEach(() => {
  for (const chat of chats) chat.leave();
  chats = [];
  kept.clear();
  mock.timers.reset();
});

/** A live chat, its gateway, and the events it emitted. */
async function live(thread = "t1", ready = READY) {
  const { FakeSocket, newest } = sockets();
  globalThis.WebSocket = /** @type {any} */ (FakeSocket);
  const asked = [];
  const api = {
    ask: (path, { method = "GET" } = {}) => new Promise((resolve, reject) => asked.push({ path, method, resolve, reject })),
  };
  const told = [];
  const on = {
    draw() {}, loginNeeded() {},
    announce: (text) => told.push(text),
    choose: (thread, isNew) => told.push(["choose", thread, isNew]),
    deleted: (thread, isShown) => told.push(["deleted", thread, isShown]),
    asked: (run) => told.push(["asked", run]),
  };
  const chat = new Chat({ user: "ada", thread, session: /** @type {any} */ ({ token: async () => "token" }), api: /** @type {any} */ (api), on });
  chats.push(chat);
  await settled();
  newest().open();
  newest().say(ready);
  let offset = 0;
  const frame = (type, data = {}, run = "r1", of = "t1") => ({
    type, data, run_id: run, thread_id: of, previous: offset, offset: ++offset, timestamp: 1_000 + offset,
  });
  const tell = (...event) => newest().say(frame(...event));
  const asks = (method) => asked.filter((one) => one.method === method);
  return { chat, told, tell, frame, newest, asked, asks };
}

const received = (message, text) => ["message_received", { message_id: message, payload: { text } }];
const texts = (chat) => chat.runs.map(({ text }) => text);
const keys = (chat) => chat.threads.map(({ key }) => key);

/** The events with which a deletion ends a running answer. */
const ends = (tell) => {
  tell("tool_completed", { tool_id: "x", status: "abandoned" });
  tell("agent_error", { reason: "cancelled", message: "" });
};

test("a deletion is done once, whether the answer to it or its event comes first", async () => {
  for (const isEventFirst of [true, false]) {
    const { chat, told, tell, asks, asked } = await live();
    asked.find(({ path }) => path.startsWith("threads?")).resolve({ threads: [{ thread_id: "t1", title: "one", updated_at: 1_001 }] });
    tell(...received("m1", "one"));
    tell(...received("m2", "two"), "r2", "t2");
    await settled();
    chat.text = "half a sentence";
    const deletion = chat.delete("t1");
    assert.equal(chat.isDeleting, true);
    ends(tell);
    assert.deepEqual([texts(chat), told.filter((text) => /Stop/.test(text))], [["one"], []], "it is there until it is gone");
    if (isEventFirst) tell("thread_deleted", {}, "d1");
    asks("DELETE")[0].resolve(null);
    await deletion;
    if (!isEventFirst) tell("thread_deleted", {}, "d1");
    const shown = chat.thread;
    assert.notEqual(shown, "t1");
    assert.deepEqual([chat.isDeleting, texts(chat), chat.text, keys(chat)], [false, [], "", ["t2"]]);
    assert.deepEqual(told, [["choose", shown, false], ["deleted", "t1", true]]);
    tell(...received("m3", "three"), "r3");
    chat.show("t1");
    assert.deepEqual([texts(chat), chat.text], [["three"], ""], "it begins again");
  }
});

test("what led to a deletion comes late and is not shown", async () => {
  const { chat, told, tell, asks } = await live();
  tell(...received("m1", "one"));
  const deletion = chat.delete("t1");
  asks("DELETE")[0].resolve(null);
  await deletion;
  ends(tell);
  tell("agent_delta", { part: 1, kind: "text", text: "late" }, "r9");
  tell("notice", { text: "Back at noon." }, "n1", null);
  assert.deepEqual(keys(chat), [""], "what is of no thread is shown");
  tell("thread_deleted", {}, "d1");
  assert.deepEqual(told.filter((text) => Array.isArray(text) && text[0] === "deleted").length, 1);
  tell(...received("m2", "two"), "r2");
  assert.deepEqual(keys(chat).toSorted(), ["", "t1"]);
});

test("a gap in which the event of a deletion may be does not hide what comes after it", async () => {
  const { chat, tell, asks, newest } = await live();
  tell(...received("m1", "one"));
  const deletion = chat.delete("t1");
  asks("DELETE")[0].resolve(null);
  await deletion;
  newest().say({ type: "stream_reset", from: 1, to: 1 });
  tell(...received("m2", "two"), "r2");
  assert.deepEqual(keys(chat), ["t1"]);
});

test("a deletion that fails changes nothing, unless its event has come", async () => {
  const { chat, told, tell, asks } = await live();
  tell(...received("m1", "one"));
  const failed = chat.delete("t1");
  asks("DELETE")[0].reject(Object.assign(new Error("503"), { status: 503 }));
  await assert.rejects(failed, /503/);
  assert.deepEqual([chat.isDeleting, chat.thread, texts(chat), told], [false, "t1", ["one"], []]);
  const lost = chat.delete("t1");
  tell("thread_deleted", {}, "d1");
  asks("DELETE")[1].reject(Object.assign(new Error("no answer"), { status: 0 }));
  await lost;
  assert.deepEqual([texts(chat), told.length], [[], 2]);
});

test("no end is shown of what is deleted elsewhere, and one that was cancelled there is, soon or before what follows", async () => {
  mock.timers.enable({ apis: ["setTimeout"] });
  const { chat, told, tell } = await live();
  const states = () => chat.runs.map(({ state }) => state);
  const begin = (...runs) => runs.forEach((run) => tell(...received(`m-${run}`, run), run));
  begin("r1", "r2");
  ends(tell);
  tell("agent_error", { reason: "cancelled", message: "" }, "r2");
  assert.deepEqual([states(), told], [["open", "open"], []]);
  mock.timers.tick(200);
  assert.deepEqual([states(), told.splice(0)], [["failed", "failed"], ["Stopped.", "Stopped."]]);
  begin("r3");
  tell("agent_error", { reason: "cancelled", message: "" }, "r3");
  tell(...received("m4", "four"), "r4");
  assert.deepEqual([states(), told.splice(0)], [["failed", "failed", "failed", "open"], ["Stopped."]], "in order");
  tell("agent_error", { reason: "timed_out", message: "" }, "r4");
  assert.equal(states().at(-1), "failed", "any other end at once");
  begin("r5");
  chat.stop();
  tell("agent_error", { reason: "cancelled", message: "" }, "r5");
  assert.equal(states().at(-1), "failed", "and one that was asked for here");
  begin("r6");
  told.splice(0);
  tell("agent_error", { reason: "cancelled", message: "" }, "r6");
  tell("thread_deleted", {}, "d1");
  mock.timers.tick(1_000);
  assert.deepEqual([states(), told], [[], [["choose", chat.thread, false], ["deleted", "t1", true]]]);
});

test("a conversation that is deleted elsewhere is gone here, but for what is being written", async () => {
  const { chat, told, tell, asked, newest } = await live();
  tell(...received("m1", "one"));
  chat.text = "half a sentence";
  asked.find(({ path }) => path.startsWith("threads?")).resolve({ threads: [{ thread_id: "t1", title: "one", updated_at: 1_001, open: true }] });
  await settled();
  tell("thread_deleted", {}, "d1");
  assert.deepEqual([keys(chat), chat.text, told.at(-1)], [[], "half a sentence", ["deleted", "t1", true]]);
  asked.find(({ path }) => path.startsWith("threads/turns")).resolve({
    events: [{ type: "message_received", offset: -5, run_id: "old", thread_id: "t1", timestamp: 1, data: { message_id: "m0", payload: "old" } }],
  });
  await settled();
  chat.show("t1");
  assert.deepEqual([texts(chat), keys(chat), chat.text], [[], [], ""], "a page that was on its way brings nothing back");
  tell(...received("m2", "two"), "r2", "t2");
  tell("thread_deleted", {}, "d2", "t2");
  assert.deepEqual([keys(chat), told.at(-1)], [[], ["deleted", "t2", false]]);
});

test("messages that were not sent go with their conversation, and what becomes of others is not told", async () => {
  const { chat, told, tell, newest, asks } = await live();
  tell(...received("m1", "one"));
  chat.send("on its way");
  const sent = newest().take().find(({ type }) => type === "user_message").message_id;
  newest().end(1006);
  chat.send("waits");
  assert.deepEqual(chat.drafts.map(({ state }) => state), ["sent", "waiting"]);
  const deletion = chat.delete("t1");
  asks("DELETE")[0].resolve(null);
  await deletion;
  assert.deepEqual([chat.status.unsent, [...kept.keys()]], [0, []]);
  chat.show("t1");
  assert.deepEqual(chat.drafts, []);
  told.splice(0);
  chat.nudge();
  newest().open();
  newest().say({ ...READY, offset: 1 });
  assert.deepEqual(newest().take().map(({ message_id: id }) => id), [undefined, sent], "it may have run: it is repeated");
  newest().say({ type: "error", code: "forgotten", message: "", message_id: sent });
  assert.deepEqual([told, chat.drafts], [[], []]);
});

test("a page that is loaded reads old deletions and keeps what began again", async () => {
  for (const [isPageFirst, draft] of [[true, ""], [false, ""], [true, "half a sentence"], [false, "half a sentence"]]) {
    const { chat, told, frame, newest, asked } = await live("t1", { ...READY, head: 20 });
    chat.text = draft;
    const gone = frame("thread_deleted", {}, "d1");
    const again = [frame(...received("m1", "again")), frame("agent_completed", { text: "yes" })];
    const page = asked.find(({ path }) => path.startsWith("threads/turns"));
    if (isPageFirst) page.resolve({ events: again, next: null });
    await settled();
    for (const event of [gone, ...again]) newest().say(event);
    if (!isPageFirst) page.resolve({ events: again, next: null });
    await settled();
    assert.deepEqual([chat.thread, texts(chat), chat.text, told], ["t1", ["again"], draft, []], `page first: ${isPageFirst}`);
  }
});

/** Three answered turns. */
function three(tell) {
  for (const [number, text] of ["one", "two", "three"].entries()) {
    tell(...received(`m${number + 1}`, text), `r${number + 1}`);
    tell("agent_completed", { text: `answer to ${text}` }, `r${number + 1}`);
  }
}

const shown = (chat) => chat.turns.map(({ run, earlier }) => [run.text, ...earlier.map(({ text }) => text)]);
/** The texts of the turns whose property `what` is set. */
const those = (chat, what) => chat.turns.filter((turn) => turn[what]).map(({ run }) => run.text);
const messages = (newest) => newest().take().filter(({ type }) => type === "user_message");
const replacing = (message, text, replaces) => ["message_received", { message_id: message, payload: { text }, replaces }];

test("an edit replaces its turn and what followed, and what was in the field before comes back", async () => {
  const { chat, tell, newest } = await live();
  three(tell);
  newest().take();
  chat.text = "half a sentence";
  chat.revise(chat.runs[1]);
  assert.deepEqual([chat.text, chat.edited.offset, those(chat, "isEdited")], ["two", 3, ["two"]]);
  chat.revise(chat.runs[0]);
  chat.endEdit();
  assert.deepEqual([chat.text, chat.edited, those(chat, "isEdited")], ["half a sentence", null, []]);
  chat.revise(chat.runs[1]);
  chat.send("two!");
  assert.deepEqual([chat.text, chat.edited, those(chat, "isReplaced"), those(chat, "isNewest")], ["half a sentence", null, ["two", "three"], []]);
  const [{ message_id: id, replaces, thread_id: thread }] = messages(newest);
  assert.deepEqual([replaces, thread, shown(chat)], [3, "t1", [["one"], ["two"], ["three"]]], "all of it is there until it is replaced");
  tell(...replacing(id, "two!", 3), "r4");
  assert.deepEqual([shown(chat), chat.drafts, those(chat, "isReplaced")], [[["one"], ["two!", "two", "three"]], [], []]);
  chat.send("half a sentence");
  assert.equal("replaces" in messages(newest)[0], false, "the next is ordinary");
});

test("an answer is asked for again in its place, also one that was replaced in another tab before", async () => {
  const { chat, tell, newest } = await live();
  three(tell);
  assert.deepEqual(those(chat, "isNewest"), ["three"]);
  newest().take();
  chat.text = "half a sentence";
  chat.repeat(chat.runs[2]);
  const [{ message_id: id, payload, replaces }] = messages(newest);
  assert.deepEqual([payload, replaces, chat.text], [{ text: "three" }, 5, "half a sentence"]);
  tell(...replacing("m8", "two, elsewhere", 3), "r8");
  tell(...replacing(id, "three", 5), "r9");
  assert.deepEqual(shown(chat), [["one"], ["three", "two", "three", "two, elsewhere"]]);
});

test("what could not be sent replaces nothing, and says again what it would replace", async () => {
  const { chat, tell, newest } = await live();
  three(tell);
  newest().take();
  chat.repeat(chat.runs[1]);
  const [{ message_id: id }] = messages(newest);
  newest().say({ type: "error", code: "busy", message: "", message_id: id });
  assert.deepEqual([those(chat, "isReplaced"), those(chat, "isNewest")], [[], ["three"]]);
  chat.again(id);
  assert.equal(messages(newest)[0].replaces, 3);
  newest().end(1006);
  chat.repeat(chat.runs[2]);
  const waits = chat.drafts.find(({ state }) => state === "waiting");
  assert.equal(chat.edit(waits.id), true);
  assert.deepEqual([chat.text, chat.edited.offset], ["three", 5], "it is an edit of the same turn");
});

test("an edit, and a message that waits, outlast a reload, and replace nothing in another epoch", async () => {
  for (const epoch of [3, 4]) {
    const { chat, tell, newest } = await live();
    three(tell);
    newest().end(1006);
    chat.repeat(chat.runs[2]);
    chat.text = "half a sentence";
    chat.revise(chat.runs[1]);
    chat.leave();
    const { chat: next, newest: after, tell: tellNext } = await live("t1", { ...READY, epoch });
    assert.deepEqual([next.text, next.edited?.offset], ["two", epoch === 3 ? 3 : undefined]);
    next.send("two!");
    assert.deepEqual(messages(after).map(({ payload, replaces }) => [payload.text, replaces]), epoch === 3 ? [["three", 5], ["two!", 3]] : [["three", undefined], ["two!", undefined]]);
    assert.equal(next.text, "half a sentence");
    for (const text of ["k1", "k2", "k3", "k4", "k5"]) tellNext(...received(`m-${text}`, text), text);
    assert.deepEqual(those(next, "isReplaced"), epoch === 3 ? ["k3", "k4", "k5"] : []);
    kept.clear();
  }
});

test("a turn of another epoch, or whose message is not known, is not replaced: what is said is ordinary", async () => {
  const { chat, tell, newest } = await live();
  tell("agent_delta", { part: 1, kind: "text", text: "the end of it" }, "r0");
  three(tell);
  newest().end(1006);
  chat.nudge();
  newest().open();
  newest().say({ ...READY, epoch: 4, resumed: false });
  newest().take();
  chat.text = "and this";
  chat.revise(chat.runs[1]);
  assert.deepEqual([chat.text, chat.edited], ["one\nand this", null]);
  chat.repeat(chat.runs[3]);
  const [{ payload, replaces }] = messages(newest);
  assert.deepEqual([payload, replaces, those(chat, "isReplaced")], [{ text: "three" }, undefined, []]);
});

test("an edit goes with its conversation, and elsewhere all that was in the field stays", async () => {
  for (const isHere of [true, false]) {
    const { chat, tell, asks } = await live();
    three(tell);
    chat.text = "half a sentence";
    chat.revise(chat.runs[1]);
    const deletion = isHere ? chat.delete("t1") : null;
    tell("thread_deleted", {}, "d1");
    asks("DELETE")[0]?.resolve(null);
    await deletion;
    assert.deepEqual([chat.text, chat.edited], [isHere ? "" : "two\nhalf a sentence", null]);
    chat.show("t1");
    assert.deepEqual([chat.text, chat.edited], ["", null]);
  }
});

test("after an absence with more turns than a page has room for, the list is loaded again", async () => {
  for (const [missed, lists] of [[20, 1], [600, 2]]) {
    const { chat, tell, newest, asked } = await live();
    const listings = () => asked.filter(({ path }) => path.startsWith("threads?")).length;
    asked.find(({ path }) => path.startsWith("threads?")).resolve({ threads: [], next: null });
    await settled();
    newest().end(1006);
    chat.nudge();
    newest().open();
    newest().say({ ...READY, head: 2 * missed });
    for (let turn = 0; turn < missed; turn++) {
      tell(...received(`m${turn}`, `text ${turn}`), `r${turn}`, `thread ${turn}`);
      assert.equal(listings(), 1, "not before all of it has come");
      tell("agent_completed", { text: "done" }, `r${turn}`, `thread ${turn}`);
    }
    await settled();
    assert.deepEqual([chat.status.catchingUp, listings()], [false, lists], `${missed} turns`);
    kept.clear();
  }
});

const pause = ["agent_paused", { pause: 1, request: { message: "Well?" } }];
const card = (chat) => chat.runs[0].steps.find(({ kind }) => kind === "pause");

test("what the agent asks is told, and the page only if its message was written here", async () => {
  const { chat, told, tell, newest } = await live();
  chat.send("one");
  const { message_id: own } = newest().take().find(({ type }) => type === "user_message");
  tell(...received(own, "one"));
  tell(...pause);
  assert.deepEqual(told.slice(-2), ["The agent asks you. Well?", ["asked", "r1"]]);
  tell(...received("m2", "two"), "r2");
  tell(...pause, "r2");
  assert.deepEqual(told.at(-1), "The agent asks you. Well?");
  assert.deepEqual(chat.open.map(({ id }) => id), ["r1", "r2"], "both can be stopped");
});

test("a reply is written once, and its record comes with the stream", async () => {
  const { chat, tell, newest } = await live();
  tell(...received("m1", "one"));
  tell(...pause);
  newest().take();
  for (let count = 0; count < 2; count++) chat.reply("r1", 1, { text: "yes" });
  const written = newest().take().filter(({ type }) => type === "reply");
  assert.deepEqual([written, card(chat).state], [[{ type: "reply", run_id: "r1", pause: 1, payload: { text: "yes" } }], "sent"]);
  tell("agent_resumed", { pause: 1, reply: { text: "no" } });
  assert.deepEqual([card(chat).state, card(chat).reply], ["replied", { text: "no" }]);
});

test("a reply that failed says why, and can be written again", async () => {
  const { chat, told, tell, newest } = await live("t1", { ...READY, limits: { message_bytes: 200 } });
  tell(...received("m1", "one"));
  tell(...pause);
  chat.reply("r1", 1, { text: "x".repeat(200) });
  assert.deepEqual([card(chat).state, card(chat).why], ["open", "The reply is longer than this gateway accepts. Shorten it."]);
  assert.equal(told.at(-1), card(chat).why);
  chat.reply("r1", 1, { text: "yes" });
  assert.equal(card(chat).state, "sent");
  newest().say({ type: "error", code: "not_paused", message: "no" });
  assert.deepEqual([card(chat).state, told.at(-1)], ["open", "Another reply came first."]);
});
