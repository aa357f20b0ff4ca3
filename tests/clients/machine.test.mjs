/**
 * The machine against the model's rules: every state × every input, then each rule of `lockstep_model::client` by
 * itself. Names and numbers are those of `tests/tests/machines/client/`.
 */
import assert from "node:assert/strict";
import { test } from "node:test";

import { MAX_OUTGOING, Machine, advice } from "../../runtime/web/machine.js";

const SMALL = { backoff: 2, backoffMost: 9, connect: 47, heartbeat: 53 };

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
const send = (number) => ({ type: "send", message: `m${number}`, payload: "hello" });
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
const backoff = () => then(live(), closed(1, 1006));
const stopped = () => then(live(), closed(1, 4501));
const again = (machine, socket, frame) => then(machine, expired("backoff"), opened(socket), frame);
const STATES = { idle, connecting, authenticating, live, waiting, backoff, stopped };

const disarm = (timer) => ({ type: "disarm", timer });
const drops = (socket) => [
  ...["backoff", "connect", "heartbeat"].map(disarm),
  ...(socket ? [{ type: "close", socket }] : []),
];
const pauses = (socket, most = 2) => ["done", [...drops(socket), { type: "pause", most }]];
const asks = (asked) => ({ type: "needToken", asked });
const stops = (asked = 1) => ["done", [...drops(1), asks(asked)]];
const writes = (frame) => ({ type: "write", frame });
const arms = (timer, after) => ({ type: "arm", timer, after });
const opens = (socket) => ["done", [{ type: "open", socket }, arms("connect", 47)]];
const message = (number, repeat) =>
  writes({ type: "user_message", message_id: `m${number}`, payload: "hello", ...(repeat ? { repeat } : {}) });

/** All that can be seen of a machine. */
function seen(machine) {
  const { state, socket, asked, position, outgoing, tries } = machine;
  return structuredClone({ state, socket, asked, position, outgoing, tries });
}

const IGNORED = ["ignored", []];
const QUIET = ["done", []];

/** What each input does in each state: the machine's answer and orders, and the state after. `.` is: ignored. */
const TABLE = {
  connect: [CONNECT, { idle: [opens(1), "connecting"], stopped: [pauses(null), "backoff"] }],
  disconnect: [DISCONNECT, {
    connecting: [["done", drops(1)], "idle"], authenticating: [["done", drops(1)], "idle"],
    live: [["done", drops(1)], "idle"], waiting: [["done", drops(1)], "idle"],
    backoff: [["done", drops(null)], "idle"], stopped: [["done", drops(null)], "idle"],
  }],
  opened: [opened(1), {
    connecting: [["done", [writes({ type: "auth", token: "t", resume: "earliest" })]], "authenticating"],
  }],
  ready: [ready(1, 9), {
    authenticating: [["done", [disarm("connect"), arms("heartbeat", 53)]], "live"],
    live: [QUIET, "live"], waiting: [QUIET, "live"],
  }],
  event: [thought(1, 6, 7), {
    live: [["done", [{ type: "deliver", event: entry(6, 7) }]], "live"],
    waiting: [["done", [{ type: "deliver", event: entry(6, 7) }]], "live"],
  }],
  repeat: [thought(1, 5, 6), { waiting: [IGNORED, "live"] }],
  gap: [thought(1, 7, 8), { live: [pauses(1), "backoff"], waiting: [pauses(1), "backoff"] }],
  "going away": [on(1, { type: "going_away" }), { live: [pauses(1), "backoff"], waiting: [pauses(1), "backoff"] }],
  "auth expiring": [on(1, { type: "auth_expiring" }), {
    live: [["done", [asks(1)]], "live"], waiting: [["done", [asks(1)]], "live"],
  }],
  pong: [on(1, { type: "pong" }), { live: [QUIET, "live"], waiting: [QUIET, "live"] }],
  "closed: come back": [closed(1, 1006), {
    connecting: [pauses(1), "backoff"], authenticating: [pauses(1), "backoff"],
    live: [pauses(1), "backoff"], waiting: [pauses(1), "backoff"],
  }],
  "closed: stay away": [closed(1, 4502), {
    connecting: [stops(), "stopped"], authenticating: [stops(), "stopped"],
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
    live: [["done", [writes({ type: "ping" }), arms("heartbeat", 53)]], "waiting"], waiting: [pauses(1), "backoff"],
  }],
  "another timer expired": [expired("idle"), {}],
  "token, stale": [token(7), {}],
};

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

