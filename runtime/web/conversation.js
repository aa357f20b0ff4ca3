/**
 * Builds conversations from the events of a user's stream: runs, each with its message, its steps and its end. No DOM,
 * no network: `view.js` displays them.
 */

/**
 * @typedef {{kind: "thinking", thoughts: string[], open: boolean, grows: boolean}} Thinking the agent's remarks
 * @typedef {{kind: "prose", text: string}} Prose the answer so far, and in the end the complete answer
 * @typedef {{kind: "tool", id: string, name: string, arguments: unknown, status: ToolStatus, output: unknown}} Tool
 * @typedef {"executing"|"success"|"failure"|"abandoned"} ToolStatus
 * @typedef {{kind: "pause", number: number, request: unknown, state: "open"|"sent"|"replied", reply: unknown, why: string}} Pause
 *   what the agent asks the user; `sent`: this page has replied; `why`: the reason why its reply has failed
 *
 * @typedef {object} Run
 * @property {string} id
 * @property {string} thread
 * @property {string|null} message the id of the message that began it
 * @property {string|null} text that message; null if it is no longer kept
 * @property {number|null} received the offset of that message in the run's era; null if unknown
 * @property {number|null} replaces the offset of the turn that it replaces together with all later ones
 * @property {number} at when that was, in milliseconds since 1970
 * @property {boolean} queued whether it waits for earlier runs of its thread, or was taken back while it did
 * @property {boolean} started
 * @property {(Thinking|Tool|Prose|Pause)[]} steps
 * @property {"open"|"completed"|"failed"|"lost"} state `lost`: its end is unknown
 * @property {string} answer once it is complete
 * @property {{reason: string, message: string}|null} error
 * @property {boolean} truncated whether the answer was cut off at a limit of the model
 * @property {boolean} notice whether it is not a run but a notice of the service
 * @property {number} era how many epochs the stream had before the run's own
 * @property {number} first the offset of its first event
 * @property {number} last the offset of its newest event
 * @property {boolean} isWhole whether no earlier event is missing
 * @property {boolean} isPast whether it was read from the kept conversations and not from the stream
 */

/** The most runs that a page keeps. Beyond that, the oldest ended ones are dropped, those of other threads first. */
export const MAX_RUNS = 500;

/** The most events that are kept of a run whose beginning is missing, until that is loaded. */
const MAX_TAIL = 1_000;

/** The key of the thread for messages that named none. */
export const NO_THREAD = "";

/**
 * A turn that a thread shows, and the turns before it that it supersedes.
 * @typedef {{run: Run, earlier: Run[]}} Turn
 *
 * A run is superseded if the message of a later run of its thread replaces it or an earlier turn. Offsets of different
 * eras cannot be compared, and without a run's message this is unknown.
 * @param {readonly Run[]} runs of a thread, in order
 * @returns {Turn[]}
 */
export function turnsOf(runs) {
  /** @type {Turn[]} */ const turns = [];
  let [era, from, newest] = [NaN, Infinity, /** @type {Turn|null} */ (null)];
  for (const run of runs.toReversed()) {
    if (run.era !== era) [era, from, newest] = [run.era, Infinity, null];
    // All turns between a superseded turn and its replacement are superseded too.
    if (newest !== null && run.received !== null && run.received >= from) newest.earlier.push(run);
    else {
      turns.push({ run, earlier: [] });
      if (run.received !== null) newest = turns.at(-1);
    }
    from = Math.min(from, run.replaces ?? Infinity);
  }
  for (const { earlier } of turns) earlier.reverse();
  return turns.reverse();
}

/** The text of a message or notice, in whichever form it was sent. */
export function textOf(payload) {
  if (typeof payload === "string") return payload;
  const text = payload?.text ?? payload?.content;
  return typeof text === "string" ? text : JSON.stringify(payload, null, 2);
}

/** What an open run waits for: its newest pause, unless that is replied to. @param {Run} run @returns {Pause|null} */
export function pausedOf({ state, steps }) {
  const pause = state === "open" ? steps.findLast(({ kind }) => kind === "pause") : undefined;
  return pause?.kind === "pause" && pause.state !== "replied" ? pause : null;
}

