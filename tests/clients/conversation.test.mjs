/** What events add up to, and what the page says about it, without a document. */
import assert from "node:assert/strict";
import { test } from "node:test";

import { Conversations, MAX_RUNS } from "../../runtime/web/conversation.js";
import { describe, ending, refusal, tooLong, waiting } from "../../runtime/web/words.js";

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
  assert.deepEqual([run.queued, run.state, waiting(run)], [true, "open", "Waiting for the answer before it"]);
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

test("a page that stays open keeps so many runs, and forgets the oldest that have ended", () => {
  const { conversations } = tell(received("m0", "still open", "r0", "t0"));
  for (let number = 1; number <= MAX_RUNS; number++) {
    conversations.apply(received(`m${number}`, "hello", `r${number}`, "t1"));
    conversations.apply(event("agent_completed", { text: "hello" }, `r${number}`, "t1"));
  }
  assert.deepEqual([conversations.thread("t0").length, conversations.thread("t1").length], [1, MAX_RUNS - 1]);
  assert.deepEqual(["m0", "m1", "m2"].map((message) => conversations.has(message)), [true, false, true]);
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
  assert.match(say({ state: "holding" }).long, /being restarted.*kept and sent/);
  for (const status of [{ mode: "handing_over" }, { mode: "draining" }, { state: "holding" }, { state: "leaving" }, { state: "backoff", leaving: true }]) {
    assert.match(say(status).short, /being restarted/i);
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
