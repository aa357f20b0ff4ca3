/**
 * A client of the gateway: a socket, timers and a token provider around the machine of `machine.js`.
 *
 *     const client = new Client({ url: "wss://example.org/ws", token: async () => accessToken, begin: "earliest" });
 *     client.addEventListener("event", ({ detail }) => console.log(detail.type, detail.data));
 *     client.connect();
 *     client.send("what is 2+3*4?");
 *
 * It reconnects automatically unless that cannot help, with the position that it has read to, and repeats messages that
 * were not answered. It decides nothing: the machine does.
 *
 * Events, each a `CustomEvent` with its `detail`:
 *
 * | event | detail | |
 * | --- | --- | --- |
 * | `status` | {@link Status} | the state, or something that the user should be told with it, has changed |
 * | `event` | the event's frame | the next event of the stream, once and in order; `thread_deleted` is one |
 * | `ready` | the frame | `connection_ready` |
 * | `reset` | `{from, to}` | the events between are not available: a new epoch, or a log that keeps no conversations |
 * | `accepted` | `{message, run}` | the message runs, or has run before |
 * | `refused` | `{message, code, text}` | not accepted; may be sent again with a new id; `too_long`: never written |
 * | `unknown` | `{message}` | it cannot be determined whether the message ran |
 * | `notice` | `{data, thread}` | a notice for this connection only: not an event, and not repeated |
 * | `error` | `{code, text, run, pause}` | a request was not understood, or not allowed; of a reply, `run` and `pause` say which |
 * | `loginneeded` | `{error}` | the token provider failed |
 *
 * Request methods. A message is repeated until it is answered, and a reply is written again after a reconnect; other
 * requests are written once, immediately or not at all. A promise is settled once. It rejects with a {@link RequestError}, whose `code` is that of the gateway's
 * `error` (`busy`: retry later), `closed` (not connected, or no longer) or `timeout`. Only the caller retries.
 *
 * | method | written | answered with |
 * | --- | --- | --- |
 * | `send(payload, { thread, replaces })` | `user_message` | `accepted`, `refused` or `unknown` |
 * | `cancel(run)` | `cancel` | the event `agent_error`; `error`: `unknown_run` if it has ended |
 * | `reply(run, pause, payload)` | `reply` | the event `agent_resumed`; `error`: `not_paused` if another came first |
 * | `deleteThread(thread)` | `delete_thread` | the ends of its runs, then `thread_deleted`; `error`: `busy` if full |
 * | `threads({ limit, before })` | `list_threads` | a promise of `{ threads, next }` |
 * | `turns(thread, { limit, before })` | `read_turns` | a promise of `{ events, next }` |
 * | `rename(thread, title)` | `rename_thread` | a promise; `unknown_thread`: the thread is empty |
 */
import { BOUNDS, MAX_OUTGOING, Machine, advice } from "./machine.js";
import { bytesOf, frameOf } from "./messages.js";
import { MAX_REPLIES, Replies } from "./replies.js";
import { RequestError, Requests } from "./requests.js";
import { CLOCK, endsSoon, parse } from "./terms.js";

export { BOUNDS, MAX_OUTGOING, MAX_REPLIES, RequestError, advice };
/** The subprotocol of this client. */
export const PROTOCOL = "lockstep.v1";

/** Close codes after which a new credential helps. After other codes that mean "stay away", only the user can help. */
const NEEDS_TOKEN = new Set([4500, 4501, 4502, 4504]);

/** The longest time that a client keeps reading from a gateway that goes away, in milliseconds. */
const LONGEST_STAY = 600_000;

/** @typedef {import("./terms.js").Status} Status */

