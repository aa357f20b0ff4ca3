/**
 * The machine against the model's rules: every state × every input, then each rule of `lockstep_model::client`
 * separately. Names and numbers are those of `tests/tests/machines/client/`.
 */
import assert from "node:assert/strict";
import { test } from "node:test";

import { MAX_OUTGOING, MAX_SHORT, MAX_WRITES, Machine, advice } from "../../runtime/web/machine.js";

const SMALL = { backoff: 2, backoffMost: 9, connect: 47, heartbeat: 53, pong: 8, stable: 59, answer: 61 };

function step(machine, input, bounds = SMALL) {
  const out = [];
  return [machine.step(bounds, input, out), out];
}

function then(machine, ...inputs) {
  for (const input of inputs) {
    assert.equal(step(machine, input)[0], "done", `${JSON.stringify(input)} in ${machine.state.name}`);
  }
  return machine;
}

const CONNECT = { type: "connect" };
const DISCONNECT = { type: "disconnect" };
const token = (asked, value = "t") => ({ type: "token", asked, token: value });
const sized = (number, size) => ({ type: "send", message: `m${number}`, payload: "hello", size });
const send = (number) => sized(number, 1);
const limits = (socket, longest) => ({ type: "limits", socket, longest });
const opened = (socket) => ({ type: "opened", socket });
const closed = (socket, code) => ({ type: "closed", socket, code });
const on = (socket, frame) => ({ type: "frame", socket, frame });
const expired = (timer) => ({ type: "expired", timer });
const ready = (socket, offset = 6, resumed = true, epoch = 3) =>
  on(socket, { type: "connection_ready", connection_id: `c${socket}`, epoch, offset, resumed });
const entry = (previous, offset, type = "agent_thinking", data = {}) => ({
  type, offset, previous, run_id: `r${offset}`, thread_id: null, timestamp: 0, data,
});
const thought = (socket, previous, offset) => on(socket, entry(previous, offset));

const idle = () => then(new Machine("earliest"), token(0));
const connecting = () => then(idle(), CONNECT);
const authenticating = () => then(connecting(), opened(1));
const live = () => then(authenticating(), ready(1));
const waiting = () => then(live(), expired("heartbeat"));
/** The refusal of a message by a gateway that is about to go away. */
const sentBack = (socket, number) =>
  on(socket, { type: "error", code: "draining", message: "why", message_id: `m${number}` });
const withdraw = (number) => ({ type: "withdraw", message: `m${number}` });
const holding = () => then(live(), send(1), sentBack(1, 1), withdraw(1));
const leaving = () => then(live(), on(1, { type: "going_away" }));
const backoff = () => then(live(), closed(1, 1006));
const stopped = () => then(live(), closed(1, 4501));
const again = (machine, socket, frame) => then(machine, expired("backoff"), opened(socket), frame);
const STATES = { idle, connecting, authenticating, live, waiting, holding, leaving, backoff, stopped };

const disarm = (timer) => ({ type: "disarm", timer });
const drops = (socket) => [
  ...["backoff", "connect", "heartbeat", "stable", "leave", "answer"].map(disarm),
  ...(socket ? [{ type: "close", socket }] : []),
];
const pauses = (socket, most = 2) => ["done", [...drops(socket), { type: "pause", most }]];
const asks = (asked) => ({ type: "needToken", asked });
const stops = (asked = 1) => ["done", [...drops(1), asks(asked)]];
const writes = (frame) => ({ type: "write", frame });
const arms = (timer, after) => ({ type: "arm", timer, after });
/** Arms the next heartbeat, depending on whether an answer is awaited. */
const beat = (isAwaited) => arms("heartbeat", isAwaited ? 4 : 53);
const answers = arms("answer", 61);
/** The first outputs of a client that becomes live. */
const becomesLive = [disarm("connect"), arms("stable", 59)];
const opens = (socket) => ["done", [{ type: "open", socket }, arms("connect", 47)]];
const message = (number, repeat) =>
  writes({ type: "user_message", message_id: `m${number}`, payload: "hello", ...(repeat ? { repeat } : {}) });

/** The visible state of a machine. */
function seen(machine) {
  const { state, socket, asked, position, outgoing, tries, longest, awaitsSuccessor } = machine;
  return structuredClone({ state, socket, asked, position, outgoing, tries, longest, awaitsSuccessor });
}

const IGNORED = ["ignored", []];
const QUIET = ["done", []];

/**
 * The result of each input in each state: the machine's answer and outputs, and the next state. `.` means ignored. A
 * machine that holds its messages behaves like a live one except where listed.
 */
