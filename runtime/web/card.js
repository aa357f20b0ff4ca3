/** Shows what an agent asks its user, takes the reply, and then shows both as a record. A part of `view.js`. */
import { isAnswered, outcomesOf, replyTo, requestOf } from "./asks.js";
import { action, element, set, values } from "./dom.js";
import { memory } from "./memory.js";
import { UNDECIDED, approval } from "./words.js";

/** The most rows of a text field. */
const MAX_ROWS = 8;

/** Where this tab keeps what was written into a card, behind the run and the number of the pause. */
const WRITTEN = "lockstep.reply.";

/** The number of cards so far, which makes the ids of their elements unique. */
let count = 0;

/**
 * A control that takes an answer.
 * @typedef {{root: HTMLElement, answer: () => import("./asks.js").Answer, focus: () => void, lock: (isLocked: boolean) => void,
 *   write?: (text: string) => void}} Control `write` sets a text that was written before
 */

/**
 * Two buttons. They decide at once, or can be changed until all is decided.
 * @param {string} about what is approved
 * @param {(() => void)|null} onDecided
 * @returns {Control}
 */
function approvalControl(about, onDecided) {
  /** @type {boolean|undefined} */ let decided;
  let isLocked = false;
  const buttons = [true, false].map((isApproved) => {
    const button = action(isApproved ? "Approve" : "Decline", `${isApproved ? "Approve" : "Decline"} ${about}`.trim(), () => {
      if (isLocked) return;
      decided = isApproved;
      for (const [index, other] of buttons.entries()) other.setAttribute("aria-pressed", String((index === 0) === isApproved));
      onDecided?.();
    });
    button.className = isApproved ? "approve" : "decline";
    if (onDecided === null) button.setAttribute("aria-pressed", "false");
    return button;
  });
  return {
    root: element("div", { className: "choice" }, ...buttons),
    answer: () => decided,
    focus: () => buttons[0].focus(),
    lock(locked) {
      isLocked = locked;
      for (const button of buttons) button.setAttribute("aria-disabled", String(locked));
    },
  };
}

/** A text field. Enter submits, Shift+Enter starts a new line. @param {string} label @returns {Control} */
function textControl(label, id) {
  const field = element("textarea", { id, rows: 1, autocomplete: "off", enterKeyHint: "send" });
  field.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    field.form.requestSubmit();
  });
  const fit = () => {
    field.rows = 1;
    while (field.rows < MAX_ROWS && field.scrollHeight > field.clientHeight) field.rows += 1;
  };
  field.addEventListener("input", fit);
  return {
    write(text) {
      field.value = text;
      requestAnimationFrame(fit);
    },
    root: element("div", { className: "written" }, element("label", { htmlFor: id }, label), field),
    answer: () => field.value,
    focus: () => field.focus(),
    lock: (isLocked) => (field.readOnly = isLocked),
  };
}

/** What is asked: the tool, its arguments, and all else. @param {import("./asks.js").Ask} ask @param {Node|null} badge */
function described({ kind, message, tool, arguments: given, rest }, badge) {
  const name = tool ?? (kind === "question" ? null : "tool");
  return [
    name === null && badge === null ? null : element("header", {}, element("span", { className: "name" }, name ?? ""), badge),
    message === "" ? null : element("p", { className: "what" }, message),
    given === undefined || given === null ? null : element("div", {}, ...values(given, "Arguments")),
    rest === null ? null : element("details", { className: "more" }, element("summary", {}, "Details"), ...values(rest, "Details")),
  ];
}

/** An ask, as a group with a name. */
function group(ask, index, ...children) {
  const root = element("div", { className: "asked", role: "group" }, ...children);
  root.setAttribute("aria-label", ask.tool ?? (ask.message || `Question ${index + 1}`));
  return root;
}

/** A value that was replied. */
const replied = (value, label) => [
  element("p", { className: "label" }, label),
  ...(typeof value === "string" ? [element("p", { className: "what" }, value)] : values(value, label)),
];

