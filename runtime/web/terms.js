/** What the client's machine hears and orders, its times and bounds, and what close codes tell it. A part of `machine.js`. */

/** The close code of a connection that presented no credential. */
export const CREDENTIAL_MISSING = 4504;

/** The close code of a gateway that goes away. */
export const GOING_AWAY = 4000;

/** The close code where there was none. */
export const LOST = 1006;

/** Milliseconds, as `lockstep_model::Bounds::DEFAULT` has them. */
export const BOUNDS = Object.freeze({
  backoff: 200, backoffMost: 30_000, connect: 10_000, heartbeat: 20_000, pong: 3_000, stable: 10_000, answer: 30_000,
});

/** Runs whose end a client knows that it awaits. */
export const MAX_RUNS = 64;

/** Attempts to reach the successor of a gateway that went away whose pauses stay short. */
export const MAX_SHORT = 32;

/** The timers of a client. */
export const TIMERS = Object.freeze(["backoff", "connect", "heartbeat", "stable", "leave", "answer"]);

/** Events after which nothing of a run follows. `notice` and `thread_deleted` are of no run: each stands alone. */
export const ENDS = new Set(["agent_completed", "agent_error", "notice", "thread_deleted"]);

/** Pauses stop doubling here. */
export const MAX_DOUBLINGS = 16;

/** Failures in a row are counted up to this. */
export const MAX_TRIES = 255;

/** What refuses a message of a gateway that is about to go away. */
export const DRAINING = "draining";

/** A frame of the gateway, or null if it is none. @param {string} data @returns {Record<string, any>|null} */
export function parse(data) {
  try {
    const frame = JSON.parse(data);
    return typeof frame?.type === "string" ? frame : null;
  } catch {
    return null;
  }
}

/** Whether a frame is an entry of the stream, also one of a kind that is not known yet. */
export const isEvent = (frame) => "previous" in frame;

/**
 * @typedef {{epoch: number|string, offset: number}} Position
 * @typedef {{name: "idle"|"backoff"|"connecting"|"authenticating"}
 *         | {name: "live", waiting: boolean}
 *         | {name: "holding", waiting: boolean}
 *         | {name: "leaving", waiting: boolean}
 *         | {name: "stopped", code: number}} State
 * @typedef {"backoff"|"connect"|"heartbeat"|"stable"|"leave"|"answer"} Timer
 * @typedef {typeof BOUNDS} Bounds
 *
 * @typedef {{type: "connect"} | {type: "disconnect"}
 *         | {type: "send", message: string, payload: unknown, thread?: string|null, replaces?: Position|null, size: number}
 *         | {type: "withdraw", message: string}
 *         | {type: "present", token: string}
 *         | {type: "token", asked: number, token: string}
 *         | {type: "opened", socket: number}
 *         | {type: "limits", socket: number, longest: number}
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
 *         | {type: "tooLong", message: string}
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

/** Whether a gateway in that mode takes no message because it is about to go away. @param {string} mode */
export const endsSoon = (mode) => mode === "handing_over" || mode === "draining";

/** Whether a close code blames what the client said. */
export const blames = (code) => code === 1002 || code === 1003 || code === 1007 || code === 1009;