const TABLE = {
  connect: [CONNECT, { idle: [opens(1), "connecting"], stopped: [pauses(null), "backoff"] }],
  disconnect: [DISCONNECT, {
    connecting: [["done", drops(1)], "idle"], authenticating: [["done", drops(1)], "idle"],
    live: [["done", drops(1)], "idle"], waiting: [["done", drops(1)], "idle"], leaving: [["done", drops(1)], "idle"],
    backoff: [["done", drops(null)], "idle"], stopped: [["done", drops(null)], "idle"],
  }],
  opened: [opened(1), {
    connecting: [["done", [writes({ type: "auth", token: "t", resume: "earliest" })]], "authenticating"],
  }],
  ready: [ready(1, 9), {
    authenticating: [["done", [...becomesLive, beat(false)]], "live"],
    live: [QUIET, "live"], waiting: [["done", [beat(false)]], "live"], leaving: [QUIET, "leaving"],
  }],
  limits: [limits(1, 9), { authenticating: [QUIET, "authenticating"] }],
  event: [thought(1, 6, 7), Object.fromEntries(["live", "waiting", "leaving"].map((state) =>
    [state, [["done", [{ type: "deliver", event: entry(6, 7) }, beat(true)]], state === "leaving" ? "leaving" : "live"]]))],
  repeat: [thought(1, 5, 6), { waiting: [["done", [beat(false)]], "live"] }],
  gap: [thought(1, 7, 8), {
    live: [pauses(1), "backoff"], waiting: [pauses(1), "backoff"], leaving: [pauses(1), "backoff"],
  }],
  "going away": [on(1, { type: "going_away" }), {
    live: [["done", [arms("leave", 2)]], "leaving"], leaving: [["done", [arms("leave", 2)]], "leaving"],
    waiting: [["done", [arms("leave", 2), beat(false)]], "leaving"],
  }],
  "auth expiring": [on(1, { type: "auth_expiring" }), {
    live: [["done", [asks(1)]], "live"], waiting: [["done", [asks(1), beat(false)]], "live"],
    leaving: [["done", [asks(1)]], "leaving"],
  }],
  pong: [on(1, { type: "pong" }), {
    live: [QUIET, "live"], waiting: [["done", [beat(false)]], "live"], leaving: [QUIET, "leaving"],
  }],
  "closed: come back": [closed(1, 1006), {
    connecting: [pauses(1), "backoff"], authenticating: [pauses(1), "backoff"], leaving: [pauses(1), "backoff"],
    live: [pauses(1), "backoff"], waiting: [pauses(1), "backoff"],
  }],
  "closed: stay away": [closed(1, 4502), {
    connecting: [stops(), "stopped"], authenticating: [stops(), "stopped"], leaving: [stops(), "stopped"],
    live: [stops(), "stopped"], waiting: [stops(), "stopped"],
  }],
  "of another socket: opened": [opened(9), {}],
  "of another socket: closed": [closed(9, 1006), {}],
  "of another socket: frame": [thought(9, 6, 7), {}],
  "backoff expired": [expired("backoff"), { backoff: [opens(2), "connecting"] }],
  "connect expired": [expired("connect"), {
    connecting: [pauses(1), "backoff"], authenticating: [pauses(1), "backoff"],
  }],
  "heartbeat expired": [expired("heartbeat"), {
    live: [["done", [writes({ type: "ping" }), arms("heartbeat", 8)]], "waiting"], waiting: [pauses(1), "backoff"],
    leaving: [["done", [writes({ type: "ping" }), arms("heartbeat", 8)]], "waiting"],
  }],
  "stable expired": [expired("stable"), { live: [QUIET, "live"], waiting: [QUIET, "waiting"], leaving: [QUIET, "leaving"] }],
  "leave expired": [expired("leave"), { leaving: [["done", [...drops(1), ...opens(2)[1]]], "connecting"] }],
  mode: [on(1, { type: "mode", mode: "ready" }), {
    live: [QUIET, "live"], waiting: [["done", [beat(false)]], "live"], holding: [QUIET, "live"], leaving: [QUIET, "leaving"],
  }],
  "mode: about to go away": [on(1, { type: "mode", mode: "handing_over" }), {
    live: [QUIET, "live"], waiting: [["done", [beat(false)]], "live"], leaving: [QUIET, "leaving"],
  }],
  "answer expired": [expired("answer"), { live: [QUIET, "live"], holding: [QUIET, "live"], waiting: [QUIET, "waiting"], leaving: [QUIET, "leaving"] }],
  "another timer expired": [expired("idle"), {}],
  "token, stale": [token(7), {}],
};

