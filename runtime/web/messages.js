/** The messages of a client that are not settled (CLIENT-2): written, repeated, settled. A part of `machine.js`. */

/** Messages that a client keeps unsettled. */
export const MAX_OUTGOING = 64;

/** Sockets that a message is written to. */
export const MAX_WRITES = 8;

/**
 * @typedef {{message: string, payload: unknown, thread: string|null, replaces: Position|null, size: number, socket: number,
 *   writes: number}} Outgoing
 *   `replaces`: the turn of its thread that it replaces with all that followed; `size`: bytes of its frame, written as a repetition; `socket`: the newest that it was written to, unless the
 *   gateway has sent it back there, else 0; `writes`: to how many it was written and not sent back
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

  /** Bytes of the longest message that the gateway takes, as far as it has told. */
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

  /** Its user takes a message back, unless a socket has carried it. @returns {import("./terms.js").Handled} */
  withdraw(message) {
    const before = this.#list.length;
    this.#list = this.#list.filter((outgoing) => outgoing.message !== message || outgoing.writes > 0);
    return this.#list.length < before ? "done" : "ignored";
  }

  /** Learns what the gateway takes, and gives back what is longer. What a gateway with another limit took may have run. */
  limit(longest, out) {
    this.#longest = longest;
    const tell = ({ message, writes }) => ({ type: writes === 0 ? "tooLong" : "unknown", message });
    this.#settle(({ size }) => size > longest, tell, out);
  }

  /** Writes what this socket has not carried yet, to a gateway whose stream is of that epoch. */
  flush(socket, epoch, out) {
    this.#settle(({ writes }) => writes === MAX_WRITES, unknown, out);
    for (const outgoing of this.#list) {
      if (outgoing.socket === socket) continue;
      out.push({ type: "write", frame: frameOf(outgoing, outgoing.writes > 0, epoch) });
      outgoing.socket = socket;
      outgoing.writes += 1;
    }
  }

  /**
   * The gateway will not run a message, because it is about to go away: it is as if the socket had not carried it.
   * @returns {boolean} false if it is not known here any more
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

  /** The gateway refuses a message, which may be one that is not known here any more. */
  refused(message, code, text, out) {
    this.#list = this.#list.filter((outgoing) => outgoing.message !== message);
    out.push(code === "forgotten" ? { type: "unknown", message } : { type: "refused", message, code, text });
  }

  /** Gives up on every message that was ever written: whether it ran is not to be found out any more. */
  giveUp(out) {
    this.#settle(({ writes }) => writes > 0, unknown, out);
  }

  /** The gateway is there, and does not answer what has waited longest. */
  giveUpOldest(socket, out) {
    const oldest = this.oldest(socket);
    this.#settle(({ message }) => message === oldest, unknown, out);
  }

  /** The socket was closed for what it carried: none of that is repeated. @returns {boolean} whether there was something */
  giveBack(socket, out) {
    const before = this.#list.length;
    this.#settle((outgoing) => outgoing.socket === socket, unknown, out);
    return this.#list.length < before;
  }

  /** The message that has waited longest for an answer on a socket. @returns {string|null} */
  oldest(socket) {
    return this.#list.find((outgoing) => outgoing.socket === socket)?.message ?? null;
  }

  /** Settles the messages that are meant. Each is told once, for it is kept no longer. */
  #settle(isMeant, tell, out) {
    out.push(...this.#list.filter(isMeant).map(tell));
    this.#list = this.#list.filter((outgoing) => !isMeant(outgoing));
  }
}

/** @param {Outgoing} outgoing @returns {Order} */
const unknown = ({ message }) => ({ type: "unknown", message });

/**
 * The frame of a message. In another epoch the offset of the turn that it replaces is that of another turn, or of none: there
 * the message is written without it, and follows what the thread has. So it supersedes nothing that its user did not mean, and
 * is sent all the same, as they asked.
 * @param {{message: string, payload: unknown, thread: string|null, replaces: Position|null}} outgoing
 * @param {boolean} repeat whether an earlier socket has carried it
 * @param {Position["epoch"]|undefined} epoch of the stream
 */
export function frameOf({ message, payload, thread, replaces }, repeat, epoch) {
  const frame = { type: "user_message", message_id: message, payload };
  const replacing = replaces !== null && replaces.epoch === epoch ? { replaces: replaces.offset } : {};
  return { ...frame, ...(thread === null ? {} : { thread_id: thread }), ...replacing, ...(repeat ? { repeat } : {}) };
}
