/** The menu: the list of conversations, and a field that filters it by title. */
import { element, set } from "./dom.js";

/** The most conversations that are listed. The filter finds others. */
export const MAX_SHOWN = 100;

const LONGEST_TITLE = 200;

export class Menu {
  #root;
  #list;
  #filter;
  #hint;
  #onOpen;
  #onChoose;
  #shown = "";
  /** @type {{thread: string, threads: {key: string, title: string, open: boolean}[]}} */ #told = { thread: "", threads: [] };

  /**
   * @param {object} options
   * @param {HTMLDetailsElement} options.root
   * @param {HTMLElement} options.list
   * @param {HTMLInputElement} options.filter
   * @param {HTMLElement} options.hint
   * @param {() => void} options.onOpen called before it opens, to provide the list
   * @param {(thread: string) => void} options.onChoose
   */
  constructor({ root, list, filter, hint, onOpen, onChoose }) {
    [this.#root, this.#list, this.#filter, this.#hint] = [root, list, filter, hint];
    [this.#onOpen, this.#onChoose] = [onOpen, onChoose];
    const summary = root.querySelector("summary");
    summary.addEventListener("click", () => {
      if (root.open) return;
      filter.value = "";
      this.#onOpen();
    });
    root.addEventListener("keydown", (event) => this.#pressed(event));
    document.addEventListener("pointerdown", ({ target }) => {
      if (root.open && !root.contains(target)) root.open = false;
    });
    root.addEventListener("focusout", ({ relatedTarget }) => {
      if (relatedTarget && !root.contains(relatedTarget)) root.open = false;
    });
    list.addEventListener("keydown", (event) => this.#moved(event));
    filter.addEventListener("input", () => this.#draw());
  }

  get isOpen() {
    return this.#root.open;
  }

  close() {
    this.#root.open = false;
    this.#root.querySelector("summary").focus();
  }

  /** Lists these threads, and marks the shown one. */
  show(thread, threads) {
    this.#told = { thread, threads };
    this.#draw();
  }

  #pressed(event) {
    if (event.key !== "Escape") return;
    // Escape clears a search field first.
    if (event.target === this.#filter && this.#filter.value !== "") return;
    this.close();
  }

  /** Moves focus within the list with the arrow keys. Tab leaves the list. */
  #moved(event) {
    const buttons = [...this.#list.querySelectorAll("button")];
    const at = buttons.indexOf(document.activeElement);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: buttons.length - 1 }[event.key];
    if (to === undefined || at < 0) return;
    event.preventDefault();
    this.#focus(buttons[to] ?? buttons[at]);
  }

  /** Makes this button the list's only tab stop. */
  #stopAt(button) {
    for (const stop of this.#list.querySelectorAll('[tabindex="0"]')) stop.tabIndex = -1;
    button.tabIndex = 0;
  }

  #focus(button) {
    this.#stopAt(button);
    button.focus();
  }

  #draw() {
    const { thread, threads } = this.#told;
    const wanted = this.#filter.value.trim().toLocaleLowerCase();
    const found = threads.filter(({ title }) => title.toLocaleLowerCase().includes(wanted));
    const items = found.slice(0, MAX_SHOWN);
    const shown = JSON.stringify([thread, items, found.length, wanted === ""]);
    if (shown === this.#shown) return;
    this.#shown = shown;
    const list = this.#list;
    const at = list.contains(document.activeElement) ? document.activeElement.dataset.thread : undefined;
    list.replaceChildren(...items.map((item) => this.#item(item, thread)));
    const rest = found.length - items.length;
    const none = wanted === "" ? "None yet" : "None with this title";
    set(this.#hint, found.length === 0 ? none : rest > 0 ? `${rest} more: search by title` : "");
    const buttons = [...list.querySelectorAll("button")];
    const stop = buttons.find((button) => button.hasAttribute("aria-current")) ?? buttons[0];
    if (stop) this.#stopAt(stop);
    const focused = buttons.find(({ dataset }) => dataset.thread === at);
    if (focused) this.#focus(focused);
  }

  #item({ key, title, open }, thread) {
    const button = element("button", { type: "button", tabIndex: -1 }, element("span", { className: "title" }, title.slice(0, LONGEST_TITLE)));
    button.dataset.thread = key;
    if (key === thread) button.setAttribute("aria-current", "true");
    if (open) button.append(element("span", { className: "badge" }, "open"));
    button.addEventListener("click", () => {
      this.close();
      this.#onChoose(key);
    });
    return element("li", {}, button);
  }
}
