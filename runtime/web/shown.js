/** What a chat shows: all threads in one list, and the turns of one thread with their roles. A part of `chat.js`. */
import { turnsOf } from "./conversation.js";

/** The title of a thread of which nothing is known. */
const UNTITLED = "Untitled";

/**
 * All threads, the most recently active first. The stream takes precedence over the list.
 * @param {Map<string, import("./past.js").Listed>} listed
 * @param {{key: string, title: string, open: boolean, at: number}[]} streamed
 * @returns {{key: string, title: string, open: boolean}[]}
 */
export function threadsOf(listed, streamed) {
  const rest = new Map(streamed.map((thread) => [thread.key, thread]));
  const known = [...listed].map(([key, { title, at, open }]) => {
    const { title: begun, at: newest = 0, open: isOpen = open } = rest.get(key) ?? {};
    rest.delete(key);
    return { key, title: title ?? begun ?? UNTITLED, open: isOpen, at: Math.max(at, newest) };
  });
  return [...known, ...rest.values()].sort((one, other) => other.at - one.at).map(({ key, title, open }) => ({ key, title, open }));
}

/**
 * The turns to draw of a thread. Turns that a pending message will replace are still included.
 * @param {readonly import("./conversation.js").Run[]} runs
 * @param {object} chat
 * @param {import("./view.js").Draft[]} chat.drafts of the thread
 * @param {import("./machine.js").Position["epoch"]|null} chat.epoch of the stream
 * @param {import("./machine.js").Position|null} chat.edited the turn that the text in the field edits
 * @param {(run: import("./conversation.js").Run) => number|null} chat.place the offset at which a turn begins
 * @returns {import("./view.js").ShownTurn[]}
 */
export function shownTurns(runs, { drafts, epoch, edited, place }) {
  const turns = turnsOf(runs);
  const onTheirWay = drafts.filter(({ state }) => state === "waiting" || state === "sent");
  const replaced = onTheirWay.flatMap(({ replaces }) => (replaces?.epoch === epoch ? [replaces.offset] : []));
  const from = Math.min(Infinity, ...replaced);
  const newest = onTheirWay.length > 0 ? undefined : turns.findLast(({ run }) => !run.notice);
  return turns.map((turn) => {
    const offset = place(turn.run) ?? -Infinity;
    return { ...turn, isReplaced: offset >= from, isEdited: offset === edited?.offset, isNewest: turn === newest };
  });
}
