/**
 * Reads the conversations that the gateway keeps beyond the stream's window, in pages: the list of threads, and their
 * turns. A gateway whose log keeps no conversations answers 404; the page then has only the stream.
 */

/** The threads per page of the list, and the most threads of the whole list. */
const LISTED = 100;
export const MAX_LISTED = 1_000;

/** The turns per page of a thread. */
export const TURNS = 20;

/** The pause after a failed request, in milliseconds, which doubles with each failure; and the most attempts. */
const FIRST_PAUSE = 2_000;
const MAX_TRIES = 4;

/**
 * @typedef {{title: string|null, at: number, open: boolean}} Listed
 * @typedef {{next: number|null|undefined, state: "ready"|"loading"|"failed"}} Page
 *   `next`: where the previous page begins, null if there is none, undefined until the first page has arrived
 */

export class Past {
  #api;
  #clock;
  #changed;
  /** @type {Map<string, Listed>} by the thread's key */ threads = new Map();
  /** @type {Map<string, Page>} */ #pages = new Map();
  /** The cursor of the next page of the list. @type {string|null|undefined} */ #next = undefined;
  /** @type {Promise<void>|null} */ #listing = null;
  /** Threads that were deleted while a page of the list was loading. @type {Set<string>} */ #deleted = new Set();
  #isMissing = false;
  #isLate = false;
  #isOver = false;

  /**
   * @param {{ask: (path: string, request?: {method?: string, body?: string, type?: string}) => Promise<any>}} api
   * @param {() => void} changed called when there is more content, or the state of loading has changed
   * @param {{setTimeout: (run: () => void, after: number) => any}} [clock]
   */
  constructor(api, changed, clock = globalThis) {
    this.#api = api;
    this.#changed = changed;
    this.#clock = clock;
  }

  /** Whether the gateway lacks these routes, as far as known. */
  get isMissing() {
    return this.#isMissing;
  }

  /** Whether the first page of the list is still loading, and not late. */
  get isListing() {
    return this.#next === undefined && this.#listing !== null && !this.#isLate;
  }

  /** The state of a thread's pages. @returns {Page} */
  page(key) {
    return this.#pages.get(key) ?? { next: undefined, state: "ready" };
  }

  /** Renames a thread; null restores the original title. @param {string|null} title */
  async rename(key, title) {
    const body = JSON.stringify({ title });
    await this.#api.ask(`threads?thread_id=${encodeURIComponent(key)}`, { method: "PATCH", body, type: "application/json" });
    await this.list();
  }

  /** Deletes a thread permanently. Once the gateway has done so, {@link drop} it. */
  async delete(key) {
    await this.#api.ask(`threads?thread_id=${encodeURIComponent(key)}`, { method: "DELETE" });
  }

  /**
   * Removes a deleted thread and its pending pages. A thread with later messages is a new conversation.
   * @param {string} key
   * @param {number} [at] when it was deleted
   * @returns {boolean} whether it was listed
   */
  drop(key, at = Infinity) {
    this.#pages.delete(key);
    this.#deleted.add(key);
    return (this.threads.get(key)?.at ?? Infinity) <= at && this.threads.delete(key);
  }

  /** Removes everything: the stream has a new epoch. */
  forget() {
    this.threads.clear();
    this.#pages.clear();
    this.#next = undefined;
  }

  /** Ignores all pending answers. */
  end() {
    this.#isOver = true;
  }

  /** Loads the first page of the list, even if it is already loaded. */
  list() {
    return this.#list(() => this.#listPage(undefined));
  }

  /** Loads the rest of the list. */
  listAll() {
    return this.#list(async () => {
      while (this.#next && this.threads.size < MAX_LISTED) await this.#listPage(this.#next);
    });
  }

  #list(run) {
    if (this.#isMissing || this.#isOver) return Promise.resolve();
    const before = this.#listing ?? Promise.resolve();
    const listing = before.then(run).catch(() => {}).finally(() => {
      if (this.#listing === listing) this.#listing = null;
      if (!this.#isOver) this.#changed();
    });
    this.#listing = listing;
    return listing;
  }

  async #listPage(before) {
    const cursor = before === undefined ? "" : `&before=${encodeURIComponent(before)}`;
    this.#deleted.clear();
    const { threads, next = null } = await this.#ask(`threads?limit=${LISTED}${cursor}`);
    for (const { thread_id: named, title, updated_at: at, open } of listOf(threads)) {
      const key = named ?? "";
      if (this.#deleted.has(key)) continue;
      this.threads.set(key, { title: typeof title === "string" ? title : null, at: Number(at) || 0, open: open === true });
    }
    // Reloading the first page does not shorten the list.
    if (before !== undefined || this.#next === undefined) this.#next = next;
    if (!this.#isOver) this.#changed();
  }

  /**
   * Loads the newest turns of a thread.
   * @returns {Promise<any[]|null>} their events, or null if they could not be loaded
   */
  newest(key) {
    return this.#load(key, undefined);
  }

  /** Loads the turns before an offset. @returns {Promise<any[]|null>} */
  earlier(key, before) {
    return this.#load(key, before);
  }

  async #load(key, before) {
    const known = this.page(key);
    if (this.#isMissing || this.#isOver || known.state === "loading") return null;
    /** @type {Page} */ const loading = { ...known, state: "loading" };
    // An answer that arrives after the thread was deleted, or the epoch is over, is stale.
    const isStale = () => this.#isOver || this.#pages.get(key) !== loading;
    this.#pages.set(key, loading);
    this.#changed();
    const named = key === "" ? "" : `&thread_id=${encodeURIComponent(key)}`;
    const cursor = before === undefined ? "" : `&before=${before}`;
    try {
      const { events, next = null } = await this.#ask(`threads/turns?limit=${TURNS}${named}${cursor}`);
      if (isStale()) return null;
      this.#pages.set(key, { next: next === null ? null : Number(next), state: "ready" });
      return listOf(events);
    } catch ({ isMissing }) {
      if (isStale()) return null;
      // A thread that is not kept is new.
      this.#pages.set(key, { next: isMissing ? null : known.next, state: isMissing ? "ready" : "failed" });
      return null;
    } finally {
      if (!this.#isOver) this.#changed();
    }
  }

  /** Sends a request, and retries after a pause if the gateway cannot answer. */
  async #ask(path) {
    for (let tries = 1; ; tries++) {
      try {
        return await this.#api.ask(path);
      } catch (error) {
        const { status, isMissing, after } = error;
        if (path.startsWith("threads?")) {
          this.#isMissing = isMissing;
          this.#isLate = true;
          if (!this.#isOver) this.#changed();
        }
        const isWorthIt = status === 0 || status === 429 || status >= 500;
        if (!isWorthIt || tries === MAX_TRIES || this.#isOver) throw error;
        await new Promise((resolve) => this.#clock.setTimeout(resolve, after ?? FIRST_PAUSE * 2 ** (tries - 1)));
      }
    }
  }
}

const listOf = (value) => (Array.isArray(value) ? value : []);
