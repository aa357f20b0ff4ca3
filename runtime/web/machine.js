/**
 * The client's machine: connects, resumes, refreshes, backs off, and notices a gateway that is gone.
 *
 *     idle           ── connect ─────────────────────────────────────▶ connecting
 *     connecting     ── opened ──────────────────────────────────────▶ authenticating
 *                    ── closed: come back, connect expired ──────────▶ backoff
 *                    ── opened without a credential, stay away ──────▶ stopped
 *     authenticating ── ready ───────────────────────────────────────▶ live
 *                    ── closed: come back, connect expired ──────────▶ backoff
 *                    ── closed: stay away ───────────────────────────▶ stopped
 *     live           ── gap, going away ─────────────────────────────▶ backoff
 *                    ── closed: come back, heartbeat expired ────────▶ backoff
 *                    ── closed: stay away ───────────────────────────▶ stopped
 *     backoff        ── backoff expired ─────────────────────────────▶ connecting
 *     stopped        ── connect, token ──────────────────────────────▶ backoff
 *     every state    ── disconnect ──────────────────────────────────▶ idle
 *
 * It follows `lockstep_model::Client` state by state. It knows no socket, no clock and no chance: what happens comes in
 * as an input, what must be done goes out as orders, and `client.js` carries them out.
 *
 * - One socket at a time. Each has a generation; what an older one still says is ignored.
 * - Every attempt after the first is preceded by a pause that doubles, unless the user has disconnected and asks again.
 * - A close code of 4500 or more stops it until there is a new credential, or the user asks again.
 * - A message is repeated on the next connection until it is answered, with the same id, so that it runs once.
 * - Nothing that was written before a gap is repeated behind it: the user is told that it is not known. The gap that
 *   `connection_ready` told is behind already when its `stream_reset` comes, and takes nothing that was written since.
 * - Within an epoch reading never goes back, whatever offset a `stream_reset` names.
 */

/** Messages that a client keeps unanswered. */
export const MAX_OUTGOING = 64;

/** The close code of a connection that presented no credential. */
const CREDENTIAL_MISSING = 4504;

/** Pauses stop doubling here. */
const MAX_DOUBLINGS = 16;

const MAX_TRIES = 255;

/** Milliseconds, as `lockstep_model::Bounds::DEFAULT` has them. */
export const BOUNDS = Object.freeze({ backoff: 500, backoffMost: 30_000, connect: 10_000, heartbeat: 20_000 });

/**
 * @typedef {{epoch: number|string, offset: number}} Position
 * @typedef {{name: "idle"|"backoff"|"connecting"|"authenticating"}
 *         | {name: "live", waiting: boolean}
 *         | {name: "stopped", code: number}} State
 * @typedef {"backoff"|"connect"|"heartbeat"} Timer
 * @typedef {{message: string, payload: unknown, thread: string|null, socket: number}} Outgoing
 * @typedef {typeof BOUNDS} Bounds
 *
 * @typedef {{type: "connect"} | {type: "disconnect"}
 *         | {type: "send", message: string, payload: unknown, thread?: string|null}
 *         | {type: "token", asked: number, token: string}
 *         | {type: "opened", socket: number}
 *         | {type: "frame", socket: number, frame: Record<string, any>}
 *         | {type: "closed", socket: number, code: number}
 *         | {type: "expired", timer: Timer}} Input
 *
 * @typedef {{type: "open", socket: number} | {type: "close", socket: number}
 *         | {type: "write", frame: Record<string, unknown>}
 *         | {type: "needToken", asked: number}
 *         | {type: "deliver", event: Record<string, any>}
 *         | {type: "reset", from: number, to: number}
 *         | {type: "accepted", message: string, run: string}
 *         | {type: "refused", message: string, code: string, text: string}
 *         | {type: "unknown", message: string}
 *         | {type: "error", code: string, text: string}
 *         | {type: "notice", data: Record<string, any>, thread: string|null}
 *         | {type: "arm", timer: Timer, after: number}
 *         | {type: "pause", most: number}
 *         | {type: "disarm", timer: Timer}} Order
 *
 * @typedef {"done"|"ignored"|"backpressure"|"misuse"} Handled
 *   What became of an input: it meant something; it came too late; the message is one too many; its id is in use.
 */

/**
 * What a close code tells a client to do.
 * @param {number} code
 * @returns {"come back"|"stay away"}
 */
export function advice(code) {
  const away = code === 1002 || code === 1003 || (code >= 1007 && code <= 1010) || (code >= 4500 && code <= 4999);
  return away ? "stay away" : "come back";
}

/** Whether a frame is an entry of the stream, also one of a kind that is not known yet. */
const isEvent = (frame) => "previous" in frame;

export class Machine {
  /** @type {State} */ #state = Object.freeze({ name: "idle" });
  #socket = 0;
  #asked = 0;
  /** @type {string|null} */ #token = null;
  /** @type {"latest"|"earliest"|Position} */ #begin;
  /** @type {string|null} */ #connection = null;
  /** @type {Outgoing[]} */ #outgoing = [];
  #tries = 0;

