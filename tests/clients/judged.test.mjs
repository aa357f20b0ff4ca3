/** Records that contradict themselves fail, and so do empty ones: they prove nothing. */
import assert from "node:assert/strict";
import { test } from "node:test";

import { contradicts, diverges } from "./judged.mjs";

const TRACE = {
  from_the_beginning: true, to_the_end: true, node_steps: 3, connection_steps: 5, session_steps: 7, unchecked: 0,
  dropped: 0, divergence: null, damage: null,
};
const HISTORY = { lines: 8, sockets: 1, events: 3, contradictions: [] };

test("a gateway whose steps are the model's is believed, also one that was killed", () => {
  assert.equal(diverges({ traces: [TRACE], unreadable: [] }, { starts: 1, kills: 0 }), null);
  const killed = { ...TRACE, to_the_end: false };
  assert.equal(diverges({ traces: [killed, TRACE], unreadable: [] }, { starts: 2, kills: 1 }), null);
});

test("a step that differs, is missing or was not looked at is told", () => {
  const cases = [
    [{ divergence: { record: 7 } }, /not the model's/],
    [{ damage: "cut off" }, /cannot be read/],
    [{ from_the_beginning: false }, /begins in the middle/],
    [{ to_the_end: false }, /1 traces are cut off, and 0 processes were killed/],
    [{ dropped: 1 }, /1 steps were not checked/],
    [{ unchecked: 2 }, /2 steps were not checked/],
    [{ session_steps: 0 }, /no step/],
    [{ connection_steps: 0 }, /no step/],
  ];
  for (const [change, why] of cases) {
    assert.match(diverges({ traces: [{ ...TRACE, ...change }], unreadable: [] }, { starts: 1, kills: 0 }), why);
  }
  assert.match(diverges({ traces: [TRACE], unreadable: ["x"] }, { starts: 1, kills: 0 }), /cannot be read/);
  assert.match(diverges({ traces: [TRACE], unreadable: [] }, { starts: 2, kills: 1 }), /2 processes left 1 traces/);
  assert.match(diverges({ traces: [], unreadable: [] }, { starts: 0, kills: 0 }), /no step/);
});

test("a history is believed if something was seen and nothing contradicts it", () => {
  assert.equal(contradicts({ histories: [HISTORY] }), null);
  const found = { property: "STR-1", lines: [3, 4], why: "twice" };
  assert.match(contradicts({ histories: [{ ...HISTORY, contradictions: [found] }] }), /cannot both be right/);
  assert.match(contradicts({ histories: [{ ...HISTORY, events: 0 }] }), /0 events were seen on 1 sockets/);
  assert.match(contradicts({ histories: [{ ...HISTORY, sockets: 0 }] }), /3 events were seen on 0 sockets/);
});
