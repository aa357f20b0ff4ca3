/** Stored conversations: when the gateway is asked for them, and how they are merged with the stream. */
import assert from "node:assert/strict";
import { test } from "node:test";

import { Conversations, MAX_RUNS } from "../../runtime/web/conversation.js";
import { Past } from "../../runtime/web/past.js";
import { Clock, chance } from "./fake.mjs";

/** Runs all pending microtasks. */
const settled = async () => {
  for (let count = 0; count < 30; count++) await Promise.resolve();
};

/** A user's log: turns one after the other, or interleaved. */
function log(...turns) {
  let offset = 0;
  return turns.flat().map(([run, type, data = {}, thread = "t1"]) => ({
    type, data, run_id: run, thread_id: thread, previous: offset, offset: ++offset, timestamp: 1_000 + offset,
  }));
}

const turn = (run, pieces = ["a", "b", "c"]) => [
  [run, "message_received", { message_id: `m-${run}`, payload: { text: `asked ${run}` } }],
  [run, "agent_started"],
  ...pieces.map((text) => [run, "agent_delta", { part: 1, kind: "text", text }]),
  [run, "agent_completed", { text: pieces.join("") }],
];

/** The turns shown in a thread. */
const shown = (conversations, thread = "t1") =>
  conversations.thread(thread).map(({ id, text, state, steps }) => [id, text, state, steps.map((step) => step.text ?? step.name)]);

/** The events of a thread's page: all that the log has of these runs, with a part's pieces joined. */
function page(events, ...runs) {
  const joined = [];
  for (const event of events.filter(({ run_id }) => runs.includes(run_id))) {
    const last = joined.findLast(({ run_id }) => run_id === event.run_id);
    if (event.type === "agent_delta" && last?.type === "agent_delta") {
      last.data = { ...last.data, text: last.data.text + event.data.text };
      last.offset = event.offset;
    } else joined.push({ ...event });
  }
  return joined;
}

const whole = (events) => {
  const conversations = new Conversations();
  for (const event of events) conversations.apply(event);
  return conversations;
};

test("turns from before the stream's window come before those of the stream, in the order of the stream", () => {
  const events = log(turn("r1"), turn("r2"), turn("r3"), turn("r4"));
  const conversations = new Conversations();
  for (const event of events.filter(({ run_id }) => run_id === "r4")) conversations.apply(event);
  assert.deepEqual(conversations.merge("t1", page(events, "r3", "r4")).map(({ id }) => id), ["r3"]);
  conversations.merge("t1", page(events, "r1", "r2"));
  assert.deepEqual(shown(conversations), shown(whole(events)));
  assert.deepEqual(conversations.merge("t1", page(events, "r1", "r2", "r3", "r4")), [], "each run is there once");
  assert.deepEqual(shown(conversations), shown(whole(events)));
});

test("a run is the same however stream and page share it, at any moment", () => {
  const events = log(turn("r1"), turn("r2", ["one ", "two ", "three ", "four"]), turn("r3"));
  const random = chance(7);
  const middle = events.findIndex(({ run_id }) => run_id === "r2");
  for (let round = 0; round < 300; round++) {
    // The stream's window begins somewhere; the page was made when the log had a part of it, and arrives at some
    // moment.
    const begin = Math.floor(random() * (middle + 7));
    const least = Math.max(begin, middle + 1);
    const made = least + Math.floor(random() * (events.length + 1 - least));
    const comes = Math.max(begin, made - 3 + Math.floor(random() * 6));
    const conversations = new Conversations();
    const read = (from, to) => events.slice(from, to).forEach((event) => conversations.apply(event));
    read(begin, comes);
    conversations.merge("t1", page(events.slice(0, made), "r1", "r2", "r3"));
    read(Math.max(begin, comes), events.length);
    const told = `window from ${begin}, page of ${made}, at ${comes}`;
    assert.deepEqual(shown(conversations), shown(whole(events)), told);
  }
});

test("a run that goes on while its page is read grows without a gap, and nothing is shown twice", () => {
  const events = log(turn("r1", ["one ", "two ", "three ", "four"])).slice(0, -1);
  for (let begin = 1; begin < events.length; begin++) {
    for (let made = 2; made <= events.length; made++) {
      const conversations = new Conversations();
      events.slice(begin).forEach((event) => conversations.apply(event));
      conversations.merge("t1", page(events.slice(0, made), "r1"));
      // An event that neither has cannot be shown.
      if (made < begin) continue;
      assert.deepEqual(shown(conversations), shown(whole(events)), `window from ${begin}, page of ${made}`);
    }
  }
});

