/**
 * A client of the earlier system, as its browser client and store work: the envelope, where they look for an answer, what
 * they do when a connection ends. It knows nothing of `lockstep.v1`, and relies on nothing that they did not rely on.
 */
import assert from "node:assert/strict";
import { once } from "node:events";

import WebSocket from "ws";

import { LIMIT, socketUrl } from "./gateway.mjs";

const base64url = (text) => Buffer.from(text, "utf8").toString("base64url");

/** How a credential travels as subprotocols. */
export const FORMS = {
  "jwt-auth and jwt.": (token) => ["jwt-auth", `jwt.${base64url(token)}`],
  "jwt. alone": (token) => [`jwt.${base64url(token)}`],
  "jwt-auth. alone": (token) => [`jwt-auth.${base64url(token)}`],
  "jwt-auth and bearer. in base64url": (token) => ["jwt-auth", `bearer.${base64url(token)}`],
  "jwt-auth and bearer. as it is": (token) => ["jwt-auth", `bearer.${token}`],
};

/** With one of these texts in the reason of 1008 the original client's refresh does not come back. */
const STUCK = ["Token expired", "token has expired", "JWT expired"];

const QUIET = [
  "connection_established", "handshake_response", "message_received", "auth_ok", "auth_expiring", "mode", "stream_reset", "going_away",
  "message_known", "notice",
];

/** What the store keeps of the conversation. It throws where the original one did. */
export class Store {
  /** @type {Map<string, object>} */ runs = new Map();
  errors = [];

  handle(event) {
    const payload = event.payload;
    assert.ok(payload && typeof payload === "object", `no payload: ${JSON.stringify(event)}`);
    if (event.type === "error") {
      const { error_code, error_message, recovery_suggestions } = payload;
      assert.ok(error_code.length > 0 && error_message.length > 0 && recovery_suggestions.length > 0);
      this.errors.push(error_code);
      return;
    }
    if (QUIET.includes(event.type)) return;
    const run = this.#run(event);
    assert.equal(event.thread_id, run.thread, "a run stays in its thread");
    switch (event.type) {
      case "agent_started":
        run.agent = event.agent_name;
        run.status = payload.status;
        assert.ok(payload.message.length > 0 && typeof payload.context === "object");
        break;
      case "agent_thinking":
        run.thoughts.push(payload.reasoning);
        assert.ok(payload.step_number > 0 && "progress_percentage" in payload && payload.status.length > 0);
        break;
      case "tool_executing":
        run.tools.push({ name: payload.tool_name, parameters: payload.parameters, status: payload.status });
        break;
      case "tool_completed": {
        const tool = run.tools.find(({ name, status }) => name === payload.tool_name && status === "executing");
        Object.assign(tool, { result: payload.result, time: payload.execution_time_ms, status: payload.status });
        break;
      }
      case "partial_result":
        assert.equal(payload.is_complete, false);
        run.partial += payload.content;
        break;
      case "agent_completed":
        Object.assign(run, { status: payload.status, result: payload.result, time: payload.execution_time_ms });
        break;
      case "agent_failed":
        assert.equal(payload.agent_name, event.agent_name);
        Object.assign(run, { status: payload.status, error: payload.error });
        break;
      default:
        assert.fail(`the store does not know ${event.type}`);
    }
  }

  #run({ run_id: id, thread_id: thread }) {
    assert.match(id, /^[0-9a-f]{16}$/);
    if (!this.runs.has(id)) this.runs.set(id, { id, thread, thoughts: [], tools: [], partial: "", status: "unknown" });
    return this.runs.get(id);
  }

  /** The runs of a thread. */
  of(thread) {
    return [...this.runs.values()].filter((run) => run.thread === thread);
  }
}

/** The client: one socket at a time, and what it remembers from one to the next. */
export class Client {
  store = new Store();
  /** Ids of events, in the order in which they came. */
  seen = [];
  #frames = [];
  #waiting = null;
  #last = null;
  #connection = null;
  #thread = null;

  /** @param {{token: () => Promise<string>, form?: string, path?: string, early?: boolean}} options */
  constructor({ token, form = "jwt-auth and jwt.", path = "/ws", early = true }) {
    Object.assign(this, { token, form, path, early });
  }

