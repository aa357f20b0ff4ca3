/** Conversations built from events, and their display, without a document. */
import assert from "node:assert/strict";
import { test } from "node:test";

import { outcomesOf, replyTo, requestOf } from "../../runtime/web/asks.js";
import { Conversations, MAX_RUNS, pausedOf, turnsOf } from "../../runtime/web/conversation.js";
import { describe, ending, refusal, spoken, tooLong, waiting } from "../../runtime/web/words.js";
import { chance } from "./fake.mjs";

let offset = 0;
const event = (type, data = {}, run = "r1", thread = "t1") => ({
  type, data, run_id: run, thread_id: thread, offset: ++offset, previous: offset - 1, timestamp: 1_000 + offset,
});
const received = (message, payload, run, thread) => event("message_received", { message_id: message, payload }, run, thread);
const thinking = (text) => event("agent_thinking", { text });
const piece = (text, part = 1, kind = "text") => event("agent_delta", { part, kind, text });
const executing = (id, name = "calculator") => event("tool_executing", { tool_id: id, name, arguments: { of: id } });

function tell(...events) {
  const conversations = new Conversations();
  const runs = events.map((one) => conversations.apply(one));
  return { conversations, run: runs.at(-1) };
}

test("a message is shown in whichever form its client sent it", () => {
  for (const payload of ["hello", { text: "hello" }, { content: "hello" }]) {
    assert.equal(tell(received("m1", payload)).run.text, "hello");
  }
  assert.equal(tell(received("m1", { x: [1] })).run.text, JSON.stringify({ x: [1] }, null, 2));
});

test("remarks are thoughts of their own, reasoning grows, and the answer grows apart from them", () => {
  const { run } = tell(
    thinking("one"), piece("two ", 1, "reasoning"), piece("and more", 1, "reasoning"), thinking("three"),
    piece("four", 2, "reasoning"), piece("five", 3, "reasoning"),
  );
  const thoughts = ["one", "two and more", "three", "four", "five"];
  assert.deepEqual(run.steps, [{ kind: "thinking", thoughts, open: true, grows: 3 }]);
  const { run: answering } = tell(thinking("one"), piece("The "), piece("answer"));
  assert.deepEqual(answering.steps, [
    { kind: "thinking", thoughts: ["one"], open: false, grows: null },
    { kind: "prose", text: "The answer" },
  ]);
});

test("a message that waits says so until its run begins, and can be taken back", () => {
  const queued = event("message_received", { message_id: "m2", payload: "and this?", queued: true }, "r2");
  const { run } = tell(received("m1", "this?"), queued);
  assert.deepEqual([run.queued, run.state, waiting(run)], [true, "open", "Waiting for the previous answer"]);
  const { run: begun } = tell({ ...queued }, event("agent_started", {}, "r2"));
  assert.deepEqual([begun.queued, waiting(begun)], [false, "Working"]);
  const cancelled = () => event("agent_error", { reason: "cancelled", message: "" }, "r2");
  assert.equal(ending(tell({ ...queued }, cancelled()).run), "Taken back.");
  assert.equal(ending(tell({ ...queued }, event("agent_started", {}, "r2"), cancelled()).run), "Stopped.");
});

test("a thread that is deleted is gone with all that it had, and begins again empty", () => {
  const { conversations } = tell(received("m1", "one"), received("m2", "two", "r2", "t2"), thinking("still at it"));
  const gone = conversations.delete("t1", ++offset);
  assert.deepEqual(gone.map(({ id }) => id), ["r1"]);
  assert.deepEqual([conversations.thread("t1"), conversations.has("m1"), conversations.begin("t1")], [[], false, null]);
  assert.deepEqual(conversations.list.map(({ key }) => key), ["t2"]);
  assert.equal(conversations.newest, "t2");
  conversations.apply(received("m3", "three", "r3", "t1"));
  assert.deepEqual(conversations.thread("t1").map(({ text }) => text), ["three"]);
  assert.deepEqual(conversations.delete("unknown"), []);
  assert.deepEqual(conversations.merge("t1", [event("thread_deleted", {}, "d1")]), [], "that it was deleted is no turn");
});

