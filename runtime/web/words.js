/** The page's texts about the connection and messages: the state, its cause, and what the user can do. */

import { requestOf } from "./asks.js";

/** @typedef {{tone: "good"|"busy"|"bad", short: string, long: string, action: null|"nudge"|"connect"|"reload"|"token"}} Words */

/** Why the gateway told the client to stay away, and what to do, by close code. */
const STOPPED = {
  1002: ["Connection fault", "The connection broke the protocol. Connect again; if it happens again, report it to the gateway's operator."],
  1009: ["Message too long", "A message was longer than the gateway accepts. Connect again; the message is not sent again."],
  4500: ["Login rejected", "The gateway did not accept your login. A new one is being requested."],
  4501: ["Login expired", "Your login has expired. It is being renewed."],
  4502: ["Login revoked", "Your login was revoked. Log in again."],
  4503: ["Another user", "Another user has logged in in this browser. Reload the page to continue as that user."],
  4504: ["Login missing", "The gateway did not receive a login. It is being renewed."],
  4505: ["Too many connections", "You have too many connections open. Close another tab or device, then connect again."],
  4506: ["Taken over", "This conversation was continued by a newer connection. Connect again to continue it here."],
  4507: ["Too fast", "Too much was sent before the connection was ready. Connect again."],
  4508: ["Too fast", "Too much was sent in a short time. Wait a moment, then connect again."],
};

/** The page's action by close code; otherwise it can connect again. */
const ACTIONS = { 4500: null, 4501: null, 4502: null, 4503: "reload", 4504: null };

const LEAVING = {
  tone: "busy", short: "Restarting, still connected", action: null,
  long: "The gateway is about to restart. Answers in progress are still shown; what you write is kept and sent when it is back.",
};

const HOLDING = {
  tone: "busy", short: "Restarting, still connected", action: null,
  long: "The gateway is restarting. Answers in progress are completed; what you write is kept and sent after that.",
};

const OFFLINE = {
  tone: "busy", short: "You are offline", action: null,
  long: "Your device has no network. What you write is kept and sent when the connection is back.",
};

const MODES = {
  degraded: ["Live, limited", "The gateway is degraded: it completes answers in progress, but may refuse new messages for now."],
  emergency: ["Live, limited", "The gateway is in an emergency: new messages are refused for now."],
  handing_over: ["Live, restarting", "The gateway is restarting. Answers in progress are completed; then it accepts new messages again."],
  draining: ["Restarting", "The gateway is restarting. Answers in progress are completed; then you will be reconnected."],
};

/**
 * @param {import("./client.js").Status} status
 * @param {{now: number, online: boolean}} world
 * @returns {Words}
 */
export function describe(status, { now, online }) {
  switch (status.state) {
    case "idle":
      return { tone: "busy", short: "Not connected", long: "", action: null };
    case "connecting":
      return online ? { tone: "busy", short: "Connecting…", long: "", action: null } : OFFLINE;
    case "authenticating":
      return online ? { tone: "busy", short: "Checking your login…", long: "", action: null } : OFFLINE;
    case "live":
      return online ? live(status) : OFFLINE;
    case "holding":
      return online ? HOLDING : OFFLINE;
    case "leaving":
      return online ? LEAVING : OFFLINE;
    case "backoff":
      return backoff(status, now, online);
    case "stopped": {
      const [short, long] = STOPPED[status.code] ?? ["Stopped", `The gateway ended the connection: ${status.reason || status.code}.`];
      const action = status.code in ACTIONS ? ACTIONS[status.code] : "connect";
      return { tone: "bad", short, long, action };
    }
  }
}

function live({ catchingUp, renewing, mode }) {
  const [short, long] = MODES[mode] ?? ["Live", ""];
  const tone = mode === "ready" ? "good" : "busy";
  if (catchingUp) return { tone: "busy", short: "Catching up…", long, action: null };
  if (renewing) return { tone, short: "Live, renewing login", long, action: null };
  return { tone, short, long, action: null };
}

function backoff({ leaving, retryAt }, now, online) {
  const seconds = Math.max(0, Math.ceil(((retryAt ?? now) - now) / 1_000));
  const when = seconds > 0 ? `Reconnecting in ${seconds} s` : "Reconnecting…";
  const why = leaving ? "The gateway is restarting." : online ? "The connection was lost." : "You are offline.";
  const long = `${why} What you write is kept and sent when the connection is back.`;
  return { tone: "busy", short: leaving ? `Restarting. ${when}` : when, long, action: "nudge" };
}

/** The status before there is a chat, while the gateway does not answer. @param {boolean} online */
export const unreachable = (online) => `${online ? "The gateway cannot be reached." : "You are offline."} Trying again…`;

export const ACTION_NAMES = { nudge: "Try now", connect: "Connect again", reload: "Reload", token: "Paste a token" };

/** Shown if the gateway has no login of its own. */
export const TOKEN_NEEDED = "This gateway has no login of its own. Paste a token from the service that issues its logins.";

/** A token that expires while the connection is live. */
export const TOKEN_ENDS = { tone: "busy", long: "Your token is about to expire. Paste another to stay connected.", action: "token" };

