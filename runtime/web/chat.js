/**
 * One user's chat, from login to logout: the client, the conversations that its events build, and drafts that are not
 * in the stream yet. It shows nothing itself; `app.js` draws it whenever it reports a change.
 */
import { Client, newId } from "./client.js";
import { Conversations, Events, MAX_RUNS, NO_THREAD, textOf } from "./conversation.js";
import { Drafts, joined } from "./drafts.js";
import { Past, TURNS } from "./past.js";
import { shownTurns, threadsOf } from "./shown.js";
import { UNCONFIRMED, UNKNOWN, refusal, replyFailure, spoken } from "./words.js";

/** The most bytes of a message besides its text: names of 128 characters, each up to twelve bytes of JSON. */
const ENVELOPE = 4_096;

export class Chat {
  conversations = new Conversations();
  /** @type {Set<import("./conversation.js").Run>} runs that have changed since they were drawn */
  changed = new Set();
  /** Runs whose end was requested. @type {Set<string>} */
  stopping = new Set();
  #drafts;
  /** Threads whose deletion was requested here, until `thread_deleted` arrives. `done`: the request was answered. */
  /** @type {Map<string, "asked"|"done">} */
  #deletions = new Map();
  #client;
  #past;
  #user;
  #thread;
  #isChosen;
  /** The epoch of the stream, once it is known. @type {import("./machine.js").Position["epoch"]|null} */ #epoch = null;
  #wasLive = false;
  #on;

