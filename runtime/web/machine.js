/**
 * The client's state machine: connects, resumes, refreshes credentials, backs off, and detects a gateway that is gone.
 *
 *     idle           ── connect ─────────────────────────────────────▶ connecting
 *                    ── connect without a credential ────────────────▶ stopped
 *     connecting     ── opened ──────────────────────────────────────▶ authenticating
 *                    ── closed: come back, connect expired ──────────▶ backoff
 *                    ── closed: stay away ───────────────────────────▶ stopped
 *     authenticating ── ready ───────────────────────────────────────▶ live
 *                    ── closed: come back, connect expired ──────────▶ backoff
 *                    ── closed: stay away ───────────────────────────▶ stopped
 *     live           ── a message is sent back ──────────────────────▶ holding
 *     holding        ── mode, answer expired ────────────────────────▶ live
 *     live, holding  ── going away ──────────────────────────────────▶ leaving
 *     live, holding, ── gap, closed: come back, heartbeat expired ───▶ backoff
 *     leaving        ── closed: stay away ───────────────────────────▶ stopped
 *     leaving        ── leave expired ───────────────────────────────▶ connecting
 *     backoff        ── backoff expired ─────────────────────────────▶ connecting
 *     stopped        ── connect, token ──────────────────────────────▶ backoff
 *                    ── the first token ─────────────────────────────▶ connecting
 *     every state    ── disconnect ──────────────────────────────────▶ idle
 *
 * It mirrors `lockstep_model::Client` state by state. It has no socket, no clock and no randomness: events come in as
 * inputs, requests go out as outputs, and `client.js` dispatches them.
 *
 * CLIENT-1: it follows each close code's advice, with one socket at a time.
 *
 * - It opens no socket before it has a credential: it asks for one, and the first attempt follows the answer.
 * - Each socket has a generation; anything from an older one is ignored.
 * - Every attempt after the first is preceded by a pause that doubles, unless the user has disconnected and connects
 *   again. Pauses start over only once a connection has lasted, whatever code it closes with.
 * - A close code of 4500 or more stops it until there is a new credential, or the user connects again. So does a code
 *   that blames what the client sent, unless that can be given back.
 * - A gateway that goes away is read until it closes or its time is over. If it had lasted, a successor is expected.
 * - While an answer is awaited the heartbeat is fast; after failures in a row its answer gets more time.
 *
 * CLIENT-2: every message is settled: answered, refused, unknown, or back with its user.
 *
 * - A message is repeated on the next connection until it is answered, with the same id, so that it runs once.
 * - Messages that were written before a gap are not repeated after it: they become unknown. The gap that
 *   `connection_ready` announced is over when its `stream_reset` arrives, and does not affect later messages.
 * - A message that the gateway sends back because it is about to go away waits as if it had not been written there.
 * - A message that is longer than the gateway accepts is not written.
 * - A message is unknown after `MAX_WRITES` sockets, a time without an answer, or a close that blames it.
 *
 * STR-1: within an epoch the position never goes back, whatever offset a `stream_reset` names.
 */

import { MAX_OUTGOING, MAX_WRITES, Messages } from "./messages.js";
import {
  BOUNDS, CREDENTIAL_MISSING, DRAINING, GOING_AWAY, LOST, MAX_DOUBLINGS, MAX_RUNS, MAX_SHORT, MAX_TRIES, RESTS, TIMERS,
  advice, blames, endsSoon, isEvent,
} from "./terms.js";

export { BOUNDS, MAX_OUTGOING, MAX_SHORT, MAX_WRITES, advice };

/**
 * @typedef {import("./terms.js").Position} Position
 * @typedef {import("./terms.js").State} State
 * @typedef {import("./terms.js").Bounds} Bounds
 * @typedef {import("./terms.js").Input} Input
 * @typedef {import("./terms.js").Order} Order
 * @typedef {import("./terms.js").Handled} Handled
 */

export class Machine {
  /** @type {State} */ #state = Object.freeze({ name: "idle" });
  #socket = 0;
  #asked = 0;
  /** @type {string|null} */ #token = null;
  /** @type {"latest"|"earliest"|Position} */ #begin;
  /** @type {string|null} */ #connection = null;
  #messages = new Messages();
  /** Runs that go on without the user, with their threads. @type {Map<string, string|null>} */ #runs = new Map();
  #tries = 0;
  /** The gateway announced that it goes away, and no other one has been ready since. */
  #succession = false;

  /** @param {"latest"|"earliest"|Position} begin where to begin reading */
  constructor(begin = "latest") {
    this.#begin = typeof begin === "string" ? begin : Object.freeze({ ...begin });
  }

