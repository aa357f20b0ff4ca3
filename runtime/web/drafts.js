/**
 * Text that is not in the stream yet: messages that are being sent or were refused, the text in each thread's field,
 * and the turn that it edits. All of it is in this tab's session storage, so a reload loses nothing.
 */
import { newId } from "./client.js";
import { memory } from "./memory.js";

const UNSENT = "lockstep.unsent";
const TEXT = "lockstep.draft.";
const EDIT = "lockstep.edit.";

/**
 * @typedef {import("./machine.js").Position} Position
 * @typedef {import("./view.js").Draft} Draft
 * @typedef {Position & {aside: string}} Edit the position of the edited turn, and the field's earlier text
 */

/** Joins the non-empty texts, one below the other. @param {...string} texts */
export const joined = (...texts) => texts.filter((text) => text !== "").join("\n");

export class Drafts {
  /** @type {Draft[]} */ #list = [];
  /** The ids of the messages that this page has sent. @type {Set<string>} */ #own = new Set();
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

  /** Whether this page has sent a message since it was loaded. @param {string|null} id */
  isOwn(id) {
    return id !== null && this.#own.has(id);
  }

  /** The text in the field. @param {string} thread @returns {string} */
  text(thread) {
    return memory.load(TEXT + thread) ?? "";
  }

  /** @param {string} thread @param {string} text */
  write(thread, text) {
    memory.save(TEXT + thread, text === "" ? null : text);
  }

  /** The turn that the text in the field edits. @param {string} thread @returns {Edit|null} */
  edited(thread) {
    return memory.load(EDIT + thread);
  }

  /** Puts the text of a turn into the field; the field's earlier text returns when the edit ends. */
  edit(thread, { epoch, offset }, text) {
    const aside = this.edited(thread)?.aside ?? this.text(thread);
    memory.save(EDIT + thread, { epoch, offset, aside });
    this.write(thread, text);
  }

  /** Clears the field after its text was sent or the edit cancelled. @param {string} thread */
  clear(thread) {
    const aside = this.edited(thread)?.aside ?? "";
    memory.save(EDIT + thread, null);
    this.write(thread, aside);
  }

  /**
   * @param {string} text
   * @param {string} thread
   * @param {Position|null} replaces the turn that it replaces together with all later ones
   * @throws {RangeError} if too many messages are unanswered
   */
  send(text, thread, replaces) {
    const id = newId();
    // Saved first, because the page may be gone at any moment.
    this.#list.push({ id, text, thread, replaces, state: "waiting", why: "" });
    try {
      this.#client.send({ text }, { id, thread: thread || null, replaces });
    } catch (error) {
      this.#list.pop();
      throw error;
    }
    this.#own.add(id);
    this.mark();
  }

  /** Discards a message. @param {string} id @returns {boolean} false if it was sent, and may run */
  discard(id) {
    const draft = this.find(id);
    if (draft?.state === "sent" || (draft?.state === "waiting" && !this.#client.withdraw(id))) return false;
    this.settle(id);
    return true;
  }

  /** Removes a message that is in the stream. @param {string} id */
  settle(id) {
    this.#list = this.#list.filter((draft) => draft.id !== id);
    this.#keep();
  }

  /**
   * Marks a message as refused or unknown.
   * @returns {boolean} false if it was removed with its thread
   */
  fail(id, state, why, tooLong) {
    const draft = this.find(id);
    if (!draft) return false;
    Object.assign(draft, { state, why, tooLong });
    this.#keep();
    return true;
  }

  /** Updates the drafts: what was written to a socket may have been received. */
  mark() {
    const written = new Map(this.#client.outgoing.map(({ message, writes }) => [message, writes > 0]));
    for (const draft of this.#list) {
      // A message that the gateway has sent back was not accepted, and waits again.
      if (written.has(draft.id)) draft.state = written.get(draft.id) ? "sent" : "waiting";
    }
    this.#keep();
  }

  /** Messages that an earlier page sent and that the gateway does not know. @returns {string[]} */
  get unconfirmed() {
    const unanswered = new Set(this.#client.outgoing.map(({ message }) => message));
    return this.#list.filter(({ id, state }) => state === "sent" && !unanswered.has(id)).map(({ id }) => id);
  }

  /** Removes all drafts of a thread. @param {string} thread @returns {string} the field's text and the one set aside */
  drop(thread) {
    for (const { id } of this.of(thread)) this.#client.withdraw(id);
    this.#list = this.#list.filter((draft) => draft.thread !== thread);
    this.#keep();
    const text = joined(this.text(thread), this.edited(thread)?.aside ?? "");
    memory.save(EDIT + thread, null);
    this.write(thread, "");
    return text;
  }

  /** Restores what an earlier page of this tab wrote. What may have been sent is not sent again: it might run twice. */
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
