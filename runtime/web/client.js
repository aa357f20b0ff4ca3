/**
 * A client of the gateway: a socket, timers and a token provider around the machine of `machine.js`.
 *
 *     const client = new Client({ url: "wss://example.org/ws", token: async () => accessToken, begin: "earliest" });
 *     client.addEventListener("event", ({ detail }) => console.log(detail.type, detail.data));
 *     client.connect();
 *     client.send("what is 2+3*4?");
 *
 * It comes back by itself after whatever may be come back from, with the position that it has read to, and repeats what
 * was not answered. It decides nothing: the machine does.
 *
 * Events, each a `CustomEvent` with its `detail`:
 *
 * | event | detail | |
 * | --- | --- | --- |
 * | `status` | {@link Status} | the state, or something that a user should be told with it, has changed |
 * | `event` | the event's frame | the next event of the stream, once and in order; `thread_deleted` is one |
 * | `ready` | the frame | `connection_ready` |
 * | `reset` | `{from, to}` | what lay between cannot be given: the epoch is a new one, or the log keeps no conversations |
 * | `accepted` | `{message, run}` | the message runs, or ran before |
 * | `refused` | `{message, code, text}` | the message was not accepted, and may be sent again with a new id; `too_long`: not even written |
 * | `unknown` | `{message}` | it cannot be known whether the message ran |
 * | `notice` | `{data, thread}` | the service has something for this connection alone: no event, and not repeated |
 * | `error` | `{code, text}` | something that was asked was not understood, or not allowed |
 * | `loginneeded` | `{error}` | the token provider gave none |
 *
 * What a user asks for. A message is repeated until it is answered; the rest is written at once or not at all, and once. A
 * promise is settled once. It rejects with a {@link RequestError}, whose `code` is that of the gateway's `error` (`busy`: repeat
 * it later), or `closed`: not connected, or not any more; or `timeout`. It is the caller who repeats such a request.
 *
 * | method | written | answered with |
 * | --- | --- | --- |
 * | `send(payload, { thread, replaces })` | `user_message` | `accepted`, `refused` or `unknown`; `replaces`: a turn of the thread, which it supersedes with all that followed |
 * | `cancel(run)` | `cancel` | the event `agent_error`; `error`: `unknown_run` if it has ended |
 * | `deleteThread(thread)` | `delete_thread` | the ends of its runs, then the event `thread_deleted`; `error`: `busy` if there is no room |
 * | `threads({ limit, before })` | `list_threads` | a promise of `{ threads, next }` |
 * | `turns(thread, { limit, before })` | `read_turns` | a promise of `{ events, next }` |
 * | `rename(thread, title)` | `rename_thread` | a promise; `unknown_thread`: nothing was said in it |
 */
import { BOUNDS, MAX_OUTGOING, Machine, advice } from "./machine.js";
import { frameOf } from "./messages.js";
import { RequestError, Requests } from "./requests.js";
import { parse } from "./terms.js";

export { BOUNDS, MAX_OUTGOING, RequestError, advice };

/** The subprotocol of this client. */
export const PROTOCOL = "lockstep.v1";

/** Close codes after which a new credential helps. After the others that say "stay away", only the user can. */
const NEEDS_TOKEN = new Set([4500, 4501, 4502, 4504]);

/** A gateway that goes away is read for no longer, in milliseconds. */
const LONGEST_STAY = 600_000;

/** Bytes of a text in UTF-8. */
const bytesOf = (text) => new TextEncoder().encode(text).length;

/**
 * @typedef {object} Status What a user should be told.
 * @property {"idle"|"backoff"|"connecting"|"authenticating"|"live"|"holding"|"leaving"|"stopped"} state
 * @property {number|null} code the close code, when stopped
 * @property {string} reason what the gateway said with its last close, if anything
 * @property {number|null} retryAt when the pause ends, by the clock of `timers.now`
 * @property {number} tries attempts in a row that have failed
 * @property {boolean} catchingUp whether what happened before this connection is still arriving
 * @property {"ready"|"degraded"|"emergency"|"handing_over"|"draining"} mode what the gateway admits
 * @property {boolean} leaving whether the gateway said that it goes away, and no other has been ready since
 * @property {boolean} renewing whether the credential is about to expire and a new one is awaited
 * @property {number} unsent messages that wait for a connection, or for a gateway that takes them
 *
 * @typedef {object} Timers
 * @property {(run: () => void, after: number) => any} setTimeout
 * @property {(timer: any) => void} clearTimeout
 * @property {() => number} now milliseconds
 */

/** @type {Timers} */
const TIMERS = {
  setTimeout: (run, after) => globalThis.setTimeout(run, after),
  clearTimeout: (timer) => globalThis.clearTimeout(timer),
  now: () => Date.now(),
};

