/** Shows a conversation, and updates only the changed parts of the document. Data becomes text nodes, never markup. */
import { PauseView } from "./card.js";
import { copy } from "./clipboard.js";
import { pausedOf } from "./conversation.js";
import { action, element, set, values } from "./dom.js";
import { ProseView } from "./prose.js";
import { TOOL_STATUS, TRUNCATED, earlierTurns, ending, waiting } from "./words.js";

const TIME = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const DAY = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });

/** Within this many pixels of the end, the user counts as reading the end, and is kept there. */
const AT_END = 64;

function moment(at) {
  const date = new Date(at);
  const format = date.toDateString() === new Date().toDateString() ? TIME : DAY;
  return at > 0 ? element("time", { dateTime: date.toISOString() }, format.format(date)) : null;
}

class ThinkingView {
  #shown = 0;
  #touched = false;
  #list = element("ol", { className: "thoughts" });
  #title = element("span");
  #summary = element("summary", {}, this.#title);
  root = element("details", { className: "thinking" }, this.#summary, this.#list);

  constructor() {
    this.#summary.addEventListener("click", () => (this.#touched = true));
  }

  update({ thoughts, open }) {
    this.root.hidden = thoughts.length === 0;
    // The last thought may have grown.
    if (this.#shown > 0) set(this.#list.lastElementChild, thoughts[this.#shown - 1] ?? "");
    for (; this.#shown < thoughts.length; this.#shown++) this.#list.append(element("li", {}, thoughts[this.#shown]));
    set(this.#title, `${open ? "Thinking" : "Thoughts"} (${thoughts.length})`);
    this.root.classList.toggle("open", open);
    if (!this.#touched) this.root.open = open;
    if (open && this.root.open) this.#list.scrollTop = this.#list.scrollHeight;
  }
}

class ToolView {
  #name = element("span", { className: "name" });
  #status = element("span", { className: "badge" });
  #arguments = element("div");
  #output = element("div", { className: "output" });
  #told = null;
  root = element("article", { className: "tool" },
    element("header", {}, this.#name, this.#status), this.#arguments, this.#output);

  update({ name, arguments: given, status, output: result }) {
    if (this.#told === status) return;
    set(this.#name, name);
    this.root.setAttribute("aria-label", `Tool ${name}`);
    set(this.#status, TOOL_STATUS[status] ?? status);
    this.root.dataset.status = status;
    if (this.#told === null && given !== undefined && given !== null) this.#arguments.append(...values(given, "Arguments"));
    if (result !== null && result !== undefined) {
      const label = status === "success" ? "Result" : "Error";
      this.#output.replaceChildren(element("p", { className: "label" }, label), ...values(result, label));
    }
    this.#told = status;
  }
}

const VIEWS = { thinking: ThinkingView, prose: ProseView, tool: ToolView, pause: PauseView };

/** The turns that a turn supersedes. They are shown on request, without actions. */
class EarlierView {
  #handlers;
  /** @type {readonly import("./conversation.js").Run[]} */ #runs = [];
  #isDrawn = false;
  #title = element("summary");
  #list = element("ol", { className: "turns" });
  root = element("details", { className: "earlier", hidden: true }, this.#title, this.#list);

  constructor(handlers) {
    this.#handlers = handlers;
    this.root.addEventListener("toggle", () => this.#draw());
  }

  /** @param {readonly import("./conversation.js").Run[]} runs @param {Set<import("./conversation.js").Run>} changed */
  update(runs, changed) {
    const isSame = runs.length === this.#runs.length && runs.every((run, index) => run === this.#runs[index] && !changed.has(run));
    if (isSame) return;
    this.#runs = runs;
    this.#isDrawn = false;
    this.root.hidden = runs.length === 0;
    set(this.#title, earlierTurns(runs.length));
    this.#draw();
  }

  #draw() {
    if (!this.root.open || this.#isDrawn) return;
    this.#isDrawn = true;
    this.#list.replaceChildren(...this.#runs.map((run) => new RunView(this.#handlers, SUPERSEDED, run).root));
  }
}

/**
 * The role of a turn in its conversation.
 * @typedef {{isReplaced: boolean, isEdited: boolean, isNewest: boolean}} Role `isReplaced`: it has been, or a pending
 *   message will replace it; `isEdited`: the text in the field is an edit of it
 * @typedef {import("./conversation.js").Turn & Role} ShownTurn
 */

/** @type {Role} */ const SUPERSEDED = { isReplaced: true, isEdited: false, isNewest: false };

class RunView {
  #handlers;
  /** @type {import("./conversation.js").Run} */ #run;
  /** @type {Role} */ #role = SUPERSEDED;
  #copy = action("Copy", "Copy answer", (button) => copy(answerOf(this.#run), button));
  #retry;
  #edit;
  #tools;
  #steps = [];
  #text = element("div", { className: "bubble" });
  #meta = element("p", { className: "meta" });
  #asked = element("div", { className: "tools" }, this.#meta);
  #you = element("h2", { className: "unseen" });
  #said = element("div", { className: "said" }, this.#you, this.#text, this.#asked);
  #body = element("div", { className: "steps" });
  #wait = element("p", { className: "wait" }, "Waiting for the agent");
  #end = element("p", { className: "end", hidden: true });
  #who = element("h2", { className: "unseen" }, "Agent");
  #back = element("button", { type: "button" }, "Take back");
  #actions = element("div", { className: "actions", hidden: true }, this.#back);
  #earlier;
  root = element("li", { className: "turn", tabIndex: -1 }, this.#said,
    element("div", { className: "reply" }, this.#who,
      this.#body, this.#wait, this.#actions, this.#end));

  /**
   * @param {Handlers} handlers
   * @param {Role} role
   * @param {import("./conversation.js").Run} run
   */
  constructor(handlers, role, run) {
    const { onTakeBack, onRepeat, onRevise } = handlers;
    this.#handlers = handlers;
    this.#earlier = new EarlierView(handlers);
    this.root.prepend(this.#earlier.root);
    this.#edit = action("Edit", "Edit message", () => onRevise(this.#run));
    this.#retry = action("Retry", "Retry this message", () => onRepeat(this.#run));
    this.#asked.append(this.#edit);
    this.#tools = element("div", { className: "tools" }, this.#copy, this.#retry);
    this.#end.after(this.#tools);
    this.#back.addEventListener("click", () => onTakeBack(this.root.dataset.run));
    this.#role = role;
    this.update(run);
  }

  /** @param {ShownTurn} turn @param {Set<import("./conversation.js").Run>} changed */
  show({ run, earlier, ...role }, changed) {
    this.#earlier.update(earlier, changed);
    const isOther = Object.keys(role).some((name) => role[name] !== this.#role[name]);
    this.#role = role;
    if (changed.has(run)) this.update(run);
    else if (isOther) this.#offer();
  }

  update(run) {
    this.#run = run;
    this.root.dataset.state = run.state;
    this.root.dataset.run = run.id;
    this.root.classList.toggle("notice", run.notice);
    set(this.#who, run.notice ? "Notice" : "Agent");
    this.#who.classList.toggle("unseen", !run.notice);
    const isWorking = run.state === "open" && pausedOf(run) === null;
    this.root.setAttribute("aria-busy", String(isWorking));
    this.#said.hidden = run.text === null;
    if (run.text !== null && set(this.#text, run.text)) this.#meta.replaceChildren(moment(run.at) ?? "");
    for (const [index, step] of run.steps.entries()) {
      const View = VIEWS[step.kind];
      if (!(this.#steps[index] instanceof View)) {
        const view = new View(this.#handlers);
        if (this.#steps[index]) this.#steps[index].root.replaceWith(view.root);
        else this.#body.append(view.root);
        this.#steps[index] = view;
      }
      this.#steps[index].update(step, run.state !== "open" || index < run.steps.length - 1, run);
    }
    for (const extra of this.#steps.splice(run.steps.length)) extra.root.remove();
    this.#wait.hidden = !isWorking;
    set(this.#wait, waiting(run));
    this.#end.hidden = run.state === "open" || (run.state === "completed" && !run.truncated);
    if (run.truncated) set(this.#end, TRUNCATED);
    if (run.state === "failed") set(this.#end, ending(run));
    if (run.state === "lost") set(this.#end, "The rest of this answer is not known.");
    this.#end.classList.toggle("failure", run.state === "failed" && run.error.reason !== "cancelled");
    this.#offer();
  }

  /** Focuses what the agent asks, if it asks anything. */
  focusPause() {
    const view = this.#steps.at(-1);
    if (view instanceof PauseView) view.focus();
  }

  /** Updates the turn's actions: none if it is replaced. */
  #offer() {
    const { isReplaced, isEdited, isNewest } = this.#role;
    const { state, queued, text } = this.#run;
    this.root.classList.toggle("replaced", isReplaced);
    this.root.classList.toggle("edited", isEdited);
    set(this.#you, isEdited ? "You, being edited" : isReplaced ? "You, replaced" : "You");
    this.#edit.hidden = isReplaced;
    this.#actions.hidden = state !== "open" || !queued || isReplaced;
    const isOver = state === "failed" || state === "lost";
    set(this.#retry, isOver ? "Retry" : "Regenerate");
    this.#retry.setAttribute("aria-label", isOver ? "Retry this message" : "Regenerate this answer");
    this.#retry.hidden = isReplaced || text === null || !(isOver || (state === "completed" && isNewest));
    this.#copy.hidden = isReplaced || state === "open" || answerOf(this.#run) === "";
    this.#tools.hidden = this.#copy.hidden && this.#retry.hidden;
  }
}

/** The answer as Markdown. @param {import("./conversation.js").Run} run */
const answerOf = ({ steps }) => steps.filter(({ kind }) => kind === "prose").map(({ text }) => text).join("\n\n");

/**
 * @typedef {object} Draft A message that is not in the stream yet.
 * @property {string} id
 * @property {string} text
 * @property {string} thread
 * @property {import("./machine.js").Position|null} [replaces] the turn that it replaces together with all later ones
 * @property {"waiting"|"sent"|"refused"|"unknown"} state
 * @property {boolean} [tooLong] whether sending it again unchanged would be refused again
 * @property {string} why
 */

class DraftView {
  #text = element("div", { className: "bubble" });
  #note = element("p", { className: "meta" });
  #again;
  #actions;
  root;

  constructor(draft, { onAgain, onEdit, onDiscard }) {
    const button = (label, act) => {
      const made = element("button", { type: "button" }, label);
      made.addEventListener("click", () => act(draft.id));
      return made;
    };
    this.#again = button("Send again", onAgain);
    this.#actions = element("div", { className: "actions" }, this.#again, button("Edit", onEdit), button("Discard", onDiscard));
    const heading = element("h2", { className: "unseen" }, "You, not sent yet");
    this.root = element("li", { className: "turn draft", tabIndex: -1 },
      element("div", { className: "said" }, heading, this.#text, this.#note, this.#actions));
  }

  update({ text, state, why, tooLong = false }) {
    const note = { waiting: "Waiting for the connection", sent: "Sending…" }[state] ?? why;
    const isOver = state === "refused" || state === "unknown";
    set(this.#text, text);
    set(this.#note, note);
    this.root.dataset.state = state;
    this.#note.classList.toggle("failure", isOver);
    // A message that was sent may run, so it cannot be withdrawn.
    this.#actions.hidden = state === "sent";
    this.#again.hidden = !isOver || tooLong;
  }
}

/**
 * @typedef {object} Handlers The user's actions on turns and drafts.
 * @property {import("./markdown.js").Markdown} markdown
 * @property {(text: string) => void} announce to screen readers
 * @property {(id: string) => void} onAgain
 * @property {(id: string) => void} onEdit
 * @property {(id: string) => void} onDiscard
 * @property {(run: string) => void} onTakeBack
 * @property {(run: import("./conversation.js").Run) => void} onRepeat
 * @property {(run: import("./conversation.js").Run) => void} onRevise
 * @property {(run: string, pause: number, payload: unknown) => void} onReply
 */

export class ConversationView {
  #scroller;
  #list;
  #handlers;
  #thread = null;
  /** @type {Map<string, RunView>} */ #runs = new Map();
  /** @type {Map<string, DraftView>} */ #drafts = new Map();
  #atEnd = true;

  /** @param {{scroller: HTMLElement, list: HTMLElement, onScroll: (atEnd: boolean) => void} & Handlers} options */
  constructor({ scroller, list, onScroll, ...handlers }) {
    this.#scroller = scroller;
    this.#list = list;
    this.#handlers = handlers;
    const look = () => {
      this.#atEnd = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < AT_END;
      onScroll(this.#atEnd);
    };
    scroller.addEventListener("scroll", look, { passive: true });
    // A user who opens earlier turns reads there.
    list.addEventListener("toggle", ({ target }) => /** @type {Element} */ (target).matches(".earlier") && look(), true);
    new ResizeObserver(() => this.#atEnd && this.toEnd()).observe(scroller);
  }

  /** Scrolls to the end. */
  toEnd() {
    this.#atEnd = true;
    this.#scroller.scrollTop = this.#scroller.scrollHeight;
  }

  /** Focuses what the agent asks in a run, unless the user is elsewhere on the page. @param {string} run */
  focusPause(run) {
    const { activeElement: focused, body } = document;
    if (focused === null || focused === body || focused === this.#scroller || this.#list.contains(focused)) this.#runs.get(run)?.focusPause();
  }

  /**
   * Shows a thread. If it is already shown, only `changed` runs are updated. If the focused element is gone, focus
   * moves to the newest turn, which has replaced it.
   * @param {string} thread
   * @param {readonly ShownTurn[]} turns
   * @param {Set<import("./conversation.js").Run>} changed
   * @param {Draft[]} drafts
   */
  show(thread, turns, changed, drafts) {
    const isOther = thread !== this.#thread;
    const { activeElement: focused } = document;
    const hadFocus = !isOther && this.#list.contains(focused);
    if (isOther) {
      this.#thread = thread;
      this.#runs.clear();
      this.#drafts.clear();
      this.#list.replaceChildren();
    }
    this.#forget(turns);
    const [anchor, before] = this.#anchor();
    let place = this.#list.firstElementChild;
    for (const turn of turns) {
      const { run } = turn;
      const view = this.#runs.get(run.id) ?? new RunView(this.#handlers, turn, run);
      this.#runs.set(run.id, view);
      if (view.root === place) place = place.nextElementSibling;
      else this.#list.insertBefore(view.root, place);
      view.show(turn, changed);
    }
    this.#showDrafts(drafts);
    if (hadFocus && focused.getClientRects().length === 0) this.#list.lastElementChild?.focus({ preventScroll: true });
    if (isOther || this.#atEnd) this.toEnd();
    else if (anchor?.isConnected) this.#scroller.scrollTop += anchor.getBoundingClientRect().top - before;
  }

  /** The first visible turn and its position, so that content inserted before it does not move it. */
  #anchor() {
    const { top } = this.#scroller.getBoundingClientRect();
    const first = this.#atEnd ? undefined : [...this.#list.children].find((turn) => turn.getBoundingClientRect().bottom > top);
    return first ? [first, first.getBoundingClientRect().top] : [null, 0];
  }

  /** Removes turns that are no longer kept, or superseded. */
  #forget(turns) {
    const kept = new Set(turns.map(({ run }) => run.id));
    for (const [id, view] of this.#runs) {
      if (kept.has(id)) continue;
      view.root.remove();
      this.#runs.delete(id);
    }
  }

  #showDrafts(drafts) {
    const shown = new Set(drafts.map(({ id }) => id));
    for (const [id, view] of this.#drafts) {
      if (shown.has(id)) continue;
      view.root.remove();
      this.#drafts.delete(id);
    }
    for (const draft of drafts) {
      let view = this.#drafts.get(draft.id);
      if (!view) {
        view = new DraftView(draft, this.#handlers);
        this.#drafts.set(draft.id, view);
        this.#list.append(view.root);
      }
      view.update(draft);
    }
  }
}