  /** The current state. */
  get state() {
    return this.#state;
  }

  /** The generation of its newest socket. */
  get socket() {
    return this.#socket;
  }

  /** The generation of the newest request for a credential. */
  get asked() {
    return this.#asked;
  }

  /** Whether it has a credential to present. */
  get hasToken() {
    return this.#token !== null;
  }

  /** The position that it has read to, once known. @returns {Position|null} */
  get position() {
    return typeof this.#begin === "string" ? null : this.#begin;
  }

  /** Whether it has received `connection_ready` on its socket. */
  get isReady() {
    return this.#state.name === "live" || this.#state.name === "holding" || this.#state.name === "leaving";
  }

  /** The most bytes of a message that the gateway accepts, as far as known. */
  get longest() {
    return this.#messages.longest;
  }

  /** Whether the gateway announced that it goes away, and no other one has been ready since. */
  get awaitsSuccessor() {
    return this.#succession;
  }

  /** Messages that are not settled. */
  get outgoing() {
    return this.#messages.list;
  }

  /** The number of attempts in a row without a connection that lasted. */
  get tries() {
    return this.#tries;
  }

  /**
   * Handles one input. Only a message can be refused, and it then changes nothing.
   * @param {Bounds} bounds
   * @param {Input} input
   * @param {Order[]} out the outputs are appended here
   * @returns {Handled}
   */
  step(bounds, input, out) {
    const [before, due, awaited] = [this.#waiting(), this.#due(), this.#isAwaiting()];
    const handled = this.#take(bounds, input, out);
    if (this.isReady) this.#watch(bounds, before, due, awaited, out);
    return handled;
  }

  #take(bounds, input, out) {
    switch (input.type) {
      case "send":
        return this.#send(input, out);
      case "withdraw":
        return this.#messages.withdraw(input.message);
      case "token":
        if (input.asked !== this.#asked) return "ignored";
        this.#present(bounds, input.token, out);
        return "done";
      case "present":
        this.#asked += 1;
        this.#present(bounds, input.token, out);
        return "done";
      case "connect":
        return this.#connect(bounds, out);
      case "disconnect":
        if (this.#state.name === "idle") return "ignored";
        this.#drop({ name: "idle" }, out);
        return "done";
      case "opened":
        if (this.#state.name !== "connecting" || input.socket !== this.#socket) return "ignored";
        this.#opened(out);
        return "done";
      case "limits":
        if (this.#state.name !== "authenticating" || input.socket !== this.#socket) return "ignored";
        this.#messages.limit(input.longest, out);
        return "done";
      case "frame":
        if (!this.#isReading() || input.socket !== this.#socket) return "ignored";
        return this.#frame(bounds, input.frame, out);
      case "closed":
        if (!this.#hasSocket() || input.socket !== this.#socket) return "ignored";
        this.#closed(bounds, input.code, out);
        return "done";
      case "expired":
        return this.#expired(bounds, input.timer, out);
      default:
        throw new TypeError(`no such input: ${/** @type {any} */ (input).type}`);
    }
  }

  #connect(bounds, out) {
    if (this.#state.name === "idle") this.#open(bounds, out);
    else if (this.#state.name !== "stopped") return "ignored";
    else if (this.#token === null) this.#ask(out);
    else this.#pause(bounds, out);
    return "done";
  }

  #send(input, out) {
    const handled = this.#messages.add(input, out);
    this.#flush(out);
    return handled;
  }

  #present(bounds, token, out) {
    this.#token = token;
    switch (this.#state.name) {
      case "live":
      case "holding":
      case "leaving":
        out.push({ type: "write", frame: { type: "auth", token } });
        break;
      case "stopped":
        // Nothing was tried before, so nothing is repeated.
        if (this.#socket === 0) this.#open(bounds, out);
        else this.#pause(bounds, out);
        break;
      case "idle":
      case "backoff":
      case "connecting":
      case "authenticating":
        break;
    }
  }

  #opened(out) {
    this.#become({ name: "authenticating" });
    const frame = { type: "auth", token: this.#token, resume: this.#begin };
    out.push({ type: "write", frame: this.#connection ? { ...frame, replaces: this.#connection } : frame });
  }

  #expired(bounds, timer, out) {
    switch (this.#state.name) {
      case "backoff":
        if (timer !== "backoff") return "ignored";
        this.#open(bounds, out);
        return "done";
      case "connecting":
      case "authenticating":
        if (timer !== "connect") return "ignored";
        this.#pause(bounds, out);
        return "done";
      case "live":
      case "holding":
      case "leaving":
        return this.#expiredWhenReady(bounds, timer, out);
      case "idle":
      case "stopped":
        return "ignored";
    }
  }

  #expiredWhenReady(bounds, timer, out) {
    switch (timer) {
      case "heartbeat":
        if (this.#waiting()) this.#pause(bounds, out);
        else this.#ping(bounds, out);
        return "done";
      case "stable":
        this.#tries = 0;
        return "done";
      case "answer":
        this.#overdue(out);
        return "done";
      case "leave":
        if (this.#state.name !== "leaving") return "ignored";
        this.#leave(bounds, out);
        return "done";
      default:
        return "ignored";
    }
  }

  /** The time for an answer is over: gives up the oldest message, or the wait for the gateway to go away. */
  #overdue(out) {
    if (this.#oldest() === null) this.#release(out);
    else this.#messages.giveUpOldest(this.#socket, out);
  }

  /** The gateway accepts messages again, as far as known: writes the waiting ones. */
  #release(out) {
    if (this.#state.name !== "holding") return;
    this.#become({ name: "live", waiting: this.#state.waiting });
    this.#flush(out);
  }

  /** The gateway goes away. A successor is expected if the connection had lasted. */
  #expectSuccessor() {
    if (this.#tries === 0) this.#succession = true;
  }

  /** Sends a heartbeat. */
  #ping(bounds, out) {
    this.#become({ name: this.#state.name, waiting: true });
    out.push({ type: "write", frame: { type: "ping" } });
    out.push({ type: "arm", timer: "heartbeat", after: bounds.pong * 2 ** Math.min(this.#tries, 3) });
  }

  /** The gateway's announced time is over. It counts as the pause, unless earlier attempts have failed. */
  #leave(bounds, out) {
    if (this.#tries > 0) return this.#pause(bounds, out);
    this.#tries = 1;
    this.#drop({ name: "backoff" }, out);
    this.#open(bounds, out);
  }

  /** Handles a frame on the newest socket. Any frame is a sign of life. */
  #frame(bounds, frame, out) {
    if (this.#state.name === "authenticating") {
      if (frame.type !== "connection_ready" || !Number.isFinite(frame.offset)) return "ignored";
      this.#ready(bounds, frame, out);
      return "done";
    }
    const heard = this.#waiting() === true;
    if (heard) this.#become({ name: this.#state.name, waiting: false });
    const handled = isEvent(frame) ? this.#event(bounds, frame, out) : this.#control(bounds, frame, out);
    return heard ? "done" : handled;
  }

  #ready(bounds, frame, out) {
    if (!frame.resumed) {
      this.#messages.giveUp(out);
      this.#runs.clear();
    }
    this.#become({ name: "live", waiting: false });
    this.#begin = Object.freeze({ epoch: frame.epoch, offset: frame.offset });
    this.#connection = frame.connection_id ?? null;
    this.#succession = false;
    out.push({ type: "disarm", timer: "connect" }, { type: "arm", timer: "stable", after: bounds.stable });
    this.#flush(out);
  }

  #event(bounds, event, out) {
    const position = /** @type {Position} */ (this.#begin);
    const placed = Number.isFinite(event.offset) && Number.isFinite(event.previous);
    if (placed && event.offset <= position.offset) return "ignored";
    if (!placed || event.previous > position.offset) {
      // An entry is missing without notice: reconnect from the last certain one.
      this.#pause(bounds, out);
      return "done";
    }
    this.#begin = Object.freeze({ epoch: position.epoch, offset: event.offset });
    if (event.type === "message_received") this.#messages.answered(event.data?.message_id, event.run_id, out);
    const thread = event.thread_id ?? null;
    if (event.type === "thread_deleted") this.#runs = new Map([...this.#runs].filter(([, other]) => other !== thread));
    if (RESTS.has(event.type)) this.#runs.delete(event.run_id);
    else if (this.#runs.size < MAX_RUNS) this.#runs.set(event.run_id, thread);
    out.push({ type: "deliver", event });
    return "done";
  }

  #control(bounds, frame, out) {
    switch (frame.type) {
      case "stream_reset": {
        const position = /** @type {Position} */ (this.#begin);
        if (Number.isFinite(frame.to) && frame.to > position.offset) {
          // The position never goes back: earlier entries were shown, and will be ignored if they are repeated.
          this.#begin = Object.freeze({ epoch: position.epoch, offset: frame.to });
          this.#messages.giveUp(out);
          this.#runs.clear();
        }
        out.push({ type: "reset", from: frame.from, to: frame.to });
        break;
      }
      case "message_known":
        this.#messages.answered(frame.message_id, frame.run_id, out);
        break;
      case "error":
        if (!("request_id" in frame)) this.#error(frame, out);
        break;
      case "auth_expiring":
        this.#ask(out);
        break;
      case "going_away":
        this.#expectSuccessor();
        this.#become({ name: "leaving", waiting: false });
        out.push({ type: "arm", timer: "leave", after: bounds.backoff });
        break;
      case "mode":
        if (!endsSoon(frame.mode)) this.#release(out);
        break;
      case "connection_notice":
        out.push({ type: "notice", data: frame.data ?? {}, thread: frame.thread_id ?? null });
        break;
      default:
      // Other frames need nothing here: connection_ready, auth_ok, pong, answers to requests, and unknown ones.
    }
    return "done";
  }

  #error({ code, message = "", message_id: about }, out) {
    if (about === undefined || about === null) {
      out.push({ type: "error", code, text: message });
      return;
    }
    if (code === DRAINING && this.#messages.sentBack(about, this.#socket)) {
      if (this.#state.name === "live") this.#become({ name: "holding", waiting: this.#state.waiting });
    } else {
      this.#messages.refused(about, code, message, out);
    }
  }

  /** Writes the messages that were not written to this socket yet. */
  #flush(out) {
    if (this.#state.name === "live") this.#messages.flush(this.#socket, this.position?.epoch, out);
  }

  #ask(out) {
    out.push({ type: "needToken", asked: ++this.#asked });
  }

  /** Opens a socket, or asks for the first credential. */
  #open(bounds, out) {
    if (this.#token === null) {
      this.#become({ name: "stopped", code: CREDENTIAL_MISSING });
      this.#ask(out);
      return;
    }
    this.#socket += 1;
    this.#become({ name: "connecting" });
    out.push({ type: "open", socket: this.#socket }, { type: "arm", timer: "connect", after: bounds.connect });
  }

  #closed(bounds, code, out) {
    if (code === GOING_AWAY) this.#expectSuccessor();
    else if (code !== LOST) this.#succession = false;
    if (advice(code) === "come back" || (blames(code) && this.#messages.giveBack(this.#socket, out))) {
      this.#pause(bounds, out);
      return;
    }
    // A new credential may change the result.
    this.#drop({ name: "stopped", code }, out);
    this.#ask(out);
  }

  #drop(state, out) {
    for (const timer of TIMERS) out.push({ type: "disarm", timer });
    if (this.#hasSocket()) out.push({ type: "close", socket: this.#socket });
    this.#become(state);
  }

  /** Drops the socket and reconnects after a pause. */
  #pause(bounds, out) {
    this.#drop({ name: "backoff" }, out);
    const longest = this.#succession && this.#tries < MAX_SHORT ? Math.min(bounds.backoff * 4, bounds.backoffMost) : bounds.backoffMost;
    const most = Math.min(bounds.backoff * 2 ** Math.min(this.#tries, MAX_DOUBLINGS), longest);
    this.#tries = Math.min(this.#tries + 1, MAX_TRIES);
    out.push({ type: "pause", most });
  }

  /** Whether a heartbeat is unanswered; null unless ready. @returns {boolean|null} */
  #waiting() {
    const { name } = this.#state;
    return name === "live" || name === "holding" || name === "leaving" ? this.#state.waiting : null;
  }

  /** The message that has waited longest for an answer on this socket. @returns {string|null} */
  #oldest() {
    return this.isReady ? this.#messages.oldest(this.#socket) : null;
  }

  /** What the timer `answer` waits for: the answer to a message, or the announced departure of the gateway. */
  #due() {
    const oldest = this.#oldest();
    if (oldest !== null) return `answer ${oldest}`;
    return this.#state.name === "holding" && this.outgoing.length > 0 ? "departure" : null;
  }

  #isAwaiting() {
    return this.#runs.size > 0 || this.#oldest() !== null;
  }

  /** Updates the deadlines after each step of a ready client. */
  #watch(bounds, before, due, awaited, out) {
    const now = this.#due();
    if (now !== due) {
      if (now === null) out.push({ type: "disarm", timer: "answer" });
      else out.push({ type: "arm", timer: "answer", after: bounds.answer });
    }
    if (this.#waiting() || (before === false && (awaited || !this.#isAwaiting()))) return;
    const after = this.#isAwaiting() ? Math.min(bounds.pong / 2, bounds.heartbeat) : bounds.heartbeat;
    out.push({ type: "arm", timer: "heartbeat", after });
  }

  #isReading() {
    return this.#state.name === "authenticating" || this.isReady;
  }

  #hasSocket() {
    return this.#state.name === "connecting" || this.#isReading();
  }

  /** The only place that changes the state. @param {State} state */
  #become(state) {
    this.#state = Object.freeze(state);
  }
}
