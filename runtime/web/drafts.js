/**
 * What was written and is not in the stream yet: messages that are on their way or were refused, the text in the field of each
 * thread, and which turn that text is an edit of. This tab's memory has all of it, so a reload loses nothing.
 */
import { newId } from "./client.js";
import { memory } from "./memory.js";

const UNSENT = "lockstep.unsent";
const TEXT = "lockstep.draft.";
const EDIT = "lockstep.edit.";

/**
 * @typedef {import("./machine.js").Position} Position
 * @typedef {import("./view.js").Draft} Draft
 * @typedef {Position & {aside: string}} Edit the place of the turn that is edited, and the text that was in the field before
 */

/** Texts one below the other, but for those that are empty. @param {...string} texts */
export const joined = (...texts) => texts.filter((text) => text !== "").join("\n");

export class Drafts {
  /** @type {Draft[]} */ #list = [];
  #client;
  #user;

  /** @param {import("./client.js").Client} client @param {string} user */
  constructor(client, user) {
    this.#client = client;
    this.#user = user;
  }

  /** The messages of a thread. @param {string} thread */
  of(thread) {
    return this.#list.filter((draft) => draft.thread === thread);
  }

  /** @param {string} id */
  find(id) {
    return this.#list.find((draft) => draft.id === id);
  }

  /** The text in the field. @param {string} thread @returns {string} */
  text(thread) {
    return memory.load(TEXT + thread) ?? "";
  }

  /** @param {string} thread @param {string} text */
  write(thread, text) {
    memory.save(TEXT + thread, text === "" ? null : text);
  }

  /** What the text in the field is an edit of. @param {string} thread @returns {Edit|null} */
  edited(thread) {
    return memory.load(EDIT + thread);
  }

  /** The text of a turn comes into the field; what is there comes back when the edit is over. */
  edit(thread, { epoch, offset }, text) {
    const aside = this.edited(thread)?.aside ?? this.text(thread);
    memory.save(EDIT + thread, { epoch, offset, aside });
    this.write(thread, text);
  }

  /** The text in the field was sent, or is given up. @param {string} thread */
  clear(thread) {
    const aside = this.edited(thread)?.aside ?? "";
    memory.save(EDIT + thread, null);
    this.write(thread, aside);
  }

  /**
   * @param {string} text
   * @param {string} thread
   * @param {Position|null} replaces the turn that it replaces with all that followed
   * @throws {RangeError} if too many are unanswered
   */
  send(text, thread, replaces) {
    const id = newId();
    // Kept first: the page may be gone at any moment.
    this.#list.push({ id, text, thread, replaces, state: "waiting", why: "" });
    try {
      this.#client.send({ text }, { id, thread: thread || null, replaces });
    } catch (error) {
      this.#list.pop();
      throw error;
    }
    this.mark();
  }

  /** Forgets a message. @param {string} id @returns {boolean} whether it could be: what is being sent may run */
  discard(id) {
    const draft = this.find(id);
    if (draft?.state === "sent" || (draft?.state === "waiting" && !this.#client.withdraw(id))) return false;
    this.settle(id);
    return true;
  }

  /** A message is in the stream. @param {string} id */
  settle(id) {
    this.#list = this.#list.filter((draft) => draft.id !== id);
    this.#keep();
  }

  /**
   * A message was refused, or it is not known what became of it.
   * @returns {boolean} false if it went with its thread
   */
  fail(id, state, why, tooLong) {
    const draft = this.find(id);
    if (!draft) return false;
    Object.assign(draft, { state, why, tooLong });
    this.#keep();
    return true;
  }

  /** What was written to a socket may have been heard. */
  mark() {
    const written = new Map(this.#client.outgoing.map(({ message, writes }) => [message, writes > 0]));
    for (const draft of this.#list) {
      // What the gateway has sent back was not heard, and waits again.
      if (written.has(draft.id)) draft.state = written.get(draft.id) ? "sent" : "waiting";
    }
    this.#keep();
  }

  /** Messages that an earlier page sent, and of which the gateway knows nothing. @returns {string[]} */
  get unconfirmed() {
    const unanswered = new Set(this.#client.outgoing.map(({ message }) => message));
    return this.#list.filter(({ id, state }) => state === "sent" && !unanswered.has(id)).map(({ id }) => id);
  }

  /** Forgets all of a thread. @param {string} thread @returns {string} the text that was in the field, and before it */
  drop(thread) {
    for (const { id } of this.of(thread)) this.#client.withdraw(id);
    this.#list = this.#list.filter((draft) => draft.thread !== thread);
    this.#keep();
    const text = joined(this.text(thread), this.edited(thread)?.aside ?? "");
    memory.save(EDIT + thread, null);
    this.write(thread, "");
    return text;
  }

  /** What an earlier page of this tab wrote. What it may have sent is not sent again: it might run twice. */
  restore() {
    const kept = memory.load(UNSENT);
    if (kept === null || kept.user !== this.#user || !Array.isArray(kept.drafts)) return;
    this.#list = kept.drafts;
    for (const { id, text, thread, replaces = null, state } of this.#list) {
      if (state === "waiting") this.#client.send({ text }, { id, thread: thread || null, replaces });
    }
  }

  #keep() {
    memory.save(UNSENT, this.#list.length > 0 ? { user: this.#user, drafts: this.#list } : null);
  }
}
