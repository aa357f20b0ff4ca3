/** What the client's tests run on: virtual time, scripted sockets, seeded randomness. */

/** Time that a test moves. Timers fire in the order of their times. */
export class Clock {
  #now = 0;
  #next = 1;
  #timers = new Map();

  setTimeout = (run, after) => {
    const id = this.#next++;
    this.#timers.set(id, { at: this.#now + after, id, run });
    return id;
  };

  clearTimeout = (id) => void this.#timers.delete(id);

  now = () => this.#now;

  /** The time until each timer, soonest first. */
  get pending() {
    return [...this.#timers.values()].map(({ at }) => at - this.#now).sort((a, b) => a - b);
  }

  /** Moves time on, firing due timers. */
  pass(milliseconds) {
    const until = this.#now + milliseconds;
    for (let due = this.#due(until); due; due = this.#due(until)) {
      this.#now = due.at;
      this.#timers.delete(due.id);
      due.run();
    }
    this.#now = until;
  }

  #due(until) {
    const due = [...this.#timers.values()].filter(({ at }) => at <= until);
    return due.sort((a, b) => a.at - b.at || a.id - b.id)[0];
  }
}

/** A class of sockets that a test opens, feeds and closes, and the sockets made of it. */
export function sockets() {
  const made = [];
  class FakeSocket {
    readyState = 0;
    /** What the client wrote and the test has not read. */
    written = [];
    /** All that the client ever wrote. @type {string[]} */ raw = [];
    onopen = null;
    onmessage = null;
    onclose = null;

    constructor(url, protocols) {
      Object.assign(this, { url, protocols });
      made.push(this);
    }

    send(data) {
      if (this.readyState !== 1) throw new Error("written to a socket that is not open");
      this.raw.push(data);
      this.written.push(JSON.parse(data));
    }

    close() {
      this.readyState = 3;
    }

    /** The network opens the socket. */
    open() {
      this.readyState = 1;
      this.onopen?.({});
    }

    /** The gateway sends a frame. */
    say(frame) {
      this.onmessage?.({ data: typeof frame === "string" ? frame : JSON.stringify(frame) });
    }

    /** The gateway or the network closes the socket. */
    end(code, reason = "") {
      this.readyState = 3;
      this.onclose?.({ code, reason });
    }

    /** What was written since the last call. */
    take() {
      return this.written.splice(0);
    }
  }
  return { FakeSocket, made, newest: () => made.at(-1) };
}

/** Seeded random numbers in [0, 1) (mulberry32). */
export function chance(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/**
 * A simple model of the gateway for one client: a plain log, and the newest socket's position in it.
 */
export class SimpleGateway {
  epoch = 1;
  log = [];
  tail = 0;
  accepted = new Map();
  wire = [];
  inbox = [];
  controls = [];
  lists = 0;
  /** The newest socket's position, once it is ready. */
  at = null;

  get head() {
    return this.log.at(-1)?.offset ?? 0;
  }

  after(offset) {
    return this.log.find((event) => event.offset > offset);
  }

  append(hole, type, data = {}) {
    const previous = this.head;
    const run_id = `run-${this.log.length}`;
    this.log.push({ type, offset: previous + hole, previous, run_id, thread_id: null, timestamp: 0, data });
    return run_id;
  }

  /** Trims all but the newest events, and forgets the messages among the others. */
  trim(keep) {
    const trimmed = this.log.length - keep;
    if (trimmed > 0) this.tail = Math.max(this.tail, this.log[trimmed - 1].offset);
    for (const [message, { offset }] of this.accepted) if (offset <= this.tail) this.accepted.delete(message);
  }

  /** Loses the log. */
  lose() {
    Object.assign(this, new SimpleGateway(), { epoch: this.epoch + 1 });
  }

  opened() {
    Object.assign(this, { at: null, wire: [], controls: [] });
  }

  /** Answers the credential with ready. */
  ready(connection_id) {
    const auth = this.wire.shift();
    if (auth?.type !== "auth") return null;
    const { resume } = auth;
    let [at, gap] = [this.head, null];
    if (resume === "earliest") at = this.tail;
    else if (resume !== "latest") {
      const kept = resume.epoch === this.epoch && resume.offset >= this.tail && resume.offset <= this.head;
      [at, gap] = kept ? [resume.offset, null] : [this.tail, resume.offset];
    }
    this.at = at;
    if (gap !== null) this.controls.push({ type: "stream_reset", from: gap, to: at });
    return { type: "connection_ready", connection_id, epoch: this.epoch, offset: at, resumed: gap === null };
  }

  /** Reads one request. */
  hear() {
    if (this.at === null || this.wire.length === 0) return;
    const request = this.wire.shift();
    const { message_id } = request;
    const known = this.accepted.get(message_id);
    if (request.type === "ping") this.controls.push({ type: "pong" });
    else if (request.type === "auth") this.controls.push({ type: "auth_ok" });
    else if (request.type === "list_threads") this.controls.push(this.#list(request));
    else if (known) this.controls.push({ type: "message_known", message_id, ...known });
    else if (request.type === "user_message" && !this.inbox.includes(message_id)) this.inbox.push(message_id);
  }

  /** Refuses every second request. */
  #list({ request_id, socket }) {
    if (++this.lists % 2 === 0) return { type: "error", code: "busy", message: "busy", request_id };
    return { type: "threads", request_id, threads: [], next: `socket ${socket}` };
  }

  /** Answers one message, with an event or a refusal. */
  answer(accept) {
    const message_id = this.inbox.shift();
    if (message_id === undefined) return;
    if (accept) {
      const run_id = this.append(1, "message_received", { message_id, payload: null });
      this.accepted.set(message_id, { run_id, offset: this.head });
    } else {
      this.controls.push({ type: "error", code: "busy", message: "busy", message_id });
    }
  }

  /** The next frame on a ready socket: control frames first, then a gap, then the next event. */
  next() {
    if (this.at === null) return null;
    if (this.controls.length > 0) return this.controls.shift();
    if (this.at < this.tail) {
      const from = this.at;
      this.at = this.tail;
      return { type: "stream_reset", from, to: this.tail };
    }
    const event = this.after(this.at);
    if (event) this.at = event.offset;
    return event ?? null;
  }

  /** A fault: skips one event. */
  skip() {
    if (this.at === null || this.controls.length > 0 || this.at < this.tail) return;
    const event = this.after(this.at);
    if (event) this.at = event.offset;
  }

  get isQuiet() {
    return !this.wire.length && !this.inbox.length && !this.controls.length && this.at === this.head;
  }
}