test("a deletion that is read late takes only what was before it", () => {
  const { conversations } = tell(received("m1", "one"));
  const at = ++offset;
  const again = received("m2", "two", "r2");
  conversations.merge("t1", [again]);
  assert.deepEqual(conversations.delete("t1", at).map(({ id }) => id), ["r1"]);
  assert.deepEqual(conversations.thread("t1").map(({ text }) => text), ["two"]);
  conversations.beginEpoch();
  conversations.apply(event("message_received", { message_id: "m3", payload: "three" }, "r3"));
  assert.deepEqual(conversations.delete("t1", 1).map(({ id }) => id), ["r2"], "the epoch before was before it");
});

test("the whole answer takes the place of its pieces", () => {
  for (const pieces of [[], ["The answer"], ["The ", "answer"], ["answer"]]) {
    const { run } = tell(...pieces.map((text) => piece(text)), event("agent_completed", { text: "The answer" }));
    assert.deepEqual([run.state, run.answer, run.steps], ["completed", "The answer", [{ kind: "prose", text: "The answer" }]]);
  }
});

test("pieces of something else than the answer were thoughts, and those before a tool stay where they were", () => {
  const { run } = tell(piece("hm "), event("agent_completed", { text: "Yes" }));
  assert.deepEqual(run.steps.map(({ kind }) => kind), ["thinking", "prose"]);
  assert.deepEqual(run.steps[0].thoughts, ["hm"]);
  const { run: second } = tell(
    piece("I look it up."), executing("t1"), piece("It is 4.", 2),
    event("agent_completed", { text: "It is 4." }),
  );
  assert.deepEqual(second.steps.map(({ kind, text }) => text ?? kind), ["I look it up.", "tool", "It is 4."]);
});

test("tools that run side by side end each with its own result", () => {
  const { run } = tell(
    executing("t1"), executing("t2", "clock"),
    event("tool_completed", { tool_id: "t2", name: "clock", status: "success", result: "noon" }),
    event("tool_completed", { tool_id: "t1", status: "abandoned", error: "the run ended" }),
    event("agent_error", { reason: "cancelled", message: "" }),
  );
  assert.deepEqual(run.steps.map(({ name, status, output }) => [name, status, output]), [
    ["calculator", "abandoned", "the run ended"], ["clock", "success", "noon"],
  ]);
  assert.deepEqual([run.state, run.error.reason], ["failed", "cancelled"]);
});

test("a run whose beginning is not kept is shown from where it is", () => {
  const { run } = tell(event("tool_completed", { tool_id: "t1", name: "clock", status: "failure", error: "no" }));
  assert.deepEqual([run.text, run.steps[0].name, run.steps[0].status], [null, "clock", "failure"]);
});

test("what was open when part of the stream was lost may have ended, until more of it comes", () => {
  const { conversations, run } = tell(received("m1", "hello"), thinking("one"));
  assert.deepEqual(conversations.reset(), [run]);
  assert.equal(run.state, "lost");
  conversations.apply(thinking("two"));
  assert.equal(run.state, "open");
  conversations.apply(event("agent_completed", { text: "done" }));
  assert.deepEqual(conversations.reset(), []);
});

test("threads are listed by what they began with, the newest first", () => {
  const { conversations } = tell(
    received("m1", "first", "r1", "t1"), received("m2", "second", "r2", "t2"), received("m3", "third", "r3", "t1"),
    received("m4", "fourth", "r4", null),
  );
  assert.deepEqual(conversations.list.map(({ key, title }) => [key, title]), [["", "fourth"], ["t1", "first"], ["t2", "second"]]);
  assert.deepEqual([conversations.newest, conversations.thread("t1").length, conversations.has("m3")], ["", 2, true]);
});