for (const [, cells] of Object.values(TABLE)) {
  if (cells.live) cells.holding ??= [cells.live[0], cells.live[1] === "live" ? "holding" : cells.live[1]];
}

for (const [name, [input, cells]] of Object.entries(TABLE)) {
  test(`${name}, in every state`, () => {
    for (const [state, make] of Object.entries(STATES)) {
      const machine = make();
      const before = seen(machine);
      const [expected, after] = cells[state] ?? [IGNORED, state];
      assert.deepEqual(step(machine, input), expected, state);
      const { name, waiting: isWaiting } = machine.state;
      assert.equal(isWaiting ? "waiting" : name, after, state);
      if (expected === IGNORED && after === state) assert.deepEqual(seen(machine), before, state);
    }
  });
}

test("a token that answers the newest request, in every state", () => {
  for (const [state, make] of Object.entries(STATES)) {
    const machine = make();
    const expected = ["live", "waiting", "holding", "leaving"].includes(state) ? ["done", [writes({ type: "auth", token: "new" })]]
      : state === "stopped" ? pauses(null) : QUIET;
    assert.deepEqual(step(machine, token(machine.asked, "new")), expected, state);
    assert.equal(machine.state.name, { waiting: "live", stopped: "backoff" }[state] ?? state);
  }
});

test("a token that is presented, in every state: it outdates what was asked for", () => {
  for (const [state, make] of Object.entries(STATES)) {
    const machine = make();
    const { asked } = machine;
    const isReady = ["live", "waiting", "holding", "leaving"].includes(state);
    const expected = isReady ? ["done", [writes({ type: "auth", token: "new" })]] : state === "stopped" ? pauses(null) : QUIET;
    assert.deepEqual(step(machine, { type: "present", token: "new" }), expected, state);
    assert.equal(machine.asked, asked + 1);
    assert.deepEqual(step(machine, token(asked, "old")), IGNORED);
  }
});

test("a message, in every state: written when live and kept otherwise", () => {
  for (const [state, make] of Object.entries(STATES)) {
    const machine = make();
    const isLive = state === "live" || state === "waiting";
    const heart = state === "live" ? [beat(true)] : [];
    const held = state === "holding" ? [answers] : [];
    assert.deepEqual(step(machine, send(1)), ["done", isLive ? [message(1), answers, ...heart] : held], state);
    assert.equal(machine.outgoing[0].socket, isLive ? 1 : 0);
  }
});

test("an input that does not exist is a bug of ours", () => {
  assert.throws(() => step(idle(), { type: "nonsense" }), TypeError);
});

test("the next socket presents the place and the connection that it replaces", () => {
  const machine = then(backoff(), expired("backoff"));
  const resume = { epoch: 3, offset: 6 };
  assert.deepEqual(step(machine, opened(2)), ["done", [writes({ type: "auth", token: "t", resume, replaces: "c1" })]]);
});

test("no socket is opened before there is a credential, and then one at once", () => {
  const machine = new Machine();
  assert.deepEqual(step(machine, CONNECT), ["done", [asks(1)]]);
  assert.deepEqual(machine.state, { name: "stopped", code: 4504 });
  assert.deepEqual(step(machine, CONNECT), ["done", [asks(2)]]);
  assert.deepEqual(step(machine, token(1)), IGNORED);
  assert.deepEqual(step(machine, token(2)), opens(1));
});

test("pauses double up to the longest, and a connection that lasts starts over", () => {
  const machine = connecting();
  for (const [index, most] of [2, 4, 8, 9, 9].entries()) {
    assert.deepEqual(step(machine, closed(index + 1, 1006)), pauses(index + 1, most));
    assert.equal(machine.tries, index + 1);
    assert.deepEqual(step(machine, expired("backoff")), opens(index + 2));
  }
  then(machine, opened(6), ready(6));
  assert.equal(machine.tries, 5, "to be ready is no proof");
  then(machine, expired("stable"));
  assert.equal(machine.tries, 0);
  assert.deepEqual(step(machine, closed(6, 1006)), pauses(6, 2));
});

test("a gateway that closes whatever it admits is left alone for longer and longer, whatever it says for it", () => {
  for (const code of [1000, 1006, 1011, 1012, 4000, 4001, 4004, 4499]) {
    for (const saysSo of [false, true]) {
      let machine = live();
      for (const [index, most] of [2, 4, 8, 9, 9, 9].entries()) {
        if (saysSo) then(machine, on(index + 1, { type: "going_away" }));
        assert.deepEqual(step(machine, closed(index + 1, code)), pauses(index + 1, most), String(code));
        machine = again(machine, index + 2, ready(index + 2, 6 + index));
        then(machine, thought(index + 2, 6 + index, 7 + index));
      }
    }
  }
  let machine = live();
  for (const [index, most] of [2, 4, 8, 9, 9].entries()) {
    then(machine, closed(index + 1, 4501));
    assert.deepEqual(step(machine, { type: "present", token: "new" }), pauses(null, most));
    machine = again(machine, index + 2, ready(index + 2));
  }
});