test("what part of the stream was lost of is whole again once its thread is loaded", () => {
  const events = log(turn("r1"), turn("r2"), turn("r3"));
  const conversations = whole(events.slice(0, 8));
  conversations.reset();
  assert.deepEqual(conversations.thread("t1").map(({ state }) => state), ["completed", "lost"]);
  for (const event of events.slice(15)) conversations.apply(event);
  assert.deepEqual([conversations.begin("t1"), conversations.thread("t1").length], [16, 3], "the rest is loaded from here");
  conversations.merge("t1", page(events, "r1", "r2", "r3"));
  assert.deepEqual(shown(conversations), shown(whole(events)));
});

test("runs of a new epoch come after those of the epoch before", () => {
  const conversations = whole(log(turn("r1"), turn("r2")));
  conversations.beginEpoch();
  const next = log(turn("r3"));
  next.forEach((event) => conversations.apply(event));
  conversations.merge("t1", page(next, "r3"));
  assert.deepEqual(conversations.thread("t1").map(({ id }) => id), ["r1", "r2", "r3"]);
  assert.equal(conversations.begin("t1"), 1);
});

test("a thread of which only pages are known is not the one in which something was said last", () => {
  const events = log(turn("r1"));
  const conversations = new Conversations();
  conversations.apply({ ...events[0], thread_id: "t0", run_id: "r0" });
  conversations.merge("t1", page(events, "r1"));
  assert.equal(conversations.newest, "t0");
});

test("of too many runs those of other threads are forgotten first, the oldest of them", () => {
  const conversations = new Conversations();
  conversations.shown = "t1";
  const events = log(turn("r1", ["x"]), ...Array.from({ length: MAX_RUNS }, (_, index) => turn(`s${index}`, ["x"]).map(([run, type, data]) => [run, type, data, "t2"])));
  events.forEach((event) => conversations.apply(event));
  assert.deepEqual([conversations.thread("t1").length, conversations.thread("t2")[0].id, conversations.thread("t2").length], [1, "s1", MAX_RUNS - 1]);
});

/** A gateway whose answers the test gives, and the requests it received. */
function gateway() {
  const asked = [];
  const clock = new Clock();
  let changes = 0;
  const api = { ask: (path, request) => new Promise((resolve, reject) => asked.push({ path, request, resolve, reject })) };
  const past = new Past(api, () => changes++, clock);
  const answer = async (value) => {
    asked.at(-1).resolve(value);
    await settled();
  };
  const refuse = async (status, after = null) => {
    asked.at(-1).reject({ status, after, isMissing: status === 404 });
    await settled();
  };
  return { asked, clock, past, answer, refuse, paths: () => asked.map(({ path }) => path), changes: () => changes };
}

const listed = (key, at) => ({ thread_id: key, title: `about ${key}`, updated_at: at, open: false });

test("the list is loaded page by page, the newest again when asked, and never shorter", async () => {
  const { past, answer, paths } = gateway();
  past.list();
  await settled();
  assert.equal(past.isListing, true);
  await answer({ threads: [listed("a b", 3), listed(null, 2)], next: "c&1" });
  assert.deepEqual([past.isListing, [...past.threads.keys()]], [false, ["a b", ""]]);
  past.listAll();
  await settled();
  await answer({ threads: [listed("c", 1)], next: null });
  past.listAll();
  past.list();
  await settled();
  await answer({ threads: [listed("d", 4)], next: "c&1" });
  past.listAll();
  await settled();
  assert.deepEqual(paths(), ["threads?limit=100", "threads?limit=100&before=c%261", "threads?limit=100"]);
  assert.deepEqual([...past.threads.keys()], ["a b", "", "c", "d"]);
});