  /** Opens a socket. A client that was connected before names its place in its first frame. */
  async connect() {
    const protocols = FORMS[this.form](await this.token());
    const socket = new WebSocket(Object.assign(socketUrl(), { pathname: this.path }), protocols);
    this.socket = socket;
    this.#frames = [];
    socket.on("error", () => {});
    this.closed = once(socket, "close").then(([code, reason]) => ({ code, reason: reason.toString() }));
    socket.on("message", (data) => this.#receive(socket, JSON.parse(data.toString())));
    this.closed.then(({ code, reason }) => this.#note({ type: "closed", code, reason, payload: {} }));
    await once(socket, "open");
    assert.equal(socket.protocol, protocols[0]);
    if (this.early) this.#restore();
    const established = (await this.until(({ type }) => type === "connection_established")).at(-1);
    assert.equal(established.connection_ready, true);
    assert.ok(established.config.heartbeat_interval > 0 && established.config.max_message_size > 0);
    assert.equal(typeof established.user_id, "string");
    assert.ok(established.server_time > 0);
    this.#connection = established.connection_id;
    if (!this.early) this.#restore();
    return established;
  }

  #restore() {
    if (this.#last === null) return;
    this.say("session_restore", { threadId: this.#thread, lastMessageId: this.#last, connectionId: this.#connection });
  }

  #receive(socket, frame) {
    if (socket !== this.socket) return;
    // The original client takes the id of whatever came last.
    if (frame.message_id) {
      this.#last = frame.message_id;
      this.seen.push(frame.message_id);
    }
    assert.deepEqual(frame.data, frame.payload, "some clients read `data`, some `payload`");
    assert.ok(Number.isSafeInteger(frame.timestamp));
    if (frame.type !== "pong" && frame.type !== "heartbeat_ack") this.store.handle(frame);
    this.#note(frame);
  }

  #note(frame) {
    this.#frames.push(frame);
    this.#waiting?.();
  }

  say(type, payload, beside = {}) {
    this.socket.send(JSON.stringify({ type, ...(payload === undefined ? {} : { payload }), ...beside, timestamp: new Date().toISOString() }));
  }

  /** The first message of a conversation. */
  start(thread, text) {
    this.#thread = thread;
    this.say("start_agent", { user_request: text, thread_id: thread, context: {}, settings: {} });
  }

  /** A later message. */
  ask(thread, text) {
    this.#thread = thread;
    this.say("user_message", { content: text, references: [], thread_id: thread });
  }

  /** The frames through the first for which `isLast` holds. */
  async until(isLast) {
    const frames = [];
    for (;;) {
      while (this.#frames.length === 0) await new Promise((resolve) => (this.#waiting = resolve));
      const frame = this.#frames.shift();
      frames.push(frame);
      if (isLast(frame)) return frames;
      assert.notEqual(frame.type, "closed", `the socket was closed first, with ${frame.code} ${frame.reason}`);
    }
  }

  /** The end of the newest run of a thread. */
  async end(thread) {
    await this.until(({ type, thread_id: of }) => of === thread && (type === "agent_completed" || type === "agent_failed"));
    return this.store.of(thread).at(-1);
  }

  /**
   * Comes back after a close, as the original client does: at once after 1001, 1006 and 1013, and after 1008 with a new
   * credential. Resolves to what it came back from.
   */
  async comeBack(refresh) {
    const { code, reason } = await this.closed;
    if (code === 1008) {
      assert.ok(STUCK.every((text) => !reason.includes(text)), reason);
      await refresh();
    } else {
      assert.ok([1001, 1006, 1013].includes(code), `it does not come back after ${code}`);
    }
    const deadline = performance.now() + LIMIT;
    for (;;) {
      try {
        await this.connect();
        return { code, reason };
      } catch (error) {
        // The gateway, or the one after it, may not be there yet.
        if (performance.now() > deadline) throw error;
        await new Promise((resolve) => setImmediate(resolve));
      }
    }
  }

  async close() {
    this.socket.close(1000);
    return this.closed;
  }
}
