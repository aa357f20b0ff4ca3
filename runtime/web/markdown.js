/**
 * Has the gateway parse Markdown, and caches the trees of complete texts. It sends one request at a time: a few per
 * second for a growing text, one for its end. If the route is missing or fails there is no tree, and the page shows
 * plain text. No DOM: `tree.js` makes elements from a tree.
 */

/** The pause between two requests for growing texts, in milliseconds. */
export const PACE = 300;

/** The pause grows by a millisecond per this many characters of the text, which is sent whole each time. */
export const STRETCH = 32;

/** The pause after a failed request, in milliseconds. It doubles with each failure. */
export const FIRST_PAUSE = 1_000;
export const LONGEST_PAUSE = 30_000;

/** The most trees that are kept, and the most characters of their texts. */
export const MAX_KEPT = 500;
const MAX_KEPT_CHARACTERS = 4_000_000;

/** The longest text that is sent, in characters: the gateway accepts 256 KiB. */
export const MAX_TEXT = 256 * 1024;

/** @typedef {string|[string, ...any[]]} Tree a text, or an element in JsonML */

/**
 * @typedef {object} Reader
 * @property {() => boolean} isShown whether its text is still needed
 * @property {(text: string, tree: Tree) => void} show receives the tree of a text that it wanted
 */

export class Markdown {
  #parse;
  #clock;
  /** @type {Map<string, Tree|null>} null: it has no tree. Least recently used first. */ #kept = new Map();
  #characters = 0;
  /** @type {Map<Reader, {text: string, isComplete: boolean}>} the newest want is the last */ #wants = new Map();
  #isAsking = false;
  #isMissing = false;
  #failures = 0;
  #isPaused = false;
  /** When the next request for a growing text may be sent. */ #growAt = -Infinity;
  #timer = null;

  /**
   * @param {(text: string) => Promise<Tree>} parse asks the gateway; rejects with a `Refused`
   * @param {import("./terms.js").Timers} [clock]
   */
  constructor(parse, clock = TIMERS) {
    this.#parse = parse;
    this.#clock = clock;
  }

  /** The tree of a complete text, if there is one here. @param {string} text @returns {Tree|null} */
  known(text) {
    const tree = this.#kept.get(text);
    if (tree === undefined) return null;
    this.#kept.delete(text);
    this.#kept.set(text, tree);
    return tree;
  }

  /**
   * Requests the tree of a text for a reader. It replaces the reader's previous request.
   * @param {Reader} reader
   * @param {string} text
   * @param {boolean} isComplete whether the text no longer grows
   */
  want(reader, text, isComplete) {
    this.#wants.delete(reader);
    const isHopeless = this.#isMissing || this.#kept.has(text) || text.length > MAX_TEXT || text.trim() === "";
    if (isHopeless) return;
    this.#wants.set(reader, { text, isComplete });
    this.#next();
  }

  /** Clears the cache, as when another user logs in. */
  forget() {
    this.#wants.clear();
    this.#kept.clear();
    this.#characters = 0;
    this.#isMissing = false;
  }

  #next() {
    if (this.#isAsking || this.#isPaused) return;
    for (const reader of this.#wants.keys()) if (!reader.isShown()) this.#wants.delete(reader);
    const wants = [...this.#wants];
    const wait = this.#growAt - this.#clock.now();
    const next = wants.findLast(([, { isComplete }]) => isComplete || wait <= 0);
    if (next) this.#ask(...next);
    else if (wants.length > 0) this.#after(wait);
  }

  #after(wait) {
    if (this.#timer !== null) this.#clock.clearTimeout(this.#timer);
    this.#timer = this.#clock.setTimeout(() => {
      this.#timer = null;
      this.#isPaused = false;
      this.#next();
    }, wait);
  }

  async #ask(reader, want) {
    this.#isAsking = true;
    if (!want.isComplete) this.#growAt = this.#clock.now() + PACE + Math.floor(want.text.length / STRETCH);
    try {
      this.#took(reader, want, await this.#parse(want.text));
      this.#failures = 0;
    } catch (error) {
      this.#failed(reader, want, error);
    }
    this.#isAsking = false;
    this.#next();
  }

  #took(reader, want, tree) {
    if (this.#wants.get(reader) === want) this.#wants.delete(reader);
    if (want.isComplete) this.#keep(want.text, tree);
    if (reader.isShown()) reader.show(want.text, tree);
  }

  #failed(reader, want, { status, isMissing, after }) {
    const isRefused = status >= 400 && status < 500 && status !== 401 && status !== 408 && status !== 429;
    if (isMissing) {
      this.#isMissing = true;
      this.#wants.clear();
    } else if (isRefused) {
      // The text itself is the cause.
      if (this.#wants.get(reader) === want) this.#wants.delete(reader);
      this.#keep(want.text, null);
    } else {
      this.#isPaused = true;
      this.#after(after ?? Math.min(FIRST_PAUSE * 2 ** this.#failures, LONGEST_PAUSE));
      this.#failures += 1;
    }
  }

  #keep(text, tree) {
    if (!this.#kept.has(text)) this.#characters += text.length;
    this.#kept.set(text, tree);
    for (const oldest of this.#kept.keys()) {
      if (this.#kept.size <= MAX_KEPT && this.#characters <= MAX_KEPT_CHARACTERS) return;
      this.#kept.delete(oldest);
      this.#characters -= oldest.length;
    }
  }
}

/** @type {import("./terms.js").Timers} */
const TIMERS = {
  setTimeout: (run, after) => globalThis.setTimeout(run, after),
  clearTimeout: (timer) => globalThis.clearTimeout(timer),
  now: () => performance.now(),
};
