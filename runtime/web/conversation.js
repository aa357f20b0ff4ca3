/**
 * What the events of a user's stream add up to: conversations of runs, each with its message, its steps and its end.
 * No document, no network: `view.js` shows it.
 */

/**
 * @typedef {{kind: "thinking", thoughts: string[], open: boolean, grows: boolean}} Thinking what the agent says of its work
 * @typedef {{kind: "prose", text: string}} Prose the answer as it is being made, and in the end the answer
 * @typedef {{kind: "tool", id: string, name: string, arguments: unknown, status: ToolStatus, output: unknown}} Tool
 * @typedef {"executing"|"success"|"failure"|"abandoned"} ToolStatus
 *
 * @typedef {object} Run
 * @property {string} id
 * @property {string} thread
 * @property {string|null} message the id of the message that began it
 * @property {string|null} text that message; null if it is not kept any more
 * @property {number} at when that was, in milliseconds since 1970
 * @property {boolean} queued whether it waits for those before it in its thread, or was taken back while it did
 * @property {boolean} started
 * @property {(Thinking|Tool|Prose)[]} steps
 * @property {"open"|"completed"|"failed"|"lost"} state `lost`: its end is not kept any more
 * @property {string} answer once it is complete
 * @property {{reason: string, message: string}|null} error
 * @property {boolean} truncated whether the answer was cut off at a limit of the model
 * @property {boolean} notice whether it is no run, but something that the service says
 */

/** Runs that a page keeps; of more, the oldest that have ended are forgotten. */
export const MAX_RUNS = 500;

/** The thread of runs whose client named none. */
export const NO_THREAD = "";

/** What a person wrote or is told, in whichever form it was sent. */
export function textOf(payload) {
  if (typeof payload === "string") return payload;
  const text = payload?.text ?? payload?.content;
  return typeof text === "string" ? text : JSON.stringify(payload, null, 2);
}

export class Conversations {
  /** @type {Map<string, Run>} */ #runs = new Map();
  /** @type {Map<string, Run[]>} in the order of their newest message */ #threads = new Map();
  /** @type {Set<string>} */ #messages = new Set();

  /** The runs of a thread, in order. @returns {readonly Run[]} */
  thread(key) {
    return this.#threads.get(key) ?? [];
  }