  /** @param {"latest"|"earliest"|Position} begin where it begins reading */
  constructor(begin = "latest") {
    this.#begin = typeof begin === "string" ? begin : Object.freeze({ ...begin });
  }

  /** Where it is in its life. */
  get state() {
    return this.#state;
  }

  /** The generation of its newest socket. */
  get socket() {
    return this.#socket;
  }

  /** The generation of the newest asking for a credential. */
  get asked() {
    return this.#asked;
  }

  /** Whether it has a credential to present. */
  get hasToken() {
    return this.#token !== null;
  }

  /** Where it has read to, once it knows. @returns {Position|null} */
  get position() {
    return typeof this.#begin === "string" ? null : this.#begin;
  }

  /** Messages that are not answered. @returns {readonly Readonly<Outgoing>[]} */
  get outgoing() {
    return this.#outgoing;
  }

  /** How many attempts in a row have failed. */
  get tries() {
    return this.#tries;
  }

  /**
   * Takes one input. Only a message can be refused, and changes nothing then.
   * @param {Bounds} bounds
   * @param {Input} input
   * @param {Order[]} out where the orders are appended
   * @returns {Handled}
   */
  step(bounds, input, out) {
    switch (input.type) {
      case "send":
        return this.#send(input, out);
      case "token":
        return this.#present(bounds, input, out);
      case "connect":
        return this.#connect(bounds, out);
      case "disconnect":
        if (this.#state.name === "idle") return "ignored";
        this.#drop(out);
        this.#become({ name: "idle" });
        return "done";
      case "opened":
        if (this.#state.name !== "connecting" || input.socket !== this.#socket) return "ignored";
        this.#opened(out);
        return "done";
      case "frame":
        if (!this.#isReading() || input.socket !== this.#socket) return "ignored";
        return this.#frame(bounds, input.frame, out);
      case "closed":
        if (!this.#hasSocket() || input.socket !== this.#socket) return "ignored";
        if (advice(input.code) === "come back") this.#pause(bounds, out);
        else this.#stop(input.code, out);
        return "done";
      case "expired":
        return this.#expired(bounds, input.timer, out);
      default:
        throw new TypeError(`no such input: ${/** @type {any} */ (input).type}`);
    }
  }

  #connect(bounds, out) {
    switch (this.#state.name) {
      case "idle":
        this.#open(bounds, out);
        return "done";
      case "stopped":
        this.#pause(bounds, out);
        return "done";
      case "backoff":
      case "connecting":
      case "authenticating":
      case "live":
        return "ignored";
    }
  }

  #send({ message, payload, thread = null }, out) {
    if (this.#outgoing.length >= MAX_OUTGOING) return "backpressure";
    if (this.#outgoing.some((outgoing) => outgoing.message === message)) return "misuse";
    this.#outgoing.push({ message, payload, thread, socket: 0 });
    if (this.#state.name === "live") this.#flush(out);
    return "done";
  }

  #present(bounds, { asked, token }, out) {
    if (asked !== this.#asked) return "ignored";
    this.#token = token;
    switch (this.#state.name) {
      case "live":
        out.push({ type: "write", frame: { type: "auth", token } });
        break;
      case "stopped":
        this.#pause(bounds, out);
        break;
      case "idle":
      case "backoff":
      case "connecting":
      case "authenticating":
        break;
    }
    return "done";
  }

  #opened(out) {
    if (this.#token === null) {
      this.#ask(out);
      this.#drop(out);
      this.#become({ name: "stopped", code: CREDENTIAL_MISSING });
      return;
    }
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
        if (timer !== "heartbeat") return "ignored";
        if (this.#state.waiting) {
          this.#pause(bounds, out);
          return "done";
        }
        this.#become({ name: "live", waiting: true });
        out.push({ type: "write", frame: { type: "ping" } });
        out.push({ type: "arm", timer: "heartbeat", after: bounds.heartbeat });
        return "done";
      case "idle":
      case "stopped":
        return "ignored";
    }
  }

  /** A frame on the newest socket. */
  #frame(bounds, frame, out) {
    if (this.#state.name === "authenticating") {
      if (frame.type !== "connection_ready" || !Number.isFinite(frame.offset)) return "ignored";
      this.#ready(bounds, frame, out);
      return "done";
    }
    if (this.#state.waiting) this.#become({ name: "live", waiting: false });
    return isEvent(frame) ? this.#event(bounds, frame, out) : this.#control(bounds, frame, out);
  }

  #ready(bounds, frame, out) {
    if (!frame.resumed) this.#unknown(out);
    this.#become({ name: "live", waiting: false });
    this.#begin = Object.freeze({ epoch: frame.epoch, offset: frame.offset });
    this.#connection = frame.connection_id ?? null;
    this.#tries = 0;
    out.push({ type: "disarm", timer: "connect" }, { type: "arm", timer: "heartbeat", after: bounds.heartbeat });
    this.#flush(out);
  }

  #event(bounds, event, out) {
    const position = /** @type {Position} */ (this.#begin);
    const placed = Number.isFinite(event.offset) && Number.isFinite(event.previous);
    if (placed && event.offset <= position.offset) return "ignored";
    if (!placed || event.previous > position.offset) {
      // Something is missing, and nobody said so: ask again from the last entry that is certain.
      this.#pause(bounds, out);
      return "done";
    }
    this.#begin = Object.freeze({ epoch: position.epoch, offset: event.offset });
    if (event.type === "message_received") this.#answered(event.data?.message_id, event.run_id, out);
    out.push({ type: "deliver", event });
    return "done";
  }

  #control(bounds, frame, out) {
    switch (frame.type) {
      case "stream_reset": {
        const position = /** @type {Position} */ (this.#begin);
        if (Number.isFinite(frame.to) && frame.to > position.offset) {
          // Reading never goes back: what lies before was shown, and the entries in between will be ignored.
          this.#begin = Object.freeze({ epoch: position.epoch, offset: frame.to });
          this.#unknown(out);
        }
        out.push({ type: "reset", from: frame.from, to: frame.to });
        break;
      }
      case "message_known":
        this.#answered(frame.message_id, frame.run_id, out);
        break;
      case "error":
        this.#error(frame, out);
        break;
      case "auth_expiring":
        this.#ask(out);
        break;
      case "going_away":
        this.#pause(bounds, out);
        break;
      case "connection_notice":
        out.push({ type: "notice", data: frame.data ?? {}, thread: frame.thread_id ?? null });
        break;
      default:
      // The rest asks for nothing: connection_ready, auth_ok, mode, pong, and what a later gateway may say.
    }
    return "done";
  }

  #error({ code, message = "", message_id: about }, out) {
    if (about === undefined || about === null) {
      out.push({ type: "error", code, text: message });
      return;
    }
    this.#outgoing = this.#outgoing.filter((outgoing) => outgoing.message !== about);
    if (code === "forgotten") out.push({ type: "unknown", message: about });
    else out.push({ type: "refused", message: about, code, text: message });
  }

  #answered(message, run, out) {
    const index = this.#outgoing.findIndex((outgoing) => outgoing.message === message);
    if (index < 0) return;
    this.#outgoing.splice(index, 1);
    out.push({ type: "accepted", message, run });
  }