/** How long events that may belong to a deletion are held back, in milliseconds. */
const HELD = 200;

/** Whether an event is one that ends a run before its thread's deletion is reported. */
const isEnding = ({ type, data }) =>
  (type === "agent_error" && data?.reason === "cancelled") || (type === "tool_completed" && data?.status === "abandoned");

/**
 * Forwards the events of the stream, in order. A run that was cancelled elsewhere may belong to a deleted thread. Its
 * end is held back for a moment, so that no ends are shown in a thread that is about to disappear.
 */
export class Events {
  #pass;
  #isExpected;
  /** @type {any[]} */ #held = [];
  #timer;

  /**
   * @param {(event: any) => void} pass
   * @param {(run: string) => boolean} isExpected whether the end of a run is forwarded at once
   */
  constructor(pass, isExpected) {
    this.#pass = pass;
    this.#isExpected = isExpected;
  }

  take(event) {
    const [first = event] = this.#held;
    const isSame = event.thread_id === first.thread_id;
    if (isSame && isEnding(event) && !this.#isExpected(event.run_id)) {
      this.#held.push(event);
      this.#timer ??= setTimeout(() => this.release(), HELD);
      return;
    }
    if (isSame && event.type === "thread_deleted") this.#held = [];
    this.release();
    this.#pass(event);
  }

  /** Forwards the held events. */
  release() {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    for (const event of this.#held.splice(0)) this.#pass(event);
  }
}

export class Conversations {
  /** @type {Map<string, Run>} */ #runs = new Map();
  /** @type {Map<string, Run[]>} in the order of their newest message */ #threads = new Map();
  /** @type {Set<string>} */ #messages = new Set();
  /** Events of runs that are not whole, from the gap on. @type {Map<string, any[]>} */ #tails = new Map();
  #era = 0;
  /** The thread that the user looks at. @type {string|null} */ shown = null;
  /** The newest offset of the stream, and the newest one before the last gap. */
  #offset = -Infinity;
  #gap = -Infinity;

  /** The runs of a thread, in order. @returns {readonly Run[]} */
  thread(key) {
    return this.#threads.get(key) ?? [];
  }

