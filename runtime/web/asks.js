/**
 * What an agent asks when its run pauses, and the replies. Agents may send anything, and so may other clients: what is
 * not understood is shown as it is. No DOM: `card.js` displays it.
 */

/**
 * @typedef {"approval"|"question"|"tool"} AskKind `tool`: one that a client runs, and whose result is the answer
 * @typedef {object} Ask
 * @property {string} id
 * @property {AskKind} kind
 * @property {string} message
 * @property {string|null} tool
 * @property {unknown} arguments
 * @property {Record<string, unknown>|null} rest its other members, such as the schema of an answer
 *
 * @typedef {object} Request
 * @property {string} message
 * @property {Ask[]} asks empty if one text answers the request
 * @property {Record<string, unknown>|null} rest its other members
 *
 * @typedef {boolean|string|undefined} Answer of the user: whether it is approved, or a text; undefined if there is none yet
 */

const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);

/** The members besides the named ones, or null if there are none. */
function without(object, ...names) {
  const rest = Object.entries(object).filter(([name]) => !names.includes(name));
  return rest.length > 0 ? Object.fromEntries(rest) : null;
}

/** @returns {Ask|null} null if it is not one that can be answered */
function askOf(given) {
  if (!isObject(given) || typeof given.id !== "string") return null;
  const { id, kind, message, tool } = given;
  return {
    id,
    kind: kind === "approval" || kind === "tool" ? kind : "question",
    message: typeof message === "string" ? message : "",
    tool: typeof tool === "string" ? tool : null,
    arguments: given.arguments,
    rest: without(given, "id", "kind", "message", "tool", "arguments"),
  };
}

/** The request of an `agent_paused`. @param {unknown} given @returns {Request} */
export function requestOf(given) {
  if (typeof given === "string") return { message: given, asks: [], rest: null };
  if (!isObject(given)) return { message: "", asks: [], rest: given === null || given === undefined ? null : { request: given } };
  const message = typeof given.message === "string" ? given.message : "";
  const asks = Array.isArray(given.asks) ? given.asks.map(askOf) : [];
  // A reply answers each ask by its id, or none.
  const isSound = asks.every((ask) => ask !== null) && new Set(asks.map((ask) => ask?.id)).size === asks.length;
  const known = [...(typeof given.message === "string" ? ["message"] : []), ...(isSound && Array.isArray(given.asks) ? ["asks"] : [])];
  return { message, asks: isSound ? asks : [], rest: without(given, ...known) };
}

/** A tool's result as the user has written it: JSON, or a text. */
function resultOf(text) {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

/** @param {AskKind} kind @param {Answer} answer */
function written(kind, answer) {
  if (kind === "approval") return { approved: answer === true };
  return kind === "tool" ? { result: resultOf(String(answer)) } : { text: answer };
}

/** Whether an ask is answered. @param {Answer} answer */
export const isAnswered = (answer) => typeof answer === "boolean" || (typeof answer === "string" && answer.trim() !== "");

/**
 * The payload of a reply.
 * @param {Request} request
 * @param {Answer[]} answers to its asks in their order, or one to a request without them
 */
export function replyTo({ asks }, answers) {
  if (asks.length === 0) return { text: answers[0] };
  return { answers: Object.fromEntries(asks.map(({ id, kind }, index) => [id, written(kind, answers[index])])) };
}

/**
 * What a reply said.
 * @typedef {{approved: boolean}|{value: unknown}} Outcome
 * @param {Request} request
 * @param {unknown} reply of any client
 * @returns {{outcomes: (Outcome|null)[], rest: unknown}} those of its asks, null for one that was not answered; and what
 *   else was said, undefined if there is nothing
 */
export function outcomesOf({ asks }, reply) {
  const { answers } = isObject(reply) ? reply : { answers: undefined };
  if (asks.length === 0 || !isObject(answers)) {
    const rest = isObject(reply) && typeof reply.text === "string" && Object.keys(reply).length === 1 ? reply.text : reply;
    return { outcomes: asks.map(() => null), rest };
  }
  const ids = new Set(asks.map(({ id }) => id));
  const others = without(answers, ...ids);
  const rest = without(others === null ? without(reply, "answers") ?? {} : { ...reply, answers: others });
  return { outcomes: asks.map((ask) => (Object.hasOwn(answers, ask.id) ? outcomeOf(ask, answers[ask.id]) : null)), rest: rest ?? undefined };
}

function outcomeOf({ kind }, answer) {
  if (kind === "approval" && typeof answer?.approved === "boolean") return { approved: answer.approved };
  if (kind === "question" && typeof answer?.text === "string") return { value: answer.text };
  if (kind === "tool" && isObject(answer) && "result" in answer) return { value: answer.result };
  return { value: answer };
}