test("a page that stays open keeps a bounded number of runs, and forgets the oldest that have ended", () => {
  const { conversations } = tell(received("m0", "still open", "r0", "t0"));
  for (let number = 1; number <= MAX_RUNS; number++) {
    conversations.apply(received(`m${number}`, "hello", `r${number}`, "t1"));
    conversations.apply(event("agent_completed", { text: "hello" }, `r${number}`, "t1"));
  }
  assert.deepEqual([conversations.thread("t0").length, conversations.thread("t1").length], [1, MAX_RUNS - 1]);
  assert.deepEqual(["m0", "m1", "m2"].map((message) => conversations.has(message)), [true, false, true]);
});

/** The texts shown in a thread, each turn with those that it supersedes. */
const told = (conversations, key = "t1") =>
  turnsOf(conversations.thread(key)).map(({ run, earlier }) => [run.text ?? run.id, earlier.map(({ text, id }) => text ?? id)]);

/** A message that replaces the thread's turns from another one on. */
const replacing = (message, text, run, { offset: replaces }, thread) =>
  event("message_received", { message_id: message, payload: text, replaces }, run, thread);

test("a turn that is replaced is shown no more, nor is what followed, and what took its place has them", () => {
  const [one, two, three] = ["one", "two", "three"].map((text, index) => received(`m${index}`, text, `r${index}`));
  const second = replacing("m4", "two!", "r4", two);
  const { conversations } = tell(one, two, three, second);
  assert.deepEqual(told(conversations), [["one", []], ["two!", ["two", "three"]]]);
  const third = received("m5", "three!", "r5");
  conversations.apply(third);
  conversations.apply(replacing("m6", "three?", "r6", third));
  assert.deepEqual(told(conversations), [["one", []], ["two!", ["two", "three"]], ["three?", ["three!"]]]);
  conversations.apply(replacing("m7", "one!", "r7", one));
  assert.deepEqual(told(conversations), [["one!", ["one", "two", "three", "two!", "three!", "three?"]]]);
  assert.equal(conversations.list[0].title, "one!", "what is superseded names nothing");
  assert.equal(conversations.thread("t1").length, 7);
});

test("only turns of the same thread and epoch are superseded, no notice, and no run whose message is not known", () => {
  const [one, other] = [received("m1", "one", "r1"), received("m2", "other", "r2", "t2")];
  const { conversations } = tell(
    one, other, event("notice", { text: "Back at noon." }, "n1"), event("agent_thinking", { text: "hm" }, "r3"), replacing("m4", "one!", "r4", one),
  );
  assert.deepEqual(told(conversations), [["n1", []], ["r3", []], ["one!", ["one"]]]);
  assert.deepEqual(told(conversations, "t2"), [["other", []]]);
  assert.deepEqual(conversations.thread("t1").map((run) => conversations.place(run)), [one.offset, null, null, offset]);
  conversations.beginEpoch();
  assert.deepEqual(conversations.thread("t1").map((run) => conversations.place(run)), [null, null, null, null]);
  conversations.apply({ ...event("message_received", { message_id: "m5", payload: "new", replaces: 1 }, "r5"), offset: 1 });
  assert.deepEqual(told(conversations).map(([text]) => text), ["n1", "r3", "one!", "new"]);
  conversations.apply({ ...event("agent_thinking", { text: "still at it" }, "r4"), offset: 2 });
  assert.deepEqual(conversations.thread("t1").map((run) => conversations.place(run)).filter((place) => place !== null), [1], "its message was before");
});

/** The reference: whether a later message of the thread replaces a turn at or before this one. */
function defined(log, thread) {
  const messages = log.filter(({ type, thread_id: of }) => type === "message_received" && of === thread);
  const isSuperseded = ({ offset: own }) => messages.some(({ offset, data }) => offset > own && data.replaces <= own);
  return messages.filter((message) => !isSuperseded(message)).map((message) => {
    const shownBefore = messages.findLast((other) => other.offset < message.offset && !isSuperseded(other));
    const between = messages.filter(({ offset }) => offset > (shownBefore?.offset ?? 0) && offset < message.offset);
    return [message.data.payload, between.map(({ data }) => data.payload)];
  });
}

