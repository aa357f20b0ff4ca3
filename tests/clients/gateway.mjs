/**
 * The gateway from a Node program's side: the login over HTTP, and a socket of the npm package `ws` with its frames.
 */
import assert from "node:assert/strict";
import { once } from "node:events";

import WebSocket from "ws";

/** @param {string} name */
function required(name) {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set: see the head of ws.test.mjs`);
  return value;
}

/** Looked up when it is needed: a suite may start its own gateway. */
const base = () => new URL(required("LOCKSTEP_URL"));

/** The URL of the gateway's socket. */
export const socketUrl = () => Object.assign(new URL("/ws", base()), { protocol: base().protocol.replace("http", "ws") });

export const EVENTS = [
  "message_received", "agent_started", "agent_thinking", "agent_delta", "tool_executing", "tool_completed", "agent_paused", "agent_resumed",
  "agent_completed", "agent_error",
];

/** The timeout of everything that is awaited. */
export const LIMIT = 30_000;

/** How long a token is reused; checking passwords is slow by design. */
const RENEWED = 10_000;

let last = { token: "", at: -Infinity };

/** An access token, reused for a while. */
export async function credential() {
  if (performance.now() - last.at > RENEWED) last = { token: await logIn(), at: performance.now() };
  return last.token;
}

/** A new access token of the tests' user. */
export async function logIn() {
  const response = await fetch(new URL("/auth/login", base()), {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ username: required("LOCKSTEP_USER"), password: required("LOCKSTEP_PASSWORD") }),
  });
  assert.equal(response.status, 200);
  const { token, expires_in: expires } = await response.json();
  assert.ok(typeof token === "string" && expires > 0);
  return token;
}

/** One socket and its received frames, in order. */
export class Peer {
  /** Frames that were not taken yet. */
  #frames = [];
  #waiting = null;
  /** The close code, once it is closed. @type {Promise<number>} */ closed;

  /** @param {WebSocket} socket */
  constructor(socket) {
    this.socket = socket;
    this.closed = once(socket, "close").then(([code]) => code);
    socket.on("error", () => {});
    socket.on("message", (data, isBinary) => {
      assert.equal(isBinary, false, "the gateway says text only");
      this.#frames.push(JSON.parse(data.toString()));
      this.#waiting?.();
    });
    socket.on("close", (code) => {
      this.#frames.push({ type: "closed", code });
      this.#waiting?.();
    });
  }

  /** An open socket, before any frame. */
  static async open() {
    const socket = new WebSocket(socketUrl(), ["lockstep.v1"]);
    const peer = new Peer(socket);
    await once(socket, "open");
    assert.equal(socket.protocol, "lockstep.v1");
    return peer;
  }

  /** A ready socket, and its `connection_ready`. */
  static async ready(auth) {
    const peer = await Peer.open();
    peer.say({ type: "auth", ...auth });
    const ready = await peer.next();
    assert.equal(ready.type, "connection_ready");
    return [peer, ready];
  }

  say(frame) {
    this.socket.send(typeof frame === "string" || frame instanceof Uint8Array ? frame : JSON.stringify(frame));
  }

  /** The next frame. */
  async next() {
    while (this.#frames.length === 0) await new Promise((resolve) => (this.#waiting = resolve));
    return this.#frames.shift();
  }

  /** The frames through the first for which `isLast` holds. */
  async until(isLast) {
    const frames = [];
    for (;;) {
      const frame = await this.next();
      frames.push(frame);
      if (isLast(frame)) return frames;
      assert.notEqual(frame.type, "closed", `the socket was closed first, with ${frame.code}`);
    }
  }

  close() {
    this.socket.close(1000);
    return this.closed;
  }
}

export const isEvent = (frame) => EVENTS.includes(frame.type);
export const isType = (type) => (frame) => frame.type === type;

/** A predicate for the end of the run that a message began. */
export function endOf(message) {
  let run = null;
  return (frame) => {
    if (frame.type === "message_received" && frame.data.message_id === message) run = frame.run_id;
    return run !== null && frame.run_id === run && (frame.type === "agent_completed" || frame.type === "agent_error");
  };
}

/** STR-1: each event names the one before it, from `offset` on, without gap or repeat. */
export function assertChained(events, offset) {
  let last = offset;
  for (const event of events) {
    assert.equal(event.previous, last, `${event.type} at ${event.offset}`);
    assert.ok(event.offset > last);
    assert.ok(Number.isSafeInteger(event.offset) && Number.isSafeInteger(event.timestamp) && event.timestamp > 0);
    assert.match(event.run_id, /^[0-9a-f]{16}$/);
    assert.ok(event.thread_id === null || typeof event.thread_id === "string");
    assert.equal(typeof event.data, "object");
    last = event.offset;
  }
}