test("one that goes away before it has lasted is not about to be succeeded", () => {
  for (const isTold of [false, true]) {
    const make = () => {
      const machine = again(then(live(), closed(1, 4000)), 2, ready(2));
      return isTold ? then(machine, on(2, { type: "going_away" })) : machine;
    };
    assert.equal(make().awaitsSuccessor, false);
    assert.equal(then(make(), closed(2, 4000)).awaitsSuccessor, false);
    assert.equal(then(make(), expired("stable"), closed(2, 4000)).awaitsSuccessor, true);
  }
  assert.equal(then(leaving(), closed(1, 1006), expired("backoff"), closed(2, 4000)).awaitsSuccessor, true);
});

test("a gateway that goes away is left when it said, and only once at once", () => {
  const machine = then(live(), send(1), on(1, { type: "going_away" }));
  assert.equal(machine.awaitsSuccessor, true);
  assert.deepEqual(step(machine, send(2)), QUIET, "nothing new is asked of it");
  const received = on(1, entry(6, 7, "message_received", { message_id: "m1" }));
  assert.equal(step(machine, received)[1][0].type, "accepted", "but what it says is read");
  assert.deepEqual(step(machine, expired("leave")), ["done", [...drops(1), ...opens(2)[1]]]);
  then(machine, opened(2), ready(2, 7));
  assert.deepEqual([machine.tries, machine.awaitsSuccessor, machine.outgoing[0].socket], [1, false, 2]);
  then(machine, on(2, { type: "going_away" }));
  assert.deepEqual(step(machine, expired("leave")), pauses(2, 4));
});

test("pauses stay short while a successor is awaited, but not for ever", () => {
  const bounds = { ...SMALL, backoffMost: 1_000 };
  const pause = (machine, input) => step(machine, input, bounds)[1].at(-1).most;
  for (const [machine, code] of [[leaving(), 1006], [live(), 4000]]) {
    const pauses = [pause(machine, closed(1, code))];
    for (let socket = 2; socket <= MAX_SHORT + 2; socket++) {
      then(machine, expired("backoff"));
      pauses.push(pause(machine, closed(socket, 1006)));
    }
    assert.deepEqual([pauses.slice(0, 4), pauses.slice(MAX_SHORT - 1)], [[2, 4, 8, 8], [8, 1_000, 1_000]]);
  }
  const machine = then(leaving(), closed(1, 4000), expired("backoff"), closed(2, 4004), expired("backoff"));
  assert.equal(machine.awaitsSuccessor, false, "a gateway that admits nobody is not about to be succeeded");
});

test("the heart beats faster while something is awaited", () => {
  const machine = then(live(), send(1), expired("heartbeat"));
  assert.deepEqual(step(machine, on(1, { type: "pong" })), ["done", [beat(true)]]);
  const run = (type, previous) => on(1, { ...entry(previous, previous + 1, type, { message_id: "m1" }), run_id: "r" });
  then(machine, run("message_received", 6), run("agent_started", 7), expired("heartbeat"));
  assert.deepEqual(step(machine, on(1, { type: "pong" })), ["done", [beat(true)]], "the run is not over");
  then(machine, run("agent_paused", 8), expired("heartbeat"));
  assert.deepEqual(step(machine, on(1, { type: "pong" })), ["done", [beat(false)]], "the run waits for its user");
  then(machine, run("agent_resumed", 9), expired("heartbeat"));
  assert.deepEqual(step(machine, on(1, { type: "pong" })), ["done", [beat(true)]], "it goes on");
  then(machine, run("agent_completed", 10), expired("heartbeat"));
  assert.deepEqual(step(machine, on(1, { type: "pong" })), ["done", [beat(false)]]);
});

test("patience grows with failures", () => {
  let machine = live();
  for (const [index, factor] of [2, 4, 8, 8].entries()) {
    machine = again(then(machine, closed(index + 1, 1006)), index + 2, ready(index + 2));
    assert.deepEqual(step(machine, expired("heartbeat"))[1].at(-1), arms("heartbeat", 8 * factor));
  }
});

test("pauses stop doubling, and failures stop counting, before they overflow", () => {
  const machine = connecting();
  const bounds = { ...SMALL, backoff: 1, backoffMost: Infinity };
  for (let socket = 1; socket <= 300; socket++) {
    const [, out] = step(machine, closed(socket, 1006), bounds);
    assert.equal(out.at(-1).most, 2 ** Math.min(socket - 1, 16));
    then(machine, expired("backoff"));
  }
  assert.equal(machine.tries, 255);
});