const TOKENS = {
  4500: "The gateway did not accept this token. Paste another.",
  4501: "Your token has expired. Paste another to continue where you were.",
  4502: "Your token was revoked. Paste another to continue where you were.",
};

/** Why another token is needed. @param {number|null} code of the close */
export const tokenNeeded = (code) => TOKENS[code] ?? TOKEN_NEEDED;

/** The label of the button above a conversation, by the state of earlier messages. */
export const OLDER = {
  more: "Earlier messages",
  loading: "Loading earlier messages…",
  failed: "Earlier messages could not be loaded. Try again",
  full: "Older messages are not shown in this tab",
};

/** The label that opens the turns that a turn supersedes. @param {number} count */
export const earlierTurns = (count) => (count === 1 ? "Earlier version" : `Show ${count} earlier messages`);

/** Why a message was refused. */
const REFUSED = {
  degraded: "The gateway accepts no new messages for now.",
  draining: "The gateway is restarting. Send it again in a moment.",
  too_many_runs: "Too many answers are in progress. Wait for one to end.",
  queue_full: "Too many messages are waiting. Wait for an answer, or take one back.",
  thread_busy: "This conversation takes one message at a time. Wait for the answer.",
  breaker_open: "Too many answers failed in a row. Wait a moment.",
  busy: "The gateway is busy. Wait a moment.",
  too_long: "It is longer than this gateway accepts. Shorten it.",
  malformed: "The gateway could not read it. Change it and send it again.",
};

/** @param {string} code @param {string} text the gateway's text */
export const refusal = (code, text) => `Not sent. ${REFUSED[code] ?? (text || code)}`;

export const UNKNOWN = "It is not known whether this message was answered.";

export const TRUNCATED = "The answer was cut off: the model reached its limit.";

/** The hint about a text that is too long to send. @param {number} excess @param {number} longest in bytes */
export const tooLong = (excess, longest) =>
  `Too long by ${excess.toLocaleString()} bytes: this gateway accepts messages of up to ${longest.toLocaleString()} bytes. Shorten it to send it.`;

export const UNCONFIRMED = "The page was closed before this message was confirmed, and it did not arrive.";

/** The label of an open run. @param {{queued: boolean, started: boolean}} run */
export const waiting = ({ queued, started }) =>
  queued ? "Waiting for the previous answer" : started ? "Working" : "Waiting for the agent";

/** How a run without an answer ended. @param {{queued: boolean, error: {reason: string, message: string}}} run */
export function ending({ queued, error: { reason, message } }) {
  if (queued && reason === "cancelled") return "Taken back.";
  switch (reason) {
    case "cancelled":
      return "Stopped.";
    case "interrupted":
      return "The gateway was restarted before the answer was complete. Ask again.";
    case "silent":
      return "The agent was silent for too long, so the answer was stopped.";
    case "no_reply":
      return "There was no reply in time, so the answer was stopped.";
    case "timed_out":
      return "The answer took too long, so it was stopped.";
    case "abandoned":
      return "The agent stopped without an answer.";
    default:
      return message || "The agent could not answer.";
  }
}

export const TOOL_STATUS = { executing: "Running", success: "Done", failure: "Failed", abandoned: "Stopped" };

/** Why a reply was not taken, by the code of its error. */
const NOT_REPLIED = {
  not_paused: "Another reply came first.",
  unknown_run: "The answer has ended, so it takes no reply.",
  too_long: "The reply is longer than this gateway accepts. Shorten it.",
  unanswered: "The connection was lost, and it is not known whether the reply arrived. Send it again.",
};

/** @param {string} code @param {string} text the gateway's text */
export const replyFailure = (code, text) => NOT_REPLIED[code] ?? (text || code);

export const UNDECIDED = "Something is not answered yet.";

/** What a reply to an approval was. @param {boolean} isApproved */
export const approval = (isApproved) => (isApproved ? "Approved" : "Declined");

/** What an ask is about: its tool, or its message. @param {import("./asks.js").Ask} ask */
const subject = ({ kind, tool, message }) => (kind === "question" ? message : (tool ?? message));

/**
 * What an agent asks, in one text for screen readers.
 * @param {import("./asks.js").Request} request
 */
export const spokenRequest = ({ message, asks }) =>
  ["The agent asks you.", message, asks.map(subject).filter((text) => text !== "").join(", ")].filter((text) => text !== "").join(" ");

/**
 * What an event is announced as to screen readers, or null.
 * @param {{type: string, data?: Record<string, any>}} event
 * @param {import("./conversation.js").Run} run
 */
export function spoken({ type, data = {} }, run) {
  switch (type) {
    case "agent_started":
      return "The agent is working.";
    case "tool_executing":
      return `Using the tool ${data.name}.`;
    case "agent_paused":
      return spokenRequest(requestOf(data.request));
    case "agent_resumed":
      return "The agent has the reply and goes on.";
    case "agent_completed":
      return `Answer: ${run.answer}`;
    case "notice":
      return `Notice: ${run.answer}`;
    case "agent_error":
      return ending(/** @type {any} */ (run));
    default:
      return null;
  }
}