  /**
   * @param {object} options
   * @param {string} options.user
   * @param {string|null} options.thread the thread to show; if there is none, the newest
   * @param {import("./session.js").Session} options.session
   * @param {import("./api.js").Api} options.api
   * @param {{draw: () => void, announce: (text: string) => void, loginNeeded: (reason: string, code: number|null) => void,
   *   choose: (thread: string, isNew: boolean) => void, deleted: (thread: string, isShown: boolean) => void,
   *   asked: (run: string) => void}} options.on the page's handlers; `asked`: the answer to a message of this tab has paused
   */
  constructor({ user, thread, session, api, on }) {
    this.#user = user;
    this.#on = on;
    this.#isChosen = thread !== null;
    this.#thread = thread ?? newId();
    this.conversations.shown = this.#thread;
    this.#past = new Past(api, () => {
      this.#begin();
      this.#on.draw();
    });
    const url = new URL("ws", document.baseURI);
    url.protocol = url.protocol.replace("http", "ws");
    this.#client = new Client({ url, token: () => session.token(), begin: "earliest" });
    this.#drafts = new Drafts(this.#client, user);
    this.#listen();
    this.#drafts.restore();
    this.#client.connect();
    this.#past.list();
    if (thread !== null) this.#load();
  }

  get user() {
    return this.#user;
  }

  get status() {
    return this.#client.status;
  }

  /** The shown thread. */
  get thread() {
    return this.#thread;
  }

  get runs() {
    return this.conversations.thread(this.#thread);
  }

  /** All threads, the most recently active first. */
  get threads() {
    return threadsOf(this.#past.threads, this.conversations.list);
  }

  /** Loads the rest of the list. */
  listAll() {
    this.#past.listAll();
  }

  /** Whether the gateway keeps conversations, and can therefore rename them. */
  get canRename() {
    return !this.#past.isMissing;
  }

  /** The shown thread's title, if it is not empty. @returns {string|null} */
  get title() {
    return this.threads.find(({ key }) => key === this.#thread)?.title ?? null;
  }

  /** @param {string} title the new title of the shown thread; empty restores the original one */
  rename(title) {
    return this.#past.rename(this.#thread, title.trim() === "" ? null : title.trim());
  }

  /**
   * Deletes a thread. It stays visible until the gateway has deleted it.
   * @param {string} thread
   * @throws {import("./api.js").Refused} if it could not be deleted, as far as is known
   */
  async delete(thread) {
    this.#deletions.set(thread, "asked");
    try {
      await this.#past.delete(thread);
      if (!this.#deletions.has(thread)) return;
      this.#deletions.set(thread, "done");
      this.#past.drop(thread);
      this.#remove(thread, this.conversations.delete(thread), true);
    } catch (error) {
      // `thread_deleted` arrived before the answer was lost.
      if (this.#deletions.delete(thread)) throw error;
    } finally {
      this.#on.draw();
    }
  }

  /** Whether the shown thread is being deleted. */
  get isDeleting() {
    return this.#deletions.get(this.#thread) === "asked";
  }

  /** What precedes the shown runs: nothing, more, content that is loading or could not be loaded, or too much. */
  get older() {
    const { next, state } = this.#past.page(this.#thread);
    // The stream's content is visible already: nothing moves for content that may not exist.
    if (state === "loading" && next === undefined && this.runs.length > 0) return "none";
    if (state !== "ready") return state;
    if (next === null || next === undefined) return "none";
    return this.runs.length + TURNS > MAX_RUNS ? "full" : "more";
  }

  /** Whether the shown thread's content is not known yet. */
  get isLoading() {
    const { next, state } = this.#past.page(this.#thread);
    return state === "loading" && next === undefined;
  }

  /** Loads the turns before the shown runs, or those that could not be loaded. */
  loadOlder() {
    const { next } = this.#past.page(this.#thread);
    if (next === undefined) return this.#load();
    if (next === null) return undefined;
    // Turns that the stream has delivered need not be loaded.
    const before = Math.min(next, this.conversations.begin(this.#thread) ?? next);
    return this.#merge(this.#thread, this.#past.earlier(this.#thread, before));
  }

  /** Drafts in the shown thread that are not in the stream yet. */
  get drafts() {
    return this.#drafts.of(this.#thread);
  }

  /** The turns to draw of the shown thread. */
  get turns() {
    const place = (run) => this.conversations.place(run);
    return shownTurns(this.runs, { drafts: this.drafts, epoch: this.#epoch, edited: this.edited, place });
  }

  /** The shown thread's open runs. */
  get open() {
    return this.runs.filter(({ state }) => state === "open");
  }

  /** The text in the message field. */
  get text() {
    return this.#drafts.text(this.#thread);
  }

  set text(text) {
    this.#drafts.write(this.#thread, text);
  }

  /** The position of the turn that the text in the field edits. A position of another epoch is no longer valid. */
  get edited() {
    const edited = this.#drafts.edited(this.#thread);
    return this.#epoch === null || edited?.epoch === this.#epoch ? edited : null;
  }

  /** The most bytes of a message that the gateway accepts, as far as known. */
  get longest() {
    return this.#client.longest;
  }

  /** The number of bytes by which a text exceeds the gateway's limit. @param {string} text */
  excess(text) {
    // A byte of text takes at most six bytes of JSON.
    if (text.length * 6 + ENVELOPE < this.longest) return 0;
    return Math.max(0, this.#client.measure({ text }, { thread: this.#thread || null, replaces: this.edited }) - this.longest);
  }

  /**
   * Sends the text of the field in the shown thread. An edit replaces its turn and all later ones.
   * @param {string} text
   * @throws {RangeError} if too many messages are unanswered
   */
  send(text) {
    const { edited } = this;
    this.#send(text, edited && { epoch: edited.epoch, offset: edited.offset });
    this.#drafts.clear(this.#thread);
  }

  /**
   * Sends a run's message again. It replaces its turn and all later ones if their position is known.
   * @param {import("./conversation.js").Run} run
   * @throws {RangeError} if too many messages are unanswered
   */
  repeat(run) {
    this.#send(run.text ?? "", this.#placeOf(run));
  }

  /** Sends a refused or unknown message again. It gets a new id, because it is a new message. */
  again(id) {
    const draft = this.#drafts.find(id);
    if (!draft) return;
    this.#send(draft.text, draft.replaces ?? null);
    this.discard(id);
  }

  /** Withdraws a message for editing. @returns {boolean} whether it was withdrawn: a message that was sent may run */
  edit(id) {
    const draft = this.#drafts.find(id);
    if (!draft || !this.discard(id)) return false;
    this.#write(draft.text, draft.replaces ?? null);
    return true;
  }

  /** Puts a run's message into the field for editing. @param {import("./conversation.js").Run} run */
  revise(run) {
    this.#write(run.text ?? "", this.#placeOf(run));
  }

  /** Cancels the edit and restores the field's earlier text. */
  endEdit() {
    this.#drafts.clear(this.#thread);
    this.#on.draw();
  }

  /** Discards a message. @returns {boolean} whether it was discarded: a message that was sent may run */
  discard(id) {
    const isDone = this.#drafts.discard(id);
    this.#on.draw();
    return isDone;
  }

  /** Stops the open runs of the shown thread. @returns {boolean} whether the request was written */
  stop() {
    return this.open.filter(({ id }) => this.takeBack(id)).length > 0;
  }

  /** Stops a run, or withdraws a message whose run is queued. @returns {boolean} whether the request was written */
  takeBack(run) {
    if (!this.#client.cancel(run)) return false;
    this.stopping.add(run);
    this.#on.draw();
    return true;
  }

  /**
   * Replies to a paused run.
   * @param {string} run
   * @param {number} pause
   * @param {unknown} payload
   */
  reply(run, pause, payload) {
    const changed = this.conversations.reply(run, pause, null);
    if (changed === null) return;
    this.changed.add(changed);
    this.#client.reply(run, pause, payload);
    this.#on.draw();
  }

  /** Shows another thread; null begins a new one. */
  show(thread) {
    this.#choose(thread ?? newId(), thread === null);
    this.#on.draw();
  }

  nudge() {
    this.#client.nudge();
  }

  connect() {
    this.#client.connect();
  }

  /** The user has logged in again. @param {string} token */
  present(token) {
    this.#client.present(token);
    this.#client.connect();
  }

  /** Ends the chat. */
  leave() {
    this.#on = { draw() {}, announce() {}, loginNeeded() {}, choose() {}, deleted() {}, asked() {} };
    this.#past.end();
    this.#client.disconnect();
  }

  /** Loads the newest turns of the shown thread. */
  #load() {
    return this.#merge(this.#thread, this.#past.newest(this.#thread));
  }

  /** @param {string} thread @param {Promise<any[]|null>} loading */
  async #merge(thread, loading) {
    for (const run of this.conversations.merge(thread, (await loading) ?? [])) {
      this.changed.add(run);
      if (run.message !== null) this.#settle(run.message);
    }
    this.#on.draw();
  }

  #listen() {
    const on = (type, listener) => this.#client.addEventListener(type, ({ detail }) => listener(detail));
    on("status", (status) => this.#told(status));
    const events = new Events((event) => this.#happened(event), (run) => this.stopping.has(run) || this.status.catchingUp);
    on("event", (event) => events.take(event));
    on("ready", (frame) => {
      events.release();
      this.#ready(frame);
    });
    on("reset", () => {
      events.release();
      this.#reset();
    });
    on("accepted", ({ message }) => this.#settle(message));
    on("refused", ({ message, code, text }) => this.#fail(message, "refused", refusal(code, text), code === "too_long"));
    on("unknown", ({ message }) => this.#fail(message, "unknown", UNKNOWN));
    on("notice", ({ data }) => this.#on.announce(textOf(data)));
    on("error", (error) => this.#failed(error));
    on("loginneeded", ({ error }) => this.#on.loginNeeded(error.reason, this.status.code));
  }

  /** A request failed. A run that is unknown has ended, and its end is shown. */
  #failed({ code, text, run = null, pause }) {
    const why = run === null ? text : replyFailure(code, text);
    const changed = run === null ? null : this.conversations.reply(run, pause, why);
    if (changed !== null) this.changed.add(changed);
    if (changed !== null || code !== "unknown_run") this.#on.announce(why);
    this.#on.draw();
  }

  #told({ state, catchingUp }) {
    this.#drafts.mark();
    const isLive = state === "live" && !catchingUp;
    const isBack = isLive && !this.#wasLive;
    this.#wasLive = isLive;
    if (isLive) this.#caughtUp();
    if (isBack && this.#past.page(this.#thread).state === "failed") this.loadOlder();
    if (isBack && this.conversations.isFull) this.#past.list();
    this.#on.draw();
  }

  #happened(event) {
    const thread = event.thread_id ?? NO_THREAD;
    if (event.type === "thread_deleted") return this.#deleted(thread, event);
    // The gateway has deleted the thread, and this event belongs to the deletion.
    if (this.#deletions.get(thread) === "done" && event.type !== "notice") return;
    const run = this.conversations.apply(event);
    this.changed.add(run);
    if (run.state !== "open") this.stopping.delete(run.id);
    if (event.type === "message_received") {
      this.#settle(run.message);
      if (!this.#isChosen) this.#thread = this.conversations.shown = run.thread;
    }
    const isQuiet = this.status.catchingUp || this.#deletions.has(run.thread);
    if ((run.thread === this.#thread || run.notice) && !isQuiet) this.#say(event, run);
    this.#on.draw();
  }

  #deleted(thread, { offset, timestamp }) {
    const asked = this.#deletions.get(thread);
    this.#deletions.delete(thread);
    // The thread was removed when the gateway answered.
    if (asked === "done") return;
    const runs = this.conversations.delete(thread, offset);
    const isListed = this.#past.drop(thread, timestamp);
    const isThere = this.conversations.thread(thread).length > 0;
    // A page that catches up reads deletions of threads that it never had, or that have begun again.
    const isNews = runs.length > 0 || isListed || !this.status.catchingUp;
    if (isNews && !isThere) this.#remove(thread, runs, asked === "asked");
    this.#on.draw();
  }

  /**
   * Removes this tab's data of a deleted thread. Its unsent messages are removed too, because sending them later would
   * begin the thread again. Text that is still in the field stays there unless the user deleted the conversation in
   * this tab: they may be in the middle of a sentence.
   * @param {string} thread
   * @param {import("./conversation.js").Run[]} runs
   * @param {boolean} isHere whether the deletion was requested in this tab
   */
  #remove(thread, runs, isHere) {
    for (const run of runs) {
      this.stopping.delete(run.id);
      this.changed.delete(run);
    }
    const text = this.#drafts.drop(thread);
    const isShown = thread === this.#thread;
    if (!isShown) return this.#on.deleted(thread, false);
    this.#thread = this.conversations.shown = (this.#isChosen ? null : this.conversations.newest) ?? newId();
    if (!this.#isChosen) return;
    this.text = isHere ? "" : text;
    // Replaces the address of the deleted thread.
    this.#on.choose(this.#thread, false);
    this.#on.deleted(thread, true);
  }

  #say(event, run) {
    const text = spoken(event, run);
    if (text !== null) this.#on.announce(text);
    if (event.type === "agent_paused" && this.#drafts.isOwn(run.message)) this.#on.asked(run.id);
  }

  #ready({ epoch }) {
    if (this.#epoch !== null && this.#epoch !== epoch) {
      this.#past.forget();
      this.#reset(this.conversations.beginEpoch());
    }
    this.#epoch = epoch;
    this.#drafts.mark();
  }

  /** Part of the stream is gone, though maybe kept. @param {Iterable<import("./conversation.js").Run>} lost */
  #reset(lost = this.conversations.reset()) {
    // The events that report their deletion may be among the lost ones.
    this.#deletions = new Map([...this.#deletions].filter(([, state]) => state === "asked"));
    for (const run of lost) this.changed.add(run);
    this.#past.list();
    this.#load();
    this.#on.draw();
  }

  /** The whole stream was read: a message sent before a reload that is not in it is unknown to the gateway. */
  #caughtUp() {
    this.#begin();
    for (const id of this.#drafts.unconfirmed) this.#fail(id, "unknown", UNCONFIRMED);
  }

  /** Shows the newest thread, once that is known. */
  #begin() {
    const { state, catchingUp } = this.status;
    if (this.#isChosen || this.#past.isListing || state !== "live" || catchingUp) return;
    const newest = this.conversations.newest === null ? this.threads[0]?.key : undefined;
    this.#choose(newest ?? this.#thread, false);
  }

  #choose(thread, isNew) {
    if (this.#isChosen && thread === this.#thread) return;
    this.#isChosen = true;
    this.#thread = this.conversations.shown = thread;
    this.#on.choose(thread, isNew);
    if (!isNew) this.#load();
  }

  /** @param {string} text @param {import("./machine.js").Position|null} replaces */
  #send(text, replaces) {
    const thread = this.#thread;
    this.#drafts.send(text, thread, replaces);
    this.#choose(thread, false);
    this.#on.draw();
  }

  /** Puts a text into the field, as an edit of the turn at that position, or before the field's text. */
  #write(text, place) {
    if (place !== null && place.epoch === this.#epoch) this.#drafts.edit(this.#thread, place, text);
    else this.text = joined(text, this.text);
    this.#on.draw();
  }

  /** The position of a turn that a message can replace, or null: offsets of another epoch mean nothing. */
  #placeOf(run) {
    const offset = this.conversations.place(run);
    return offset === null || this.#epoch === null ? null : { epoch: this.#epoch, offset };
  }

  #settle(message) {
    this.#drafts.settle(message);
    this.#on.draw();
  }

  #fail(message, state, why, tooLong = false) {
    if (!this.#drafts.fail(message, state, why, tooLong)) return;
    this.#on.announce(why);
    this.#on.draw();
  }
}