test("the close code decides", () => {
  for (const code of [1000, 1001, 1005, 1006, 1011, 1012, 1015, 3000, 4000, 4005, 4007, 4499]) {
    assert.deepEqual(step(live(), closed(1, code)), pauses(1), String(code));
    assert.equal(advice(code), "come back");
  }
  for (const code of [1002, 1003, 1007, 1008, 1009, 1010, 4500, 4508, 4999]) {
    const machine = live();
    assert.deepEqual(step(machine, closed(1, code)), stops(), String(code));
    assert.deepEqual([machine.state, machine.asked], [{ name: "stopped", code }, 1]);
  }
});

test("a heartbeat is answered by whatever is heard", () => {
  for (const frame of [{ type: "pong" }, entry(6, 7), entry(5, 6), { type: "of a later gateway" }]) {
    const machine = waiting();
    step(machine, on(1, frame));
    assert.deepEqual(machine.state, { name: "live", waiting: false });
  }
});

test("the next event is delivered over a hole in the numbers, and what was seen is not", () => {
  const machine = live();
  for (const [previous, offset] of [[6, 7], [7, 12]]) {
    assert.deepEqual(step(machine, thought(1, previous, offset))[1][0], { type: "deliver", event: entry(previous, offset) });
    assert.deepEqual(machine.position, { epoch: 3, offset });
  }
  for (const [previous, offset] of [[7, 12], [6, 9], [0, 1]]) {
    assert.deepEqual(step(machine, thought(1, previous, offset)), IGNORED);
  }
});

test("an event that does not say where it belongs is a gap", () => {
  for (const bad of [{ previous: null }, { offset: undefined }, { previous: "x" }, { offset: "x" }]) {
    assert.deepEqual(step(live(), on(1, { ...entry(6, 7), ...bad })), pauses(1), JSON.stringify(bad));
  }
});

test("an event of a kind that is not known yet moves the place too", () => {
  const event = entry(6, 7, "agent_humming");
  assert.deepEqual(step(live(), on(1, event))[1], [{ type: "deliver", event }, beat(true)]);
});

test("a deleted thread is told in its place, and begins no run that is awaited", () => {
  for (const type of ["notice", "thread_deleted"]) {
    const machine = live();
    const gone = entry(6, 7, type);
    assert.deepEqual(step(machine, on(1, gone)), ["done", [{ type: "deliver", event: gone }]], "the heart beats as before");
    assert.equal(machine.position.offset, 7);
  }
});

test("the runs of a deleted thread are not awaited any more, those of others are", () => {
  const run = (offset, thread) => on(1, { ...entry(offset - 1, offset), thread_id: thread });
  const gone = (offset, thread) => on(1, { ...entry(offset - 1, offset, "thread_deleted"), thread_id: thread });
  const isAwaiting = (machine) => {
    then(machine, expired("heartbeat"));
    return step(machine, on(1, { type: "pong" }))[1][0].after === beat(true).after;
  };
  for (const [own, other] of [["t1", "t2"], ["t1", null], [null, "t1"], [undefined, "t1"]]) {
    assert.equal(isAwaiting(then(live(), run(7, own), run(8, own), gone(9, own))), false, String(own));
    assert.equal(isAwaiting(then(live(), run(7, own), gone(8, other))), true, String(own));
    assert.equal(isAwaiting(then(live(), run(7, own), run(8, other), gone(9, other))), true);
    assert.equal(isAwaiting(then(live(), run(7, own), run(8, other), gone(9, own), gone(10, other))), false);
  }
});

test("a message replaces a turn of the epoch that it names, and in another it replaces nothing", () => {
  const replacing = (number) => ({ ...send(number), thread: "t1", replaces: { epoch: 3, offset: 5 } });
  const frame = { ...message(1).frame, thread_id: "t1", replaces: 5 };
  const written = (machine, input) => step(machine, input)[1].filter(({ type }) => type === "write").map(({ frame }) => frame);
  assert.deepEqual(written(live(), replacing(1)), [frame]);
  const repeated = then(live(), replacing(1), closed(1, 1006), expired("backoff"), opened(2));
  assert.deepEqual(written(repeated, ready(2)), [{ ...frame, repeat: true }]);
  const { replaces, ...ordinary } = frame;
  const early = then(authenticating(), replacing(1));
  assert.deepEqual([replaces, written(early, ready(1, 6, true, 4))], [5, [ordinary]], "before any epoch was known");
  const waits = then(backoff(), replacing(1), expired("backoff"), opened(2));
  assert.deepEqual(written(waits, ready(2, 2, false, 9)), [ordinary]);
  const back = then(live(), replacing(1), sentBack(1, 1), closed(1, 4000), expired("backoff"), opened(2));
  assert.deepEqual(written(back, ready(2, 2, false, 9)), [ordinary]);
  const same = then(backoff(), replacing(1), expired("backoff"), opened(2));
  assert.deepEqual(written(same, ready(2, 20, false, 3)), [frame], "a gap moves no offset");
});