export class PauseView {
  #onReply;
  #announce;
  #id = `ask-${++count}`;
  #title = element("p", { className: "label", id: `${this.#id}-title` });
  #body = element("form", { className: "asks", noValidate: true });
  #note = element("p", { className: "remark" });
  /** @type {import("./asks.js").Request|null} */ #request = null;
  /** @type {Control[]} */ #controls = [];
  /** @type {HTMLElement|null} */ #send = null;
  /** Which request is shown, and in what state. */
  #asked = "";
  #shown = "";
  /** Where the card's texts are kept. */
  #place = "";
  /** @type {(payload: unknown) => void} */ #reply = () => {};
  root = element("div", { className: "ask", role: "group", tabIndex: -1 }, this.#title, this.#body, this.#note);

  /** @param {Pick<import("./view.js").Handlers, "onReply"|"announce">} handlers */
  constructor({ onReply, announce }) {
    this.#onReply = onReply;
    this.#announce = announce;
    this.root.setAttribute("aria-labelledby", this.#title.id);
    this.#body.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    this.#body.addEventListener("input", () => this.#keep());
  }

  /**
   * @param {import("./conversation.js").Pause} pause
   * @param {boolean} _isComplete
   * @param {import("./conversation.js").Run} run
   */
  update({ number, request, state, reply, why }, _isComplete, run) {
    const asked = JSON.stringify([run.id, number, request]);
    if (asked !== this.#asked) [this.#asked, this.#shown, this.#request, this.#controls] = [asked, "", requestOf(request), []];
    this.#place = `${WRITTEN}${run.id}.${number}`;
    const shown = state === "replied" ? state : run.state !== "open" ? run.state : `${state} ${why}`;
    if (shown === this.#shown) return;
    this.#shown = shown;
    const isOpen = state !== "replied" && run.state === "open";
    this.#reply = (payload) => this.#onReply(run.id, number, payload);
    this.root.dataset.state = isOpen ? state : state === "replied" ? "replied" : "over";
    set(this.#title, isOpen ? "The agent asks you" : "The agent asked");
    if (isOpen) this.#take(state === "sent", why);
    else this.#record(state === "replied", reply, run.state);
  }

  /** Focuses the field of a question. Buttons are left to the user, because a key must not approve anything by accident. */
  focus() {
    const { asks } = /** @type {import("./asks.js").Request} */ (this.#request);
    if (asks.length === 0 || asks[0].kind !== "approval") this.#controls[0]?.focus();
    else this.root.focus();
  }

  /** Takes the reply. */
  #take(isSent, why) {
    if (this.#controls.length === 0) this.#ask();
    for (const control of this.#controls) control.lock(isSent);
    this.#send?.setAttribute("aria-disabled", String(isSent));
    set(this.#note, isSent ? "Sending the reply…" : why);
    this.#note.classList.toggle("failure", !isSent && why !== "");
  }

  #ask() {
    const { message, asks, rest } = /** @type {import("./asks.js").Request} */ (this.#request);
    const isOne = asks.length === 1;
    const parts = asks.map((ask, index) => {
      const about = ask.tool ?? ask.message;
      const control = ask.kind === "approval"
        ? approvalControl(about, isOne ? () => this.#submit() : null)
        : textControl(ask.kind === "tool" ? "Result, as JSON or text" : "Your answer", `${this.#id}-${index}`);
      this.#controls.push(control);
      const root = group(ask, index, ...described(ask, null), control.root);
      // What an approval would run is visible before it is approved.
      for (const folded of root.querySelectorAll("details:not(.more)")) folded.setAttribute("open", "");
      return root;
    });
    if (asks.length === 0) {
      const control = textControl("Your answer", `${this.#id}-0`);
      this.#controls.push(control);
      parts.push(control.root);
    }
    const kept = memory.load(this.#place);
    for (const [index, { write }] of this.#controls.entries()) if (typeof kept?.[index] === "string") write?.(kept[index]);
    // A single approval is decided with its own buttons.
    if (!isOne || asks[0].kind !== "approval") {
      this.#send = element("button", { type: "submit", className: "primary" }, asks.length > 1 ? "Send" : "Reply");
      parts.push(element("div", { className: "choice" }, this.#send));
    }
    this.#body.replaceChildren(...said(message, rest), ...parts);
  }

  /** Keeps what is written, so that a reload loses nothing. A decision is made again: it is one press. */
  #keep() {
    const texts = this.#controls.map(({ answer, write }) => (write ? answer() : null));
    memory.save(this.#place, texts.some((text) => text) ? texts : null);
  }

  #submit() {
    if (this.root.dataset.state !== "open") return;
    const answers = this.#controls.map(({ answer }) => answer());
    const missing = answers.findIndex((answer) => !isAnswered(answer));
    if (missing < 0) return this.#reply(replyTo(/** @type {import("./asks.js").Request} */ (this.#request), answers));
    set(this.#note, UNDECIDED);
    this.#note.classList.add("failure");
    this.#controls[missing].focus();
    this.#announce(UNDECIDED);
  }

  /** Shows what was asked, and what was replied, if anything. */
  #record(isReplied, reply, end) {
    memory.save(this.#place, null);
    this.#controls = [];
    this.#send = null;
    const { message, asks, rest } = /** @type {import("./asks.js").Request} */ (this.#request);
    const { outcomes, rest: more } = outcomesOf(/** @type {import("./asks.js").Request} */ (this.#request), reply);
    const parts = asks.map((ask, index) => {
      const outcome = isReplied ? outcomes[index] : null;
      const isDecision = outcome !== null && "approved" in outcome;
      const badge = isDecision ? element("span", { className: "badge" }, approval(outcome.approved)) : null;
      const given = outcome === null || isDecision ? [] : replied(outcome.value, "Your answer");
      const root = group(ask, index, ...described(ask, badge), ...given);
      if (isDecision) root.dataset.approved = String(outcome.approved);
      return root;
    });
    const others = isReplied && more !== undefined ? [element("div", { className: "asked" }, ...replied(more, "Your answer"))] : [];
    this.#body.replaceChildren(...said(message, rest), ...parts, ...others);
    const over = end === "lost" ? "It is not known whether there was a reply." : "The answer ended without a reply.";
    set(this.#note, isReplied ? "" : over);
    this.#note.classList.remove("failure");
  }
}

/** The message of a request, and what else it has. */
const said = (message, rest) => [
  ...(message === "" ? [] : [element("p", { className: "what" }, message)]),
  ...(rest === null ? [] : values(rest, "Details")),
];