/**
 * A fresh id: 128 random bits. `crypto.randomUUID` is for secure contexts only, and a page on plain HTTP is none.
 * @returns {string}
 */
export function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export class Client extends EventTarget {
  #machine;
  #bounds;
  #url;
  #provider;
  #WebSocket;
  #clock;
  #random;
  #requests;

  /** @type {WebSocket|null} */ #socket = null;
  /** @type {Map<string, any>} */ #timers = new Map();
  /** @type {any[]} */ #orders = [];
  #working = false;
  /** Whether the user wants to be connected. */
  #wanted = false;
  /** The asking for which a token is being fetched. @type {number|null} */ #fetching = null;
  #told = "";

  /** @type {number|null} */ #retryAt = null;
  /** When the newest `going_away` said to come back, in milliseconds. @type {number|null} */ #leaveAfter = null;
  #reason = "";
  /** @type {Status["mode"]} */ #mode = "ready";
  #renewing = false;
  /** The end of what happened before this connection, while it is still arriving. @type {number|null} */ #head = null;

  /**
   * @param {object} options
   * @param {string|URL} options.url where the gateway's socket is
   * @param {() => Promise<string>} options.token gives a fresh access token. It retries by itself what is worth
   *   retrying, and rejects only when the user must do something
   * @param {"latest"|"earliest"|import("./machine.js").Position} [options.begin] where reading begins
   * @param {Partial<import("./machine.js").Bounds>} [options.bounds] in milliseconds
   * @param {typeof WebSocket} [options.WebSocket]
   * @param {Timers} [options.timers]
   * @param {() => number} [options.random] from 0 up to 1
   */
  constructor({ url, token, begin = "latest", bounds = {}, WebSocket, timers = TIMERS, random = Math.random }) {
    super();
    this.#machine = new Machine(begin);
    this.#bounds = { ...BOUNDS, ...bounds };
    this.#url = url;
    this.#provider = token;
    this.#WebSocket = WebSocket ?? globalThis.WebSocket;
    this.#clock = timers;
    this.#random = random;
    this.#requests = new Requests(timers);
    this.#told = JSON.stringify(this.status);
  }

  /** @returns {Status} */
  get status() {
    const state = this.#machine.state;
    return {
      state: state.name,
      code: state.name === "stopped" ? state.code : null,
      reason: this.#reason,
      retryAt: this.#retryAt,
      tries: this.#machine.tries,
      catchingUp: this.#machine.isReady && this.#head !== null,
      mode: this.#mode,
      leaving: this.#machine.awaitsSuccessor,
      renewing: this.#renewing,
      unsent: this.#machine.outgoing.filter(({ writes }) => writes === 0).length,
    };
  }

  /** Where it has read to, once it knows. @returns {import("./machine.js").Position|null} */
  get position() {
    return this.#machine.position;
  }

  /** Bytes of the longest message that the gateway takes, as far as it has told. */
  get longest() {
    return this.#machine.longest;
  }

  /** Bytes of a message as it is written, with all that goes with it. */
  measure(payload, { id = newId(), thread = null, replaces = null } = {}) {
    return bytesOf(JSON.stringify(frameOf({ message: id, payload, thread, replaces }, true, replaces?.epoch)));
  }

  /** Messages that are not settled; `writes` is 0 for one that no gateway has heard, unless it has sent it back. */
  get outgoing() {
    return this.#machine.outgoing;
  }

  /** Connects, and stays connected. Gets a token first if there is none. Also the way back after a stop. */
  connect() {
    this.#wanted = true;
    if (this.#machine.hasToken) this.#feed({ type: "connect" });
    else this.#fetchToken(this.#machine.asked);
  }

  /** Closes the socket, and does not come back by itself. What is unanswered is kept. */
  disconnect() {
    this.#wanted = false;
    this.#feed({ type: "disconnect" });
  }

  /**
   * Sends a message; it is repeated until it is answered with `accepted`, `refused` or `unknown`.
   * @param {unknown} payload any JSON
   * @param {{id?: string, thread?: string|null, replaces?: import("./machine.js").Position|null}} [options] `replaces`: the
   *   place of the `message_received` of a turn of the thread. What is open from that turn on is cancelled, and agents are
   *   told of none of it. In another epoch than that, the message replaces nothing
   * @returns {string} the message's id
   * @throws {RangeError} if {@link MAX_OUTGOING} messages are unanswered
   * @throws {TypeError} if the id is that of an unanswered message
   */
  send(payload, { id = newId(), thread = null, replaces = null } = {}) {
    const size = this.measure(payload, { id, thread, replaces });
    switch (this.#feed({ type: "send", message: id, payload, thread, replaces, size })) {
      case "backpressure":
        throw new RangeError(`${MAX_OUTGOING} messages are unanswered`);
      case "misuse":
        throw new TypeError("the id is that of an unanswered message");
      default:
        return id;
    }
  }

  /**
   * Takes a message back.
   * @param {string} id
   * @returns {boolean} whether it will not be sent: one that a socket has carried may run
   */
  withdraw(id) {
    return this.#feed({ type: "withdraw", message: id }) === "done";
  }

  /**
   * Asks for the end of a run.
   * @param {string} run
   * @returns {boolean} whether it was written: only a live client can
   */
  cancel(run) {
    return this.#machine.isReady && this.#write({ type: "cancel", run_id: run });
  }

  /**
   * Asks for the deletion of a thread. From the event `thread_deleted` on, nothing that it had before can be read again; a
   * message that is sent in it after that begins a new conversation.
   * @param {string|null} thread null is the thread of messages that name none
   * @returns {boolean} whether it was written: only a live client can
   */
  deleteThread(thread) {
    const named = thread === null ? {} : { thread_id: thread };
    return this.#machine.isReady && this.#write({ type: "delete_thread", ...named });
  }

  /**
   * A page of the user's threads, the one in which something happened last is the first.
   * @param {{limit?: number, before?: string|null}} [page] `before`: `next` of the page before
   * @returns {Promise<{threads: import("./requests.js").Listed[], next: string|null}>} `next` is null on the last page
   */
  async threads({ limit, before } = {}) {
    const { threads, next } = await this.#request({ type: "list_threads", limit, before });
    return { threads, next };
  }

  /**
   * The newest turns of a thread, with all that happened in them, in the order of the stream. Pieces of a part are joined, and
   * the events say nothing of those before them.
   * @param {string|null} thread null is the thread of messages that name none
   * @param {{limit?: number, before?: string|number|null}} [page] `before`: `next` of the page before, or the offset of an event
   * @returns {Promise<{events: Record<string, any>[], next: string|null}>} `next` is null on the page with the first turn
   */
  async turns(thread, { limit, before = null } = {}) {
    const place = before === null ? null : String(before);
    const { events, next } = await this.#request({ type: "read_turns", thread_id: thread, limit, before: place });
    return { events, next };
  }

  /**
   * Gives a thread another title.
   * @param {string|null} thread
   * @param {string|null} title null is the one that it began with
   */
  async rename(thread, title) {
    await this.#request({ type: "rename_thread", thread_id: thread, title });
  }

  /**
   * Gives it a credential that was not asked for, as after a new login. It outdates what is being fetched.
   * @param {string} token
   */
  present(token) {
    this.#feed({ type: "present", token });
  }

  /** The network may be back or gone, or the user looks again: ends a pause, or asks now whether the gateway is there. */
  nudge() {
    for (const timer of ["backoff", "heartbeat"]) {
      const { state } = this.#machine;
      if (this.#timers.has(timer) && !(this.#machine.isReady && state.waiting)) this.#expire(timer);
    }
  }

  /** Writes a request that has an answer of its own: only a live client can. */
  #request(frame) {
    const request_id = newId();
    const write = () => this.#machine.isReady && this.#write({ ...frame, request_id });
    return this.#requests.send(request_id, write, this.#bounds.answer);
  }

  /** One input: one step, then all of its orders, before the next. */
  #feed(input) {
    const handled = this.#machine.step(this.#bounds, input, this.#orders);
    if (this.#working) return handled;
    this.#working = true;
    try {
      for (let order = this.#orders.shift(); order; order = this.#orders.shift()) this.#carryOut(order);
    } finally {
      this.#working = false;
    }
    this.#tell();
    return handled;
  }

  #carryOut(order) {
    switch (order.type) {
      case "open":
        this.#open(order.socket);
        break;
      case "close":
        this.#close();
        break;
      case "write":
        this.#write(order.frame);
        break;
      case "needToken":
        this.#needToken(order.asked);
        break;
      case "arm":
        this.#arm(order.timer, order.timer === "leave" ? (this.#leaveAfter ?? order.after) : order.after);
        break;
      case "pause":
        this.#pause(order.most);
        break;
      case "disarm":
        this.#disarm(order.timer);
        break;
      case "deliver":
        this.#emit("event", order.event);
        break;
      case "tooLong":
        this.#emit("refused", { message: order.message, code: "too_long", text: "The message is too long." });
        break;
      case "reset":
      case "accepted":
      case "refused":
      case "unknown":
      case "notice":
      case "error": {
        const { type, ...detail } = order;
        this.#emit(type, detail);
        break;
      }
    }
  }

  #open(generation) {
    let socket;
    try {
      socket = new this.#WebSocket(String(this.#url), [PROTOCOL]);
    } catch (error) {
      this.#clock.setTimeout(() => this.#closed(generation, 1006, String(error)), 0);
      return;
    }
    this.#socket = socket;
    socket.onopen = () => this.#feed({ type: "opened", socket: generation });
    socket.onmessage = ({ data }) => this.#heard(generation, data);
    socket.onclose = ({ code, reason }) => this.#closed(generation, code, reason);
  }

  #close() {
    const socket = this.#socket;
    this.#socket = null;
    this.#head = null;
    this.#renewing = false;
    this.#requests.close();
    if (!socket) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close(1000);
  }

  #closed(generation, code, reason = "") {
    if (generation === this.#machine.socket) this.#reason = reason;
    this.#feed({ type: "closed", socket: generation, code });
  }

  #heard(generation, data) {
    const frame = parse(data);
    // What cannot be read is passed over: if it was an event, the next one shows the gap.
    if (frame === null) return this.#emit("error", { code: "unreadable", text: "a frame of the gateway is unreadable" });
    const before = this.#machine.state.name;
    if (generation === this.#machine.socket) {
      if (before === "authenticating" && frame.type === "connection_ready") this.#begun(generation, frame);
      if (this.#machine.isReady) this.#note(frame);
    }
    this.#feed({ type: "frame", socket: generation, frame });
    if (this.#head !== null && (this.position?.offset ?? 0) >= this.#head) {
      this.#head = null;
      this.#tell();
    }
    if (before === "authenticating" && this.#machine.state.name === "live") this.#emit("ready", frame);
  }

  /** Takes from `connection_ready` what the machine has no use for. */
  #begun(generation, { mode = "ready", heartbeat_ms: heartbeat, offset, head, limits }) {
    this.#feed({ type: "limits", socket: generation, longest: limits?.message_bytes ?? Infinity });
    this.#mode = mode;
    this.#reason = "";
    if (heartbeat > 0) this.#bounds = { ...this.#bounds, heartbeat };
    // What happened before is on its way, up to the head.
    this.#head = head > offset ? head : null;
  }

  /** Takes from a frame of a live connection what the machine has no use for. */
  #note(frame) {
    if (typeof frame.request_id === "string") return this.#requests.answer(frame);
    switch (frame.type) {
      case "mode":
        this.#mode = frame.mode;
        break;
      case "going_away":
        this.#leaveAfter = frame.reconnect_after_ms >= 0 ? Math.min(frame.reconnect_after_ms, LONGEST_STAY) : null;
        break;
      case "auth_expiring":
        this.#renewing = true;
        break;
      case "auth_ok":
        this.#renewing = false;
        break;
    }
  }

  /** @returns {boolean} whether the socket took it */
  #write(frame) {
    // A socket that is closing takes nothing; its end is on the way, and the machine repeats what matters.
    if (this.#socket?.readyState !== 1) return false;
    this.#socket.send(JSON.stringify(frame));
    return true;
  }

  #needToken(asked) {
    const { state } = this.#machine;
    if (state.name === "stopped" && !NEEDS_TOKEN.has(state.code)) return;
    this.#fetchToken(asked);
  }

  /** One asking is answered by one fetching, and a later asking does not wait for an earlier one. */
  async #fetchToken(asked) {
    if (this.#fetching === asked) return;
    this.#fetching = asked;
    let token;
    try {
      token = await this.#provider();
    } catch (error) {
      if (this.#fetching === asked) this.#fetching = null;
      // An asking that is out of date is over, whatever came of it.
      if (asked !== this.#machine.asked) return;
      this.#renewing = false;
      this.#emit("loginneeded", { error });
      this.#tell();
      return;
    }
    if (this.#fetching === asked) this.#fetching = null;
    this.#feed({ type: "token", asked, token });
    if (this.#wanted) this.#feed({ type: "connect" });
  }

  #arm(timer, after) {
    this.#disarm(timer);
    this.#timers.set(timer, this.#clock.setTimeout(() => this.#expire(timer), after));
  }

  /** Pauses for a moment drawn between half of `most` and `most`. */
  #pause(most) {
    const after = most * (0.5 + this.#random() / 2);
    this.#arm("backoff", after);
    this.#retryAt = this.#clock.now() + after;
  }

  #expire(timer) {
    this.#disarm(timer);
    this.#feed({ type: "expired", timer });
  }

  #disarm(timer) {
    if (timer === "backoff") this.#retryAt = null;
    this.#clock.clearTimeout(this.#timers.get(timer));
    this.#timers.delete(timer);
  }

  #tell() {
    const told = JSON.stringify(this.status);
    if (told === this.#told) return;
    this.#told = told;
    this.#emit("status", this.status);
  }

  #emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