test("a reset moves the place and gives up what was written", () => {
  const machine = then(live(), send(1), send(2));
  const out = [{ type: "unknown", message: "m1" }, { type: "unknown", message: "m2" }, { type: "reset", from: 6, to: 20 }, disarm("answer")];
  assert.deepEqual(step(machine, on(1, { type: "stream_reset", from: 6, to: 20 })), ["done", out]);
  assert.deepEqual([machine.position, machine.outgoing], [{ epoch: 3, offset: 20 }, []]);
  assert.equal(step(machine, thought(1, 20, 21))[1][0].type, "deliver");
});

test("a reset to a place that was passed does not move back, nor does one that names none", () => {
  for (const to of [0, 5, 6, undefined, "x"]) {
    const machine = then(live(), send(1));
    const reset = { type: "stream_reset", from: 0, to };
    assert.deepEqual(step(machine, on(1, reset)), ["done", [{ type: "reset", from: 0, to }]]);
    assert.deepEqual(machine.position, { epoch: 3, offset: 6 });
    assert.deepEqual(machine.outgoing.map(({ message }) => message), ["m1"]);
    assert.deepEqual(step(machine, thought(1, 5, 6)), IGNORED);
    assert.equal(step(machine, thought(1, 6, 7))[1].length, 1);
  }
});

test("a connection that is not resumed gives up what an earlier one wrote, and writes what none did", () => {
  const machine = then(live(), send(1), closed(1, 1006), send(2), expired("backoff"), opened(2));
  const [, out] = step(machine, ready(2, 2, false, 9));
  assert.deepEqual(out, [{ type: "unknown", message: "m1" }, ...becomesLive, message(2), answers, beat(true)]);
  // The gap is also sent as a frame. It predates the message.
  const reset = { from: 6, to: 2 };
  assert.deepEqual(step(machine, on(2, { type: "stream_reset", ...reset })), ["done", [{ type: "reset", ...reset }]]);
  assert.deepEqual(machine.outgoing.map(({ message }) => message), ["m2"]);
  assert.deepEqual(machine.position, { epoch: 9, offset: 2 });
});

test("what is not answered is written on the next socket, and says that it is a repetition", () => {
  const machine = then(live(), send(1), closed(1, 1006), send(2), expired("backoff"), opened(2));
  assert.deepEqual(step(machine, ready(2))[1].slice(2), [message(1, true), message(2), answers, beat(true)]);
  then(machine, send(3), closed(2, 1006), expired("backoff"), opened(3));
  assert.deepEqual(step(machine, ready(3))[1].slice(2, 5), [message(1, true), message(2, true), message(3, true)]);
});

test("a message is answered by its event or by being known, and only once", () => {
  const received = entry(6, 7, "message_received", { message_id: "m2", payload: "hello" });
  const answers = [received, { type: "message_known", message_id: "m2", run_id: "r7", offset: 3 }];
  for (const answer of answers) {
    const machine = then(live(), send(1), send(2));
    assert.deepEqual(step(machine, on(1, answer))[1][0], { type: "accepted", message: "m2", run: "r7" });
    assert.deepEqual(machine.outgoing.map((outgoing) => outgoing.message), ["m1"]);
    assert.ok(!step(machine, on(1, answers[1]))[1].some((order) => order.type === "accepted"));
  }
});

test("a refused message is over, and a forgotten one is unknown", () => {
  for (const code of ["malformed", "degraded", "too_many_runs", "queue_full", "thread_busy", "breaker_open", "busy"]) {
    const machine = then(live(), send(1), send(2));
    const error = { type: "error", code, message: "why", message_id: "m2" };
    assert.deepEqual(step(machine, on(1, error))[1], [{ type: "refused", message: "m2", code, text: "why" }]);
    assert.deepEqual(machine.outgoing.map((outgoing) => outgoing.message), ["m1"]);
  }
  const forgotten = { type: "error", code: "forgotten", message: "", message_id: "m1" };
  assert.deepEqual(step(then(live(), send(1)), on(1, forgotten))[1], [{ type: "unknown", message: "m1" }, disarm("answer")]);
  const about = { type: "error", code: "unknown_run", message: "no such run" };
  assert.deepEqual(step(live(), on(1, about))[1], [{ type: "error", code: "unknown_run", text: "no such run" }]);
});