test("turns are loaded page by page, a thread without a name too, one page at a time", async () => {
  const { past, answer, paths } = gateway();
  const newest = past.newest("a&b");
  await settled();
  assert.deepEqual([past.page("a&b").state, await past.earlier("a&b", 7)], ["loading", null]);
  await answer({ events: [1, 2], next: "40" });
  assert.deepEqual([await newest, past.page("a&b")], [[1, 2], { next: 40, state: "ready" }]);
  const earlier = past.earlier("a&b", 30);
  await answer({ events: [0], next: null });
  assert.deepEqual([await earlier, past.page("a&b").next], [[0], null]);
  past.newest("");
  assert.deepEqual(paths(), ["threads/turns?limit=20&thread_id=a%26b", "threads/turns?limit=20&thread_id=a%26b&before=30", "threads/turns?limit=20"]);
});

test("a thread is deleted once, and a failure is told", async () => {
  const { past, asked, answer, refuse, paths } = gateway();
  const deleted = past.delete("a&b");
  await answer(null);
  assert.equal(await deleted, undefined);
  const failed = past.delete("");
  await Promise.all([refuse(503), assert.rejects(failed, ({ status }) => status === 503)]);
  assert.deepEqual(paths(), ["threads?thread_id=a%26b", "threads?thread_id="]);
  assert.deepEqual(asked.map(({ request }) => request), [{ method: "DELETE" }, { method: "DELETE" }]);
});

test("what comes of a thread after it was deleted is ignored: turns, and the list", async () => {
  const { past, asked, answer } = gateway();
  past.list();
  await settled();
  await answer({ threads: [listed("t1", 3), listed("t2", 2)], next: "more" });
  const [turns] = [past.newest("t1"), past.list(), past.listAll()];
  await settled();
  const [page, list] = asked.slice(1);
  assert.equal(past.drop("t1"), true);
  page.resolve({ events: [1, 2], next: "40" });
  list.resolve({ threads: [listed("t1", 3), listed("t2", 2)], next: "more" });
  await settled();
  assert.deepEqual([await turns, past.page("t1")], [null, { next: undefined, state: "ready" }], "it begins again empty");
  assert.deepEqual([...past.threads.keys()], ["t2"]);
  await answer({ threads: [listed("t1", 9)], next: null });
  assert.deepEqual([...past.threads.keys()], ["t2", "t1"], "it began again");
  const again = past.newest("t1");
  await answer({ events: [3], next: null });
  assert.deepEqual([await again, past.page("t1").next], [[3], null]);
});

test("a deletion that is read late leaves a thread in the list that began again since", async () => {
  const { past, answer } = gateway();
  past.list();
  await settled();
  await answer({ threads: [listed("t1", 3)], next: null });
  assert.deepEqual([past.drop("t1", 2), past.threads.size, past.drop("t1", 3), past.threads.size], [false, 1, true, 0]);
});

test("a page of the epoch before is ignored", async () => {
  const { past, answer } = gateway();
  const before = past.newest("t1");
  past.forget();
  await answer({ events: [1], next: null });
  assert.deepEqual([await before, past.page("t1").next], [null, undefined]);
});

test("a gateway that keeps no conversations is not asked again", async () => {
  const { past, refuse, paths } = gateway();
  past.list();
  await settled();
  await refuse(404);
  past.list();
  past.listAll();
  assert.deepEqual([past.isMissing, past.isListing, await past.newest("t1"), paths().length], [true, false, null, 1]);
});

test("a thread that is not kept has nothing before it", async () => {
  const { past, refuse } = gateway();
  const newest = past.newest("new");
  await refuse(404);
  assert.deepEqual([await newest, past.page("new"), past.isMissing], [null, { next: null, state: "ready" }, false]);
});

test("a gateway that cannot answer is asked again, and then it is said", async () => {
  const { past, clock, refuse, answer, paths, changes } = gateway();
  const newest = past.newest("t1");
  for (const [status, after, pause] of [[503, 1_000, 1_000], [0, null, 4_000], [429, null, 8_000]]) {
    await refuse(status, after);
    clock.pass(pause);
    await settled();
  }
  assert.equal(paths().length, 4);
  const before = changes();
  await refuse(500);
  assert.deepEqual([await newest, past.page("t1").state, changes() > before], [null, "failed", true]);
  const again = past.newest("t1");
  await answer({ events: "not a list", next: null });
  assert.deepEqual(await again, []);
  past.list();
  await settled();
  await refuse(503);
  assert.equal(past.isListing, false, "nothing waits for a list that is late");
  past.end();
  clock.pass(60_000);
  await settled();
  assert.equal(await past.newest("t2"), null);
});