test("what is shown is the same in whichever order turns come, from the stream or as they are kept", () => {
  const random = chance(11);
  const below = (count) => Math.floor(random() * count);
  for (let round = 0; round < 300; round++) {
    const log = [];
    for (let number = 0; number < 12; number++) {
      const thread = `t${below(2)}`;
      const mine = log.filter(({ type, thread_id: of }) => type === "message_received" && of === thread);
      const replaced = below(2) === 0 ? mine[below(mine.length)] : undefined;
      log.push(replaced ? replacing(`m${number}`, `text ${number}`, `r${number}`, replaced, thread) : received(`m${number}`, `text ${number}`, `r${number}`, thread));
      log.push(event("agent_completed", { text: "yes" }, `r${number}`, thread));
    }
    const conversations = new Conversations();
    // The stream has its events in order; turns arrive one by one in between, in any order, including those of the
    // stream.
    const stream = log.slice(below(log.length));
    const turns = Array.from({ length: 12 }, (_, number) => log.filter(({ run_id: run }) => run === `r${number}`));
    const steps = [
      ...stream.map((event) => ({ at: event.offset, run: () => conversations.apply(event) })),
      ...turns.map((turn) => ({ at: turn[0].offset + 1 + below(30), run: () => conversations.merge(turn[0].thread_id, turn) })),
    ];
    for (const { run } of steps.sort((one, other) => one.at - other.at)) run();
    for (const thread of ["t0", "t1"]) assert.deepEqual(told(conversations, thread), defined(log, thread), `round ${round}`);
  }
});

const STATUS = {
  state: "live", code: null, reason: "", retryAt: null, tries: 0, catchingUp: false, mode: "ready", leaving: false,
  renewing: false,
};
const say = (status, world = {}) => describe({ ...STATUS, ...status }, { now: 0, online: true, ...world });

test("each state of the connection has words of its own, and says what can be done", () => {
  const shorts = [
    { state: "idle" }, { state: "connecting" }, { state: "authenticating" }, {}, { catchingUp: true }, { renewing: true },
    { mode: "degraded" }, { mode: "handing_over" }, { mode: "draining" }, { state: "leaving", leaving: true },
    { state: "backoff", retryAt: 2_500 }, { state: "backoff", retryAt: 2_500, leaving: true },
    { state: "stopped", code: 4501 }, { state: "stopped", code: 4502 }, { state: "stopped", code: 4505 }, { state: "stopped", code: 4506 }, { state: "stopped", code: 4999 },
  ].map((status) => say(status).short);
  assert.equal(new Set(shorts).size, shorts.length, shorts.join("\n"));
  assert.equal(say({ state: "backoff", retryAt: 2_500 }).short, "Reconnecting in 3 s");
  assert.match(say({ state: "backoff", retryAt: 2_500 }, { online: false }).long, /offline/);
  for (const state of ["live", "holding", "leaving", "connecting", "authenticating"]) assert.match(say({ state }, { online: false }).short, /offline/, "said at once");
  assert.match(say({ state: "leaving" }).long, /about to restart.*still shown/);
  assert.match(say({ state: "holding" }).long, /is restarting.*kept and sent/);
  for (const status of [{ mode: "handing_over" }, { mode: "draining" }, { state: "holding" }, { state: "leaving" }, { state: "backoff", leaving: true }]) {
    assert.match(say(status).short, /restarting/i);
  }
  assert.equal(say({ state: "backoff" }).action, "nudge");
  assert.deepEqual([4505, 4506, 4508, 4999, 1009].map((code) => say({ state: "stopped", code }).action), Array(5).fill("connect"));
  assert.equal(say({ state: "stopped", code: 4503 }).action, "reload");
  assert.match(say({ state: "stopped", code: 4999, reason: "for a reason" }).long, /for a reason/);
});