  /** Threads and titles, newest first. @returns {{key: string, title: string, open: boolean, at: number}[]} */
  get list() {
    const title = (runs) =>
      turnsOf(runs).find(({ run }) => run.text)?.run.text ?? (runs.every(({ notice }) => notice) ? "Notices" : "Earlier messages");
    const open = (runs) => runs.some(({ state }) => state === "open");
    const at = (runs) => Math.max(...runs.map(({ at }) => at));
    return [...this.#threads].map(([key, runs]) => ({ key, title: title(runs), open: open(runs), at: at(runs) })).reverse();
  }

  /** The offset from which a thread is complete here, or null. @returns {number|null} */
  begin(key) {
    return this.thread(key).find(({ era, first }) => era === this.#era && first > this.#gap)?.first ?? null;
  }

  /** Whether threads may have been dropped here: a client misses nothing, but a page keeps a limited number of runs. */
  get isFull() {
    return this.#runs.size >= MAX_RUNS;
  }

  /** The most recently active thread, or null. */
  get newest() {
    return [...this.#threads.keys()].at(-1) ?? null;
  }

  /** The offset at which a turn begins, if it is known and of this epoch. @param {Run} run @returns {number|null} */
  place({ era, received }) {
    return era === this.#era ? received : null;
  }

  /** Whether the message with this id is in a conversation. */
  has(message) {
    return this.#messages.has(message);
  }

  /**
   * Takes the next event of the stream, other than `thread_deleted`.
   * @returns {Run} the run that it changed
   */
  apply(event) {
    this.#offset = event.offset;
    const run = this.#run(event);
    const tail = this.#tails.get(run.id);
    if (tail && tail.length < MAX_TAIL) tail.push(event);
    this.#take(run, event);
    if (event.type === "message_received") this.#touch(run.thread);
    return run;
  }

  /**
   * Records that this page has replied to a pause, or that its reply has failed.
   * @param {string} id of the run
   * @param {number} number of the pause
   * @param {string|null} why the reason of the failure; null if the reply is sent
   * @returns {Run|null} the run, unless it does not wait for this reply, or has one that is being sent
   */
  reply(id, number, why) {
    const run = this.#runs.get(id);
    const pause = run ? pausedOf(run) : null;
    if (!run || pause?.number !== number || (why === null && pause.state === "sent")) return null;
    Object.assign(pause, why === null ? { state: "sent", why: "" } : { state: "open", why });
    return run;
  }

  /**
   * Removes a deleted thread: all of it, or the runs that began before `thread_deleted`.
   * @param {string} key
   * @param {number} [before] the offset of that event
   * @returns {Run[]} the removed runs
   */
  delete(key, before = Infinity) {
    const isDeleted = ({ era, first }) => era !== this.#era || first < before;
    const runs = this.thread(key).filter(isDeleted);
    for (const run of runs) this.#remove(run);
    return runs;
  }

  /**
   * Merges turns that the gateway keeps into a thread. A run that the stream has delivered stays as it is, unless part
   * of it is missing.
   * @param {string} key
   * @param {any[]} events
   * @returns {Run[]} the runs that it changed
   */
  merge(key, events) {
    /** @type {Map<string, any[]>} */ const turns = new Map();
    // The event that reports an earlier deletion of the thread is not one of its turns.
    for (const event of events.filter(({ type }) => type !== "thread_deleted")) {
      turns.set(event.run_id, [...(turns.get(event.run_id) ?? []), event]);
    }
    return [...turns].map(([id, turn]) => this.#mergeTurn(key, id, turn)).filter((run) => run !== null);
  }

  #mergeTurn(key, id, turn) {
    const known = this.#runs.get(id);
    const tail = this.#tails.get(id);
    if (known?.isWhole) return null;
    // Later events are no longer there.
    if (known && (tail?.length ?? 0) >= MAX_TAIL && turn.at(-1).offset < known.last) return null;
    const run = known ?? this.#add(turn[0], key, false);
    if (known) Object.assign(run, begun(turn[0], run.thread, this.#era));
    for (const event of turn) this.#take(run, event);
    for (const event of tail ?? []) this.#take(run, event);
    run.isPast = !known;
    run.isWhole = BEGINNINGS.has(turn[0].type);
    if (run.isWhole) this.#tails.delete(id);
    this.#place(run);
    return run;
  }

  /** Applies an event, unless the run has it already. */
  #take(run, event) {
    const { type, offset, previous } = event;
    if (run.era !== this.#era) {
      Object.assign(run, BEGINNINGS.has(type) ? begun(event, run.thread, this.#era) : { ...UNPLACED, era: this.#era });
    }
    if (offset <= run.last) {
      // The stream delivers the run from its beginning, which takes precedence.
      if (!run.isPast || run.state !== "open" || !BEGINNINGS.has(type)) return;
      Object.assign(run, begun(event, run.thread, this.#era));
    }
    const isHalfKnown = previous < run.last && type === "agent_delta";
    run.last = offset;
    // The beginning of its text is here already. The end of the run has all of it.
    if (isHalfKnown) return;
    if (run.state === "lost") run.state = "open";
    this.#step(run, event);
  }

  #step(run, event) {
    const { data = {} } = event;
    switch (event.type) {
      case "message_received":
        run.message = data.message_id;
        run.text = textOf(data.payload);
        run.at = event.timestamp;
        run.received = event.offset;
        run.replaces = Number.isFinite(data.replaces) ? data.replaces : null;
        run.queued = data.queued === true;
        this.#messages.add(data.message_id);
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
      case "agent_paused":
        fold(run);
        run.steps.push({ kind: "pause", number: data.pause, request: data.request, state: "open", reply: undefined, why: "" });
        break;
      case "agent_resumed":
        resume(run, data);
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
  }

  /** Part of the stream is gone: the ends of open runs are known only if later events of them arrive. */
  reset() {
    this.#gap = this.#offset;
    const open = [...this.#runs.values()].filter(({ state }) => state === "open");
    for (const run of open) {
      fold(run);
      run.state = "lost";
      run.isWhole = false;
      this.#tails.set(run.id, []);
    }
    return open;
  }

  /** The stream has a new epoch, with its own offsets. */
  beginEpoch() {
    this.#era += 1;
    this.#offset = -Infinity;
    return this.reset();
  }

  #run(event) {
    const { type, run_id: id, thread_id: named } = event;
    // A notice without a thread is shown in the newest one.
    return this.#runs.get(id) ?? this.#add(event, named ?? (type === "notice" ? this.newest : null) ?? NO_THREAD, true);
  }

  /** @param {boolean} isNew whether this event is new activity in its thread */
  #add(event, thread, isNew) {
    const run = begun(event, thread, this.#era);
    this.#runs.set(run.id, run);
    if (!run.isWhole) this.#tails.set(run.id, []);
    if (!this.#threads.has(thread)) {
      if (isNew) this.#threads.set(thread, []);
      else this.#threads = new Map([[thread, []], ...this.#threads]);
    }
    this.#place(run);
    if (this.#runs.size > MAX_RUNS) this.#forgetOldest();
    return run;
  }

  /** Inserts a run by its first event among the runs of its thread. */
  #place(run) {
    const runs = this.#threads.get(run.thread);
    if (!runs) return;
    const at = runs.indexOf(run);
    if (at >= 0) runs.splice(at, 1);
    runs.splice(runs.findLastIndex((other) => isBefore(other, run)) + 1, 0, run);
  }

  #forgetOldest() {
    const ended = [...this.#runs.values()].filter(({ state }) => state !== "open");
    const others = ended.filter(({ thread }) => thread !== this.shown);
    const oldest = (others.length > 0 ? others : ended).reduce((oldest, run) => (oldest && isBefore(oldest, run) ? oldest : run), null);
    if (oldest !== null) this.#remove(oldest);
  }

  #remove({ id, message, thread }) {
    this.#runs.delete(id);
    this.#tails.delete(id);
    this.#messages.delete(message);
    const rest = this.#threads.get(thread).filter((run) => run.id !== id);
    if (rest.length > 0) this.#threads.set(thread, rest);
    else this.#threads.delete(thread);
  }

  #touch(thread) {
    const runs = this.#threads.get(thread);
    this.#threads.delete(thread);
    this.#threads.set(thread, runs);
  }
}

/** The first events of a run or a notice. */
const BEGINNINGS = new Set(["message_received", "notice"]);

/** The position of a run of which no event was read in this epoch. */
const UNPLACED = { last: -Infinity, received: null, replaces: null };

/** A run of which only this event's position is known. @returns {Run} */
function begun({ type, run_id: id, timestamp: at, offset }, thread, era) {
  return {
    id, thread, message: null, text: null, at, queued: false, started: false, steps: [], state: "open", answer: "", error: null,
    notice: false, truncated: false, ...UNPLACED, era, first: offset, isWhole: BEGINNINGS.has(type), isPast: false,
  };
}

const isBefore = (one, other) => (one.era === other.era ? one.first < other.first : one.era < other.era);

/** Extends a part: text extends the answer, any other kind extends a thought. */
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

/** Adds a remark as a thought of its own. */
function remark(run, text) {
  const step = thinking(run);
  step.thoughts.push(text);
  step.grows = null;
}

/** The current thinking step. */
function thinking(run) {
  let step = run.steps.at(-1);
  if (step?.kind !== "thinking") {
    step = { kind: "thinking", thoughts: [], open: true, grows: null };
    run.steps.push(step);
  }
  return step;
}

/** Closes the thinking steps. */
function fold(run) {
  for (const step of run.steps) {
    if (step.kind === "thinking") Object.assign(step, { open: false, grows: null });
  }
}

/** Replaces the pieces of the answer by the whole answer. Pieces that do not belong to it were thoughts. */
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

/** Records the reply to a pause. If its request is missing here, only the reply is shown. */
function resume(run, { pause: number, reply = null }) {
  let pause = run.steps.findLast((step) => step.kind === "pause" && step.number === number);
  if (!pause) {
    pause = { kind: "pause", number, request: undefined, state: "replied", reply, why: "" };
    run.steps.push(pause);
  }
  Object.assign(pause, { state: "replied", reply, why: "" });
}