  /** Each thread and what it began with, the newest first. @returns {{key: string, title: string, open: boolean}[]} */
  get list() {
    const title = (runs) =>
      runs.find(({ text }) => text)?.text ?? (runs.every(({ notice }) => notice) ? "Notices" : "Earlier messages");
    const open = (runs) => runs.some(({ state }) => state === "open");
    return [...this.#threads].map(([key, runs]) => ({ key, title: title(runs), open: open(runs) })).reverse();
  }

  /** The thread in which something was said last, or null. */
  get newest() {
    return [...this.#threads.keys()].at(-1) ?? null;
  }

  /** Whether the message with this id is in a conversation. */
  has(message) {
    return this.#messages.has(message);
  }

  /**
   * Takes the next event.
   * @returns {Run} the run that it changed
   */
  apply(event) {
    const { data = {} } = event;
    const run = this.#run(event);
    if (run.state === "lost") run.state = "open";
    switch (event.type) {
      case "message_received":
        run.message = data.message_id;
        run.text = textOf(data.payload);
        run.at = event.timestamp;
        run.queued = data.queued === true;
        this.#messages.add(data.message_id);
        this.#touch(run.thread);
        break;
      case "agent_started":
        run.started = true;
        run.queued = false;
        break;
      case "agent_thinking":
        if (typeof data.text === "string") remark(run, data.text);
        break;
      case "agent_delta":
        grow(run, data);
        break;
      case "tool_executing":
        fold(run);
        run.steps.push({
          kind: "tool", id: data.tool_id, name: data.name ?? "tool", arguments: data.arguments, status: "executing", output: null,
        });
        break;
      case "tool_completed":
        finish(run, data);
        break;
      case "agent_completed":
        fold(run);
        run.state = "completed";
        run.answer = typeof data.text === "string" ? data.text : "";
        run.truncated = data.truncated === true;
        answer(run);
        break;
      case "notice":
        run.notice = true;
        run.state = "completed";
        run.answer = textOf(data);
        answer(run);
        break;
      case "agent_error":
        fold(run);
        run.state = "failed";
        run.error = { reason: data.reason, message: data.message ?? "" };
        break;
    }
    return run;
  }

  /** Part of the stream is gone: how the open runs ended is known only if more of them is still to come. */
  reset() {
    const open = [...this.#runs.values()].filter(({ state }) => state === "open");
    for (const run of open) {
      fold(run);
      run.state = "lost";
    }
    return open;
  }

  #run({ type, run_id: id, thread_id: named, timestamp: at }) {
    let run = this.#runs.get(id);
    if (!run) {
      // What is for the user, wherever, is shown where the user is.
      const thread = named ?? (type === "notice" ? this.newest : null) ?? NO_THREAD;
      run = {
        id, thread, message: null, text: null, at, queued: false, started: false, steps: [], state: "open", answer: "", error: null,
        notice: false, truncated: false,
      };
      this.#runs.set(id, run);
      if (!this.#threads.has(thread)) this.#threads.set(thread, []);
      this.#threads.get(thread).push(run);
      if (this.#runs.size > MAX_RUNS) this.#forgetOldest();
    }
    return run;
  }

  #forgetOldest() {
    const oldest = [...this.#runs.values()].find(({ state }) => state !== "open");
    if (!oldest) return;
    this.#runs.delete(oldest.id);
    this.#messages.delete(oldest.message);
    const rest = this.#threads.get(oldest.thread).filter((run) => run !== oldest);
    if (rest.length > 0) this.#threads.set(oldest.thread, rest);
    else this.#threads.delete(oldest.thread);
  }

  #touch(thread) {
    const runs = this.#threads.get(thread);
    this.#threads.delete(thread);
    this.#threads.set(thread, runs);
  }
}

/** More of a part: its text is more of the answer, any other kind more of a thought. */
function grow(run, { part, kind, text }) {
  if (typeof text !== "string") return;
  if (kind === "text") {
    fold(run);
    if (run.steps.at(-1)?.kind !== "prose") run.steps.push({ kind: "prose", text: "" });
    run.steps.at(-1).text += text;
    return;
  }
  const step = thinking(run);
  if (step.grows === part) step.thoughts.push(step.thoughts.pop() + text);
  else step.thoughts.push(text);
  step.grows = part;
}

/** A remark is a thought of its own. */
function remark(run, text) {
  const step = thinking(run);
  step.thoughts.push(text);
  step.grows = null;
}

/** The thoughts that are under way. */
function thinking(run) {
  let step = run.steps.at(-1);
  if (step?.kind !== "thinking") {
    step = { kind: "thinking", thoughts: [], open: true, grows: null };
    run.steps.push(step);
  }
  return step;
}

/** What was thought is over. */
function fold(run) {
  for (const step of run.steps) {
    if (step.kind === "thinking") Object.assign(step, { open: false, grows: null });
  }
}

/** The whole answer takes the place of its pieces. Pieces of something else were thoughts. */
function answer(run) {
  const last = run.steps.at(-1);
  if (last?.kind === "prose") {
    run.steps.pop();
    if (!run.answer.includes(last.text.trim())) thinking(run).thoughts.push(last.text.trim());
    fold(run);
  }
  if (run.answer !== "") run.steps.push({ kind: "prose", text: run.answer });
}

function finish(run, { tool_id: id, name = "tool", status, result = null, error = null }) {
  let tool = run.steps.find((step) => step.kind === "tool" && step.id === id);
  if (!tool) {
    tool = { kind: "tool", id, name, arguments: undefined, status, output: null };
    run.steps.push(tool);
  }
  tool.status = status;
  tool.output = status === "success" ? result : error;
}