test("each reason for an end, and each refusal, is told in words", () => {
  const reasons = ["cancelled", "interrupted", "silent", "abandoned"];
  assert.equal(new Set(reasons.map((reason) => ending({ queued: false, error: { reason, message: "x" } }))).size, 4);
  assert.equal(ending({ queued: false, error: { reason: "failed", message: "because" } }), "because");
  const codes = ["degraded", "draining", "too_many_runs", "queue_full", "thread_busy", "breaker_open", "busy", "too_long", "malformed"];
  for (const code of codes) assert.notEqual(refusal(code, ""), refusal("another", code));
  assert.equal(new Set(codes.map((code) => refusal(code, ""))).size, codes.length);
  assert.match(refusal("invalid_field", "A field is missing."), /A field is missing/);
});

test("an answer that was cut off says so", () => {
  const answered = (data) => tell(received("m1", "hello", "r1"), event("agent_completed", { text: "Hel", ...data }, "r1")).run.truncated;
  assert.deepEqual([{}, { truncated: true }, { truncated: false }].map(answered), [false, true, false]);
});

test("what is too long is told with both lengths", () => {
  assert.match(tooLong(4_096, 65_536), /4.096.*65.536/);
});

test("a notice is shown where it belongs, and is no run", () => {
  const { conversations, run } = tell(event("notice", { text: "Back at noon." }, "n1", "t1"));
  assert.deepEqual([run.notice, run.state, run.steps], [true, "completed", [{ kind: "prose", text: "Back at noon." }]]);
  assert.deepEqual(conversations.list, [{ key: "t1", title: "Notices", open: false, at: run.at }]);
  conversations.apply(received("m1", "hello", "r2"));
  assert.equal(conversations.list[0].title, "hello");
});

const paused = (request, pause = 1) => event("agent_paused", { pause, request });
const resumed = (reply, pause = 1) => event("agent_resumed", { pause, reply });
const pauses = ({ steps }) => steps.filter(({ kind }) => kind === "pause").map(({ number, state, reply }) => [number, state, reply]);

test("a run that asks waits for a reply, and keeps what was asked and replied where it was", () => {
  const { run } = tell(received("m1", "one"), piece("First "), paused({ message: "Well?" }));
  assert.equal(pausedOf(run).number, 1);
  const { run: going } = tell(
    received("m1", "one"), piece("First "), paused({ message: "Well?" }), resumed({ text: "yes" }), piece("then", 2),
    paused({ message: "Sure?" }, 2), resumed({ text: "no" }, 2), event("agent_completed", { text: "done" }),
  );
  assert.deepEqual(going.steps.map(({ kind }) => kind), ["prose", "pause", "prose", "pause", "prose"]);
  assert.deepEqual([pauses(going), pausedOf(going)], [[[1, "replied", { text: "yes" }], [2, "replied", { text: "no" }]], null]);
});

test("a run that ends while it waits is not replied to", () => {
  const { run } = tell(received("m1", "one"), paused({}), event("agent_error", { reason: "no_reply", message: "" }));
  assert.deepEqual([pausedOf(run), pauses(run)], [null, [[1, "open", undefined]]]);
  assert.equal(ending(run), "There was no reply in time, so the answer was stopped.");
});

test("a reply is sent once, and can be repeated only if it failed", () => {
  const { conversations, run } = tell(received("m1", "one"), paused({}));
  assert.equal(conversations.reply("r1", 2, null), null, "another pause");
  assert.equal(conversations.reply("r1", 1, null), run);
  assert.deepEqual([pauses(run)[0][1], pausedOf(run).number], ["sent", 1]);
  conversations.reply("r1", 1, "too late");
  assert.deepEqual([pausedOf(run).state, pausedOf(run).why], ["open", "too late"]);
  conversations.apply(resumed("other"));
  assert.deepEqual([conversations.reply("r1", 1, "late"), conversations.reply("none", 1, null)], [null, null]);
  assert.deepEqual(pauses(run), [[1, "replied", "other"]]);
});