test("a token that answers the newest asking, in every state", () => {
  for (const [state, make] of Object.entries(STATES)) {
    const machine = make();
    const expected = { live: "auth", waiting: "auth" }[state] ? ["done", [writes({ type: "auth", token: "new" })]]
      : state === "stopped" ? pauses(null) : QUIET;
    assert.deepEqual(step(machine, token(machine.asked, "new")), expected, state);
    assert.equal(machine.state.name, { waiting: "live", stopped: "backoff" }[state] ?? state);
  }
});

test("a message, in every state: written when live and kept otherwise", () => {
  for (const [state, make] of Object.entries(STATES)) {
    const machine = make();
    const isLive = state === "live" || state === "waiting";
    assert.deepEqual(step(machine, send(1)), ["done", isLive ? [message(1)] : []], state);
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

test("without a credential it asks for one and stops", () => {
  const machine = then(new Machine(), CONNECT);
  assert.deepEqual(step(machine, opened(1)), ["done", [asks(1), ...drops(1)]]);
  assert.deepEqual(machine.state, { name: "stopped", code: 4504 });
  assert.deepEqual(step(machine, token(1)), pauses(null, 4 / 2));
});

test("pauses double up to the longest, and a success starts over", () => {
  const machine = connecting();
  for (const [index, most] of [2, 4, 8, 9, 9].entries()) {
    assert.deepEqual(step(machine, closed(index + 1, 1006)), pauses(index + 1, most));
    assert.equal(machine.tries, index + 1);
    assert.deepEqual(step(machine, expired("backoff")), opens(index + 2));
  }
  then(machine, opened(6), ready(6));
  assert.equal(machine.tries, 0);
  assert.deepEqual(step(machine, closed(6, 1006)), pauses(6, 2));
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
  for (const code of [1000, 1001, 1005, 1006, 1011, 1012, 1015, 3000, 4000, 4005, 4499]) {
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
    assert.deepEqual(step(machine, thought(1, previous, offset))[1], [{ type: "deliver", event: entry(previous, offset) }]);
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
  assert.deepEqual(step(live(), on(1, event))[1], [{ type: "deliver", event }]);
});

test("a reset moves the place and gives up what was written", () => {
  const machine = then(live(), send(1), send(2));
  const out = [{ type: "unknown", message: "m1" }, { type: "unknown", message: "m2" }, { type: "reset", from: 6, to: 20 }];
  assert.deepEqual(step(machine, on(1, { type: "stream_reset", from: 6, to: 20 })), ["done", out]);
  assert.deepEqual([machine.position, machine.outgoing], [{ epoch: 3, offset: 20 }, []]);
  assert.equal(step(machine, thought(1, 20, 21))[1].length, 1);
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
  const live2 = [disarm("connect"), arms("heartbeat", 53)];
  assert.deepEqual(out, [{ type: "unknown", message: "m1" }, ...live2, message(2)]);
  // The gap comes as a frame too, and was there before the message.
  const reset = { from: 6, to: 2 };
  assert.deepEqual(step(machine, on(2, { type: "stream_reset", ...reset })), ["done", [{ type: "reset", ...reset }]]);
  assert.deepEqual(machine.outgoing.map(({ message }) => message), ["m2"]);
  assert.deepEqual(machine.position, { epoch: 9, offset: 2 });
});

test("what is not answered is written on the next socket, and says that it is a repetition", () => {
  const machine = then(live(), send(1), closed(1, 1006), send(2), expired("backoff"), opened(2));
  assert.deepEqual(step(machine, ready(2))[1].slice(2), [message(1, true), message(2)]);
  then(machine, send(3), closed(2, 1006), expired("backoff"), opened(3));
  assert.deepEqual(step(machine, ready(3))[1].slice(2), [message(1, true), message(2, true), message(3, true)]);
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
  for (const code of ["malformed", "degraded", "draining", "too_many_runs", "breaker_open", "busy"]) {
    const machine = then(live(), send(1), send(2));
    const error = { type: "error", code, message: "why", message_id: "m2" };
    assert.deepEqual(step(machine, on(1, error))[1], [{ type: "refused", message: "m2", code, text: "why" }]);
    assert.deepEqual(machine.outgoing.map((outgoing) => outgoing.message), ["m1"]);
  }
  const forgotten = { type: "error", code: "forgotten", message: "", message_id: "m1" };
  assert.deepEqual(step(then(live(), send(1)), on(1, forgotten))[1], [{ type: "unknown", message: "m1" }]);
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
