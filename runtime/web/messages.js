/** The messages of a client that are not settled (CLIENT-2): written, repeated, settled. A part of `machine.js`. */

/** The most unsettled messages of a client. */
export const MAX_OUTGOING = 64;

/** The most sockets that a message is written to. */
export const MAX_WRITES = 8;

/** The size of a frame in bytes. */
export const bytesOf = (frame) => new TextEncoder().encode(JSON.stringify(frame)).length;

/**
 * @typedef {{message: string, payload: unknown, thread: string|null, replaces: Position|null, size: number, socket: number,
 *   writes: number}} Outgoing
 *   `replaces`: the turn of its thread that it replaces together with all later ones; `size`: the bytes of its frame as
 *   a repetition; `socket`: the newest one that it was written to, 0 if there is none or the gateway has sent it back
 *   there; `writes`: the number of sockets that it was written to and not sent back on
 * @typedef {import("./terms.js").Position} Position
 * @typedef {import("./terms.js").Order} Order
 */

export class Messages {
  /** @type {Outgoing[]} */ #list = [];
  #longest = Infinity;

  /** @returns {readonly Readonly<Outgoing>[]} */
  get list() {
    return this.#list;
  }

  /** The most bytes of a message that the gateway accepts, as far as known. */
  get longest() {
    return this.#longest;
  }

  /** @returns {import("./terms.js").Handled} */
  add({ message, payload, thread = null, replaces = null, size }, out) {
    if (this.#list.some((outgoing) => outgoing.message === message)) return "misuse";
    if (size > this.#longest) {
      out.push({ type: "tooLong", message });
      return "done";
    }
    if (this.#list.length >= MAX_OUTGOING) return "backpressure";
    this.#list.push({ message, payload, thread, replaces, size, socket: 0, writes: 0 });
    return "done";
  }

  /** Withdraws a message, unless it was written to a socket. @returns {import("./terms.js").Handled} */
  withdraw(message) {
    const before = this.#list.length;
    this.#list = this.#list.filter((outgoing) => outgoing.message !== message || outgoing.writes > 0);
    return this.#list.length < before ? "done" : "ignored";
  }

  /** Sets the gateway's limit, and settles longer messages. One that another gateway accepted may have run. */
  limit(longest, out) {
    this.#longest = longest;
    const tell = ({ message, writes }) => ({ type: writes === 0 ? "tooLong" : "unknown", message });
    this.#settle(({ size }) => size > longest, tell, out);
  }

  /** Writes the messages that were not written to this socket yet. `epoch` is that of the stream. */
  flush(socket, epoch, out) {
    // One that this socket has had may still be answered.
    this.#settle((outgoing) => outgoing.writes === MAX_WRITES && outgoing.socket !== socket, unknown, out);
    for (const outgoing of this.#list) {
      if (outgoing.socket === socket) continue;
      out.push({ type: "write", frame: frameOf(outgoing, outgoing.writes > 0, epoch) });
      outgoing.socket = socket;
      outgoing.writes += 1;
    }
  }

  /**
   * The gateway will not run a message, because it is about to go away: as if it had not been written to the socket.
   * @returns {boolean} false if it is no longer known here
   */
  sentBack(message, socket) {
    const outgoing = this.#list.find((outgoing) => outgoing.message === message);
    if (outgoing === undefined) return false;
    if (outgoing.socket === socket) [outgoing.socket, outgoing.writes] = [0, outgoing.writes - 1];
    return true;
  }

  answered(message, run, out) {
    this.#settle((outgoing) => outgoing.message === message, () => ({ type: "accepted", message, run }), out);
  }

  /** The gateway refuses a message, which may no longer be known here. */
  refused(message, code, text, out) {
    this.#list = this.#list.filter((outgoing) => outgoing.message !== message);
    out.push(code === "forgotten" ? { type: "unknown", message } : { type: "refused", message, code, text });
  }

  /** Gives up every message that was ever written: whether it ran can no longer be determined. */
  giveUp(out) {
    this.#settle(({ writes }) => writes > 0, unknown, out);
  }

  /** Gives up the oldest message: the gateway is there, but does not answer it. */
  giveUpOldest(socket, out) {
    const oldest = this.oldest(socket);
    this.#settle(({ message }) => message === oldest, unknown, out);
  }

  /** The close blames what was written to the socket: it is not repeated. @returns {boolean} whether there was any */
  giveBack(socket, out) {
    const before = this.#list.length;
    this.#settle((outgoing) => outgoing.socket === socket, unknown, out);
    return this.#list.length < before;
  }

  /** The message that has waited longest for an answer on a socket. @returns {string|null} */
  oldest(socket) {
    return this.#list.find((outgoing) => outgoing.socket === socket)?.message ?? null;
  }

  /** Settles the matching messages. Each is reported once, because it is then removed. */
  #settle(isMeant, tell, out) {
    out.push(...this.#list.filter(isMeant).map(tell));
    this.#list = this.#list.filter((outgoing) => !isMeant(outgoing));
  }
}

/** @param {Outgoing} outgoing @returns {Order} */
const unknown = ({ message }) => ({ type: "unknown", message });

/**
 * The frame of a message. In another epoch the offset of the turn that it replaces belongs to another turn or none. The
 * message is then written without it, and follows the thread's last turn. It is sent as the user wanted, but supersedes
 * nothing that they did not mean.
 * @param {{message: string, payload: unknown, thread: string|null, replaces: Position|null}} outgoing
 * @param {boolean} repeat whether it was written to an earlier socket
 * @param {Position["epoch"]|undefined} epoch of the stream
 */
export function frameOf({ message, payload, thread, replaces }, repeat, epoch) {
  const frame = { type: "user_message", message_id: message, payload };
  const replacing = replaces !== null && replaces.epoch === epoch ? { replaces: replaces.offset } : {};
  return { ...frame, ...(thread === null ? {} : { thread_id: thread }), ...replacing, ...(repeat ? { repeat } : {}) };
}
