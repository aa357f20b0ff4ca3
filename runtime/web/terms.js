/** The client machine's inputs and outputs, its times and bounds, and its close codes. A part of `machine.js`. */

/** The close code of a connection that presented no credential. */
export const CREDENTIAL_MISSING = 4504;

/** The close code of a gateway that goes away. */
export const GOING_AWAY = 4000;

/** The close code of a connection without one. */
export const LOST = 1006;

/** Milliseconds, as `lockstep_model::Bounds::DEFAULT` has them. */
export const BOUNDS = Object.freeze({
  backoff: 200, backoffMost: 30_000, connect: 10_000, heartbeat: 20_000, pong: 3_000, stable: 10_000, answer: 30_000,
});

/** The most runs that a client tracks. */
export const MAX_RUNS = 64;

/** The number of attempts to reach a successor that have short pauses. */
export const MAX_SHORT = 32;

/** The timers of a client. */
export const TIMERS = Object.freeze(["backoff", "connect", "heartbeat", "stable", "leave", "answer"]);

/**
 * The events after which nothing of a run is awaited: its last one, or `agent_paused`, after which it waits for its
 * user. `notice` and `thread_deleted` belong to no run: each stands alone.
 */
export const RESTS = new Set(["agent_completed", "agent_error", "agent_paused", "notice", "thread_deleted"]);

/** The timers of the browser. @type {Timers} */
export const CLOCK = {
  setTimeout: (run, after) => globalThis.setTimeout(run, after),
  clearTimeout: (timer) => globalThis.clearTimeout(timer),
  now: () => Date.now(),
};

/** The most doublings of a pause. */
export const MAX_DOUBLINGS = 16;

/** The highest count of failures in a row. */
export const MAX_TRIES = 255;

/** The code with which a gateway that is about to go away refuses a message. */
export const DRAINING = "draining";

/** Parses a frame of the gateway; null if it is not one. @param {string} data @returns {Record<string, any>|null} */
export function parse(data) {
  try {
    const frame = JSON.parse(data);
    return typeof frame?.type === "string" ? frame : null;
  } catch {
    return null;
  }
}

/** Whether a frame is an entry of the stream, even one of an unknown kind. */
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
 *   The result of an input: it took effect; it came too late; there are too many messages; the message's id is in use.
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

/** Whether a gateway in that mode refuses messages because it is about to go away. @param {string} mode */
export const endsSoon = (mode) => mode === "handing_over" || mode === "draining";

/** Whether a close code blames what the client sent. */
export const blames = (code) => code === 1002 || code === 1003 || code === 1007 || code === 1009;

/**
 * @typedef {object} Status The state that the user should be told.
 * @property {"idle"|"backoff"|"connecting"|"authenticating"|"live"|"holding"|"leaving"|"stopped"} state
 * @property {number|null} code the close code, when stopped
 * @property {string} reason the text of the gateway's last close, if there was one
 * @property {number|null} retryAt when the pause ends, by the clock of `timers.now`
 * @property {number} tries failed attempts in a row
 * @property {boolean} catchingUp whether events from before this connection are still arriving
 * @property {"ready"|"degraded"|"emergency"|"handing_over"|"draining"} mode what the gateway admits
 * @property {boolean} leaving whether the gateway announced that it goes away, and no other one has been ready since
 * @property {boolean} renewing whether the credential is about to expire and a new one is awaited
 * @property {number} unsent messages that wait for a connection, or for a gateway that accepts them
 *
 * @typedef {object} Timers
 * @property {(run: () => void, after: number) => any} setTimeout
 * @property {(timer: any) => void} clearTimeout
 * @property {() => number} now milliseconds
 */