test("a reply whose request is missing is shown, and past pauses are read with their turns", () => {
  assert.deepEqual(pauses(tell(resumed({ text: "yes" }, 3)).run), [[3, "replied", { text: "yes" }]]);
  const conversations = new Conversations();
  const [run] = conversations.merge("t1", [received("m1", "one"), paused({ message: "Well?" }), resumed({ text: "yes" })]);
  assert.deepEqual([pauses(run), run.steps[0].request], [[[1, "replied", { text: "yes" }]], { message: "Well?" }]);
  conversations.reset();
  assert.equal(pausedOf(run), null, "what is not known takes no reply");
});

const ASKS = [
  { id: "a", kind: "approval", tool: "clock", arguments: { zone: "UTC" } },
  { id: "q", kind: "question", message: "Which?", schema: { type: "string" } },
  { id: "t", kind: "tool", tool: "clipboard" },
  { id: "x", kind: "unheard of" },
];

test("what is asked is read as far as it is understood, and the rest is kept", () => {
  const { message, asks, rest } = requestOf({ message: "Please", asks: ASKS, urgency: 1 });
  assert.deepEqual([message, rest, asks.map(({ kind }) => kind)], ["Please", { urgency: 1 }, ["approval", "question", "tool", "question"]]);
  assert.deepEqual([asks[0].tool, asks[0].arguments, asks[1].rest], ["clock", { zone: "UTC" }, { schema: { type: "string" } }]);
  for (const odd of [[ASKS[0], ASKS[0]], [{ kind: "approval" }], [null], 7]) {
    const { asks: none, rest: kept } = requestOf({ asks: odd });
    assert.deepEqual([none, kept], [[], { asks: odd }], "it cannot be answered one by one");
  }
  assert.deepEqual(requestOf("Well?"), { message: "Well?", asks: [], rest: null });
  assert.deepEqual([requestOf(null), requestOf([1])].map(({ rest: kept }) => kept), [null, { request: [1] }]);
  assert.deepEqual(requestOf({ message: { a: 1 } }), { message: "", asks: [], rest: { message: { a: 1 } } });
});

test("a reply answers each ask in its own way, and is read again as it was meant", () => {
  const request = requestOf({ asks: ASKS });
  const reply = replyTo(request, [false, "this", '{"text": 1}', "plain"]);
  assert.deepEqual(reply, { answers: { a: { approved: false }, q: { text: "this" }, t: { result: { text: 1 } }, x: { text: "plain" } } });
  assert.deepEqual(replyTo(request, [true, "", "not {json", ""]).answers.t, { result: "not {json" });
  const { outcomes, rest } = outcomesOf(request, reply);
  assert.deepEqual([outcomes, rest], [[{ approved: false }, { value: "this" }, { value: { text: 1 } }, { value: "plain" }], undefined]);
  const plain = requestOf({ message: "Well?" });
  assert.deepEqual(replyTo(plain, ["Ada"]), { text: "Ada" });
  assert.deepEqual(outcomesOf(plain, { text: "Ada" }), { outcomes: [], rest: "Ada" });
});

test("a reply of another client is shown, whatever it is", () => {
  const request = requestOf({ asks: ASKS.slice(0, 2) });
  const read = (reply) => Object.values(outcomesOf(request, reply));
  assert.deepEqual(read({ answers: { a: { approved: "yes" }, z: 1 }, note: 2 }), [[{ value: { approved: "yes" } }, null], { note: 2, answers: { z: 1 } }]);
  for (const odd of [null, "yes", [1], { answers: 7 }, { text: "x", more: 1 }]) assert.deepEqual(read(odd), [[null, null], odd]);
});

test("who cannot see what is asked is told", () => {
  const say = (request) => spoken(paused(request), /** @type {any} */ ({}));
  assert.equal(say({ message: "May I?", asks: ASKS.slice(0, 2) }), "The agent asks you. May I? clock, Which?");
  assert.equal(say(undefined), "The agent asks you.");
});
