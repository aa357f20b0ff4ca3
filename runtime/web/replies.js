/**
 * Replies to paused runs that are not settled: written, written once more, given up. A part of `client.js`.
 *
 * The first reply to a pause counts, so a repetition does no harm. A reply is settled by the event `agent_resumed` of
 * its pause, by the end of its run, or by the gateway's `error`. That names no run: it is about the oldest reply that
 * was written on the connection.
 */

import { bytesOf } from "./messages.js";

/** The most replies that are not settled. */
export const MAX_REPLIES = 64;

/** The most connections on which a reply is written, not counting those that sent it back. */
const MAX_WRITES = 2;

/** The code with which a gateway that is about to go away sends a reply back. */
const DRAINING = "draining";

/** The codes of errors that settle a reply. */
const REFUSALS = new Set(["not_paused", "unknown_run"]);

/** The events that end a run. */
const ENDS = new Set(["agent_completed", "agent_error"]);

/**
 * @typedef {{run: string, pause: number}} About
 * @typedef {About & {payload: unknown, state: "waiting"|"written"|"held", writes: number}} Reply
 *   `written`: on this connection; `held`: this connection has sent it back
 */

/** The frame of a reply. @param {About & {payload: unknown}} reply */
const frameOf = ({ run, pause, payload }) => ({ type: "reply", run_id: run, pause, payload });

export class Replies {
  /** @type {Reply[]} */ #list = [];
  /** The reply that the newest `error` is about. @type {(About & {isHeld: boolean})|null} */ #failed = null;
  #tell;

  /** @param {(error: {code: string, text: string} & Partial<About>) => void} tell reports an error to the user */
  constructor(tell) {
    this.#tell = tell;
  }

  /**
   * Adds a reply. It replaces an earlier one to the same pause.
   * @param {number} longest the most bytes that the gateway accepts
   */
  add(run, pause, payload, longest) {
    if (bytesOf(frameOf({ run, pause, payload })) > longest) {
      return this.#tell({ code: "too_long", text: "The reply is too long.", run, pause });
    }
    const others = this.#list.filter((reply) => reply.run !== run || reply.pause !== pause);
    if (others.length >= MAX_REPLIES) {
      return this.#tell({ code: "too_many", text: `${MAX_REPLIES} replies are unanswered.`, run, pause });
    }
    this.#list = [...others, { run, pause, payload, state: "waiting", writes: 0 }];
  }

  /** Writes the waiting replies. @param {(frame: Record<string, unknown>) => boolean} write whether a socket accepted it */
  flush(write) {
    for (const reply of this.#list) {
      if (reply.state !== "waiting" || !write(frameOf(reply))) continue;
      reply.state = "written";
      reply.writes += 1;
    }
  }

  /** An event may settle replies. @param {Record<string, any>} event */
  happened({ type, run_id: run, data }) {
    const isSettled = (reply) => reply.run === run && (ENDS.has(type) || (type === "agent_resumed" && data?.pause >= reply.pause));
    this.#list = this.#list.filter((reply) => !isSettled(reply));
  }

  /** The gateway's `error` may be about a reply. @param {Record<string, any>} frame */
  failed({ code, message_id: message = null }) {
    const reply = message === null ? this.#list.find(({ state }) => state === "written") : undefined;
    this.#failed = null;
    if (!reply || !(code === DRAINING || REFUSALS.has(code))) return;
    const isHeld = code === DRAINING;
    this.#failed = { run: reply.run, pause: reply.pause, isHeld };
    if (isHeld) Object.assign(reply, { state: "held", writes: reply.writes - 1 });
    else this.#list = this.#list.filter((other) => other !== reply);
  }

  /** Reports the error that {@link failed} has seen, unless its reply will be written again. */
  complain({ code, text }) {
    const about = this.#failed;
    this.#failed = null;
    if (about === null) this.#tell({ code, text });
    else if (!about.isHeld) this.#tell({ code, text, run: about.run, pause: about.pause });
  }

  /** The gateway accepts replies again. */
  release() {
    for (const reply of this.#list) if (reply.state === "held") reply.state = "waiting";
  }

  /** The connection is gone. A reply that was written often enough is given up: it may have counted. */
  lost() {
    const isOver = ({ state, writes }) => state === "written" && writes >= MAX_WRITES;
    const over = this.#list.filter(isOver);
    this.#list = this.#list.filter((reply) => !isOver(reply));
    for (const reply of this.#list) reply.state = "waiting";
    const text = "It is not known whether the reply has arrived.";
    for (const { run, pause } of over) this.#tell({ code: "unanswered", text, run, pause });
  }
}