/**
 * A fresh id of 128 random bits. `crypto.randomUUID` needs a secure context, and a page on plain HTTP is none.
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
  #replies = new Replies((error) => this.#emit("error", error));

  /** @type {WebSocket|null} */ #socket = null;
  /** @type {Map<string, any>} */ #timers = new Map();
  /** @type {any[]} */ #orders = [];
  #working = false;
  /** Whether the user wants to be connected. */
  #wanted = false;
  /** The request for which a token is being fetched. @type {number|null} */ #fetching = null;
  #told = "";

  /** @type {number|null} */ #retryAt = null;
  /** When the newest `going_away` said to come back, in milliseconds. @type {number|null} */ #leaveAfter = null;
  #reason = "";
  /** @type {Status["mode"]} */ #mode = "ready";
  #renewing = false;
  /** The end of what happened before this connection, while it is still arriving. @type {number|null} */ #head = null;

  /**
   * @param {object} options
   * @param {string|URL} options.url the address of the gateway's socket
   * @param {() => Promise<string>} options.token provides a fresh access token. It retries on its own where that helps,
   *   and rejects only when the user must do something
   * @param {"latest"|"earliest"|import("./machine.js").Position} [options.begin] where reading begins
   * @param {Partial<import("./machine.js").Bounds>} [options.bounds] in milliseconds
   * @param {typeof WebSocket} [options.WebSocket]
   * @param {import("./terms.js").Timers} [options.timers]
   * @param {() => number} [options.random] from 0 up to 1
   */
  constructor({ url, token, begin = "latest", bounds = {}, WebSocket, timers = CLOCK, random = Math.random }) {
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

  /** The position that it has read to, once known. @returns {import("./machine.js").Position|null} */
  get position() {
    return this.#machine.position;
  }

  /** The most bytes of a message that the gateway accepts, as far as known. */
  get longest() {
    return this.#machine.longest;
  }

  /** The size of a message's whole frame in bytes. */
  measure(payload, { id = newId(), thread = null, replaces = null } = {}) {
    return bytesOf(frameOf({ message: id, payload, thread, replaces }, true, replaces?.epoch));
  }

  /** Messages that are not settled; `writes` is 0 for one that no gateway has received, unless it has sent it back. */
  get outgoing() {
    return this.#machine.outgoing;
  }

  /** Connects, and stays connected. Fetches a token first if there is none. Also reconnects after a stop. */
  connect() {
    this.#wanted = true;
    if (this.#machine.hasToken) this.#feed({ type: "connect" });
    else this.#fetchToken(this.#machine.asked);
  }

  /** Closes the socket, and does not reconnect automatically. Unanswered messages are kept. */
  disconnect() {
    this.#wanted = false;
    this.#feed({ type: "disconnect" });
  }

  /**
   * Sends a message; it is repeated until it is answered with `accepted`, `refused` or `unknown`.
   * @param {unknown} payload any JSON
   * @param {{id?: string, thread?: string|null, replaces?: import("./machine.js").Position|null}} [options] `replaces`: the
   *   position of the `message_received` of a turn of the thread. Open runs from that turn on are cancelled, and agents
   *   do not see those turns. If the stream has another epoch, the message replaces nothing
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
   * Withdraws a message.
   * @param {string} id
   * @returns {boolean} whether it will not be sent: a message that was written to a socket may run
   */
  withdraw(id) {
    return this.#feed({ type: "withdraw", message: id }) === "done";
  }

  /**
   * Asks the gateway to cancel a run.
   * @param {string} run
   * @returns {boolean} whether the request was written: only a live client can
   */
  cancel(run) {
    return this.#machine.isReady && this.#write({ type: "cancel", run_id: run });
  }

  /**
   * Replies to a paused run. The first reply to a pause counts, of whichever connection of the user. It is written as
   * soon as the client is live and has read what it missed, and once more if the connection is lost before the answer.
   * @param {string} run
   * @param {number} pause `data.pause` of its `agent_paused`
   * @param {unknown} payload any JSON. If it is too long, or {@link MAX_REPLIES} are unanswered, there is an `error`
   */
  reply(run, pause, payload) {
    this.#replies.add(run, pause, payload, this.longest);
    this.#flush();
    // The user waits: a connection that is gone should be noticed now.
    this.nudge();
  }

  /**
   * Asks the gateway to delete a thread. From the event `thread_deleted` on, its earlier content cannot be read again;
   * a message that is sent in it after that begins a new conversation.
   * @param {string|null} thread null is the thread of messages that name none
   * @returns {boolean} whether the request was written: only a live client can
   */
  deleteThread(thread) {
    const named = thread === null ? {} : { thread_id: thread };
    return this.#machine.isReady && this.#write({ type: "delete_thread", ...named });
  }

  /**
   * A page of the user's threads, the most recently active first.
   * @param {{limit?: number, before?: string|null}} [page] `before`: `next` of the previous page
   * @returns {Promise<{threads: import("./requests.js").Listed[], next: string|null}>} `next` is null on the last page
   */
  async threads({ limit, before } = {}) {
    const { threads, next } = await this.#request({ type: "list_threads", limit, before });
    return { threads, next };
  }

  /**
   * The newest turns of a thread, with all their events, in stream order. Pieces of a part are joined, and events
   * do not refer to earlier ones.
   * @param {string|null} thread null is the thread of messages that name none
   * @param {{limit?: number, before?: string|number|null}} [page] `before`: `next`, or an event's offset
   * @returns {Promise<{events: Record<string, any>[], next: string|null}>} `next`: null on the page with the first turn
   */
  async turns(thread, { limit, before = null } = {}) {
    const place = before === null ? null : String(before);
    const { events, next } = await this.#request({ type: "read_turns", thread_id: thread, limit, before: place });
    return { events, next };
  }

  /**
   * Renames a thread.
   * @param {string|null} thread
   * @param {string|null} title null restores the original title
   */
  async rename(thread, title) {
    await this.#request({ type: "rename_thread", thread_id: thread, title });
  }

  /**
   * Presents a credential that was not requested, as after a new login. It supersedes a pending token request.
   * @param {string} token
   */
  present(token) {
    this.#feed({ type: "present", token });
  }

  /** The network may be back or gone, or the user has returned: ends a pause, or checks the connection at once. */
  nudge() {
    for (const timer of ["backoff", "heartbeat"]) {
      const { state } = this.#machine;
      if (this.#timers.has(timer) && !(this.#machine.isReady && state.waiting)) this.#expire(timer);
    }
  }

  /** Writes a request that has its own answer: only a live client can. */
  #request(frame) {
    const request_id = newId();
    const write = () => this.#machine.isReady && this.#write({ ...frame, request_id });
    return this.#requests.send(request_id, write, this.#bounds.answer);
  }

  /** Feeds one input: one step, then all its outputs, before the next. */
  #feed(input) {
    const handled = this.#machine.step(this.#bounds, input, this.#orders);
    if (this.#working) return handled;
    this.#working = true;
    try {
      for (let order = this.#orders.shift(); order; order = this.#orders.shift()) this.#carryOut(order);
    } finally {
      this.#working = false;
    }
    if (this.#head !== null && (this.position?.offset ?? 0) >= this.#head) this.#head = null;
    this.#flush();
    this.#tell();
    return handled;
  }

  /** Writes the replies that wait. One to an earlier pause may be settled by what the client still reads. */
  #flush() {
    if (this.#machine.state.name === "live" && this.#head === null) this.#replies.flush((frame) => this.#write(frame));
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
        this.#replies.happened(order.event);
        this.#emit("event", order.event);
        break;
      case "tooLong":
        this.#emit("refused", { message: order.message, code: "too_long", text: "The message is too long." });
        break;
      case "reset":
      case "accepted":
      case "refused":
      case "unknown":
      case "notice": {
        const { type, ...detail } = order;
        this.#emit(type, detail);
        break;
      }
      case "error":
        this.#replies.complain(order);
        break;
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
    this.#replies.lost();
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
    // An unreadable frame is skipped: if it was an event, the next one reveals the gap.
    if (frame === null) return this.#emit("error", { code: "unreadable", text: "The gateway sent an unreadable frame." });
    const before = this.#machine.state.name;
    if (generation === this.#machine.socket) {
      if (before === "authenticating" && frame.type === "connection_ready") this.#begun(generation, frame);
      if (this.#machine.isReady) this.#note(frame);
    }
    this.#feed({ type: "frame", socket: generation, frame });
    if (before === "authenticating" && this.#machine.state.name === "live") this.#emit("ready", frame);
  }

  /** Handles the fields of `connection_ready` that the machine does not use. */
  #begun(generation, { mode = "ready", heartbeat_ms: heartbeat, offset, head, limits }) {
    this.#feed({ type: "limits", socket: generation, longest: limits?.message_bytes ?? Infinity });
    this.#mode = mode;
    this.#reason = "";
    if (heartbeat > 0) this.#bounds = { ...this.#bounds, heartbeat };
    // Earlier events are still to come, up to the head.
    this.#head = head > offset ? head : null;
  }

  /** Handles what the machine does not use of a live connection's frame. */
  #note(frame) {
    if (typeof frame.request_id === "string") return this.#requests.answer(frame);
    switch (frame.type) {
      case "mode":
        this.#mode = frame.mode;
        if (!endsSoon(frame.mode)) this.#replies.release();
        break;
      case "error":
        this.#replies.failed(frame);
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

  /** @returns {boolean} whether the socket accepted it: a closing one does not, and the machine repeats what matters */
  #write(frame) {
    if (this.#socket?.readyState !== 1) return false;
    this.#socket.send(JSON.stringify(frame));
    return true;
  }

  #needToken(asked) {
    const { state } = this.#machine;
    if (state.name === "stopped" && !NEEDS_TOKEN.has(state.code)) return;
    this.#fetchToken(asked);
  }

  /** Fetches a token once per request; a later request does not wait for an earlier one. */
  async #fetchToken(asked) {
    if (this.#fetching === asked) return;
    this.#fetching = asked;
    let token;
    try {
      token = await this.#provider();
    } catch (error) {
      if (this.#fetching === asked) this.#fetching = null;
      // The result of a superseded request is ignored.
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

  /** Pauses for a random time between half of `most` and `most`. */
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