test("unanswered messages are bounded and told apart", () => {
  for (const machine of [live(), backoff()]) {
    for (let number = 1; number < MAX_OUTGOING; number++) then(machine, send(number));
    const before = seen(machine);
    assert.deepEqual(step(machine, send(1)), ["misuse", []]);
    assert.deepEqual(seen(machine), before);
    then(machine, send(MAX_OUTGOING));
    assert.deepEqual(step(machine, send(MAX_OUTGOING + 1)), ["backpressure", []]);
  }
});

/** Live, with a limit of 10 bytes per message. */
const limited = () => then(authenticating(), limits(1, 10), ready(1));
const kept = (machine) => machine.outgoing.map((outgoing) => outgoing.message);
const said = (out) => out.flatMap(({ type, frame }) => (type === "write" && frame.message_id ? [frame.message_id] : []));

test("a message that is too long goes back to its user at once, or when it turns out to be", () => {
  const machine = limited();
  const before = seen(machine);
  assert.deepEqual(step(machine, sized(1, 11)), ["done", [{ type: "tooLong", message: "m1" }]]);
  assert.deepEqual(seen(machine), before);
  assert.deepEqual(said(step(machine, sized(2, 10))[1]), ["m2"], "none waits behind it");
  then(machine, closed(1, 1006));
  assert.deepEqual(step(machine, sized(1, 11))[1], [{ type: "tooLong", message: "m1" }], "the limit is remembered");
  const early = then(authenticating(), sized(1, 5), sized(2, 11), sized(3, 10));
  assert.deepEqual(step(early, limits(1, 10)), ["done", [{ type: "tooLong", message: "m2" }]]);
  assert.deepEqual(said(step(early, ready(1))[1]), ["m1", "m3"]);
  const other = then(live(), sized(1, 11), closed(1, 1006), expired("backoff"), opened(2));
  assert.deepEqual(step(other, limits(2, 10)), ["done", [{ type: "unknown", message: "m1" }]], "it may have run");
});

test("what was under way is not repeated after a close that blames it, and later messages do not wait", () => {
  for (const code of [1002, 1003, 1007, 1009]) {
    const machine = then(live(), send(1), send(2));
    const unknown = ["m1", "m2"].map((message) => ({ type: "unknown", message }));
    assert.deepEqual(step(machine, closed(1, code)), ["done", [...unknown, ...pauses(1)[1]]]);
    then(machine, send(3), expired("backoff"), opened(2));
    assert.deepEqual(said(step(machine, ready(2))[1]), ["m3"]);
    const blamed = then(live(), closed(1, 1006), send(4), expired("backoff"), closed(2, code));
    assert.deepEqual([blamed.state, kept(blamed)], [{ name: "stopped", code }, ["m4"]]);
  }
  for (const code of [1000, 1006, 1008, 1010, 1011, 4000, 4505, 4508]) {
    assert.deepEqual(kept(then(live(), send(1), closed(1, code))), ["m1"], String(code));
  }
});

test("a message is not written for ever", () => {
  const machine = then(live(), send(1));
  for (let socket = 2; socket <= MAX_WRITES + 1; socket++) {
    then(machine, closed(socket - 1, 1011), expired("backoff"), opened(socket));
    const [, out] = step(machine, ready(socket));
    assert.deepEqual(said(out), socket <= MAX_WRITES ? ["m1"] : ["m2"]);
    assert.equal(out.some(({ type }) => type === "unknown"), socket > MAX_WRITES);
    if (socket !== MAX_WRITES) continue;
    const [, next] = step(machine, send(2));
    assert.deepEqual(said(next), ["m2"]);
    assert.ok(next.every(({ type }) => type !== "unknown"), "the last socket may still answer");
  }
  assert.deepEqual(kept(machine), ["m2"]);
});

test("the oldest message is given up when no answer comes", () => {
  const machine = then(live(), send(1), send(2));
  assert.deepEqual(step(machine, expired("answer")), ["done", [{ type: "unknown", message: "m1" }, answers]]);
  assert.deepEqual(step(machine, expired("answer")), ["done", [{ type: "unknown", message: "m2" }, disarm("answer")]]);
  const second = then(live(), send(1), send(2));
  const refusal = (about) => on(1, { type: "error", code: "busy", message: "", message_id: about });
  assert.equal(step(second, refusal("m2"))[1].length, 1, "the first still waits");
  assert.deepEqual(step(second, refusal("m1"))[1].at(-1), disarm("answer"));
});