  /** Gives up on every message that was ever written: whether it ran is not to be found out any more. */
  #unknown(out) {
    const sent = this.#outgoing.filter((outgoing) => outgoing.socket !== 0);
    this.#outgoing = this.#outgoing.filter((outgoing) => outgoing.socket === 0);
    for (const { message } of sent) out.push({ type: "unknown", message });
  }

  /** Writes what this socket has not carried yet. */
  #flush(out) {
    for (const outgoing of this.#outgoing) {
      if (outgoing.socket === this.#socket) continue;
      const repeat = outgoing.socket !== 0;
      outgoing.socket = this.#socket;
      const frame = { type: "user_message", message_id: outgoing.message, payload: outgoing.payload };
      if (outgoing.thread !== null) frame.thread_id = outgoing.thread;
      if (repeat) frame.repeat = true;
      out.push({ type: "write", frame });
    }
  }

  #ask(out) {
    this.#asked += 1;
    out.push({ type: "needToken", asked: this.#asked });
  }

  #open(bounds, out) {
    this.#socket += 1;
    this.#become({ name: "connecting" });
    out.push({ type: "open", socket: this.#socket }, { type: "arm", timer: "connect", after: bounds.connect });
  }

  #drop(out) {
    for (const timer of /** @type {Timer[]} */ (["backoff", "connect", "heartbeat"])) out.push({ type: "disarm", timer });
    if (this.#hasSocket()) out.push({ type: "close", socket: this.#socket });
  }

  /** Drops the socket and comes back after a pause. */
  #pause(bounds, out) {
    this.#drop(out);
    this.#become({ name: "backoff" });
    const most = Math.min(bounds.backoff * 2 ** Math.min(this.#tries, MAX_DOUBLINGS), bounds.backoffMost);
    this.#tries = Math.min(this.#tries + 1, MAX_TRIES);
    out.push({ type: "pause", most });
  }

  /** Drops the socket and stays away until something changes; a new credential is such a thing. */
  #stop(code, out) {
    this.#drop(out);
    this.#become({ name: "stopped", code });
    this.#ask(out);
  }

  #isReading() {
    return this.#state.name === "authenticating" || this.#state.name === "live";
  }

  #hasSocket() {
    return this.#state.name === "connecting" || this.#isReading();
  }

  /** The one place that changes the state. @param {State} state */
  #become(state) {
    this.#state = Object.freeze(state);
  }
}