test("a message that is sent back waits for the next connection, and is no repetition there", () => {
  const make = () => then(live(), send(1), send(2), sentBack(1, 1));
  assert.deepEqual(make().state, { name: "holding", waiting: false });
  assert.deepEqual(step(make(), sentBack(1, 2)), ["done", [answers]], "its user is not told");
  assert.deepEqual(step(make(), send(3)), QUIET, "nothing more is asked of it");
  for (const ends of [[on(1, { type: "going_away" }), closed(1, 4000)], [closed(1, 4000)], [closed(1, 1006)]]) {
    const machine = then(make(), sentBack(1, 2), send(3), ...ends, expired("backoff"), opened(2));
    const written = step(machine, ready(2, 0, false))[1].filter(({ type }) => type === "write");
    assert.deepEqual(written, [message(1), message(2), message(3)], "a gap takes what may have run, and these have not");
  }
  const earlier = then(live(), send(1), closed(1, 1006), expired("backoff"), opened(2), ready(2), sentBack(2, 1));
  assert.deepEqual(step(earlier, withdraw(1)), IGNORED, "an earlier socket may have been heard");
  then(earlier, closed(2, 4000), expired("backoff"), opened(3));
  assert.deepEqual(step(earlier, ready(3))[1][2], message(1, true));
});

test("what waits for a gateway that stays after all is written there", () => {
  for (const mode of ["ready", "degraded", "emergency"]) {
    const machine = then(live(), send(1), sentBack(1, 1), send(2));
    for (const goes of ["handing_over", "draining"]) assert.deepEqual(step(machine, on(1, { type: "mode", mode: goes })), QUIET);
    assert.deepEqual(said(step(machine, on(1, { type: "mode", mode }))[1]), ["m1", "m2"]);
    assert.equal(machine.state.name, "live");
  }
  const silent = then(live(), send(1), sentBack(1, 1));
  assert.deepEqual(said(step(silent, expired("answer"))[1]), ["m1"]);
  assert.equal(silent.state.name, "live");
  const other = then(live(), send(1), send(2), sentBack(1, 2));
  assert.deepEqual(step(other, expired("answer")), ["done", [{ type: "unknown", message: "m1" }, answers]]);
  assert.equal(other.state.name, "holding");
});

test("what is sent back can be taken back, and one who has taken it back is told of the refusal", () => {
  const machine = then(live(), send(1), sentBack(1, 1));
  assert.deepEqual(step(machine, withdraw(1)), ["done", [disarm("answer")]]);
  assert.deepEqual(step(machine, sentBack(1, 1)), ["done", [{ type: "refused", message: "m1", code: "draining", text: "why" }]]);
  assert.deepEqual(kept(then(live(), send(1), sentBack(1, 1), closed(1, 1009))), ["m1"], "it is not to blame");
  const left = then(live(), send(1), on(1, { type: "going_away" }), sentBack(1, 1));
  assert.deepEqual([left.state.name, kept(left)], ["leaving", ["m1"]]);
});

test("a message that no socket has carried can be taken back", () => {
  for (const make of [idle, connecting, authenticating, leaving, backoff, stopped]) {
    const machine = then(make(), send(1));
    assert.deepEqual(step(machine, { type: "withdraw", message: "m1" }), QUIET);
    assert.deepEqual(kept(machine), []);
  }
  const machine = then(live(), send(1));
  for (const about of ["m1", "m2"]) assert.deepEqual(step(machine, { type: "withdraw", message: about }), IGNORED);
  assert.deepEqual(kept(machine), ["m1"]);
});

test("what an older socket still says is ignored, whatever the state", () => {
  const late = [
    opened(1), closed(1, 4500), closed(1, 1006), ready(1, 9, false), thought(1, 6, 7), on(1, { type: "auth_expiring" }),
  ];
  const reconnecting = () => then(backoff(), expired("backoff"));
  const after = [() => again(backoff(), 2, ready(2)), () => then(reconnecting(), opened(2)), reconnecting, backoff, stopped];
  for (const make of after) {
    const machine = make();
    const before = seen(machine);
    for (const input of late) assert.deepEqual(step(machine, input), IGNORED);
    assert.deepEqual(seen(machine), before);
  }
});

test("the place is unknown until ready", () => {
  assert.equal(connecting().position, null);
  assert.equal(then(connecting(), closed(1, 4004)).position, null);
  assert.deepEqual(new Machine({ epoch: 1, offset: 4 }).position, { epoch: 1, offset: 4 });
  assert.deepEqual(step(authenticating(), ready(1, "x")), IGNORED);
});
