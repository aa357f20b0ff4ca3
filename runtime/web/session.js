/**
 * Who is logged in. The refresh credential is a cookie that no script can read; an access token is handed to whoever
 * asked for it, and kept nowhere.
 */

/** The user must log in; `reason` says why. */
export class LoginNeeded extends Error {
  /** @param {"none"|"ended"|"other user"} reason */
  constructor(reason) {
    super(`log in needed: ${reason}`);
    this.reason = reason;
  }
}

/** A log in was refused; `message` is for the user. */
export class LoginRefused extends Error {}

const FIRST_PAUSE = 1_000;
const LONGEST_PAUSE = 30_000;

/** The name of a user, in whichever form the gateway tells it. */
const nameOf = (user) => (typeof user === "object" && user ? (user.name ?? user.username ?? user.id) : user);

/** How long an answer may take, in milliseconds. A login checks a password, which is slow by design. */
const ANSWER = 8_000;
const LOGIN_ANSWER = 30_000;

/** How long another tab is waited for, in milliseconds. It may be frozen while it holds the lock. */
const TURN = 4_000;

/** @throws {Error} if the gateway cannot be reached, or does not answer in time */
async function post(path, body, within = ANSWER) {
  const headers = body ? { "content-type": "application/json" } : {};
  const late = new AbortController();
  const timer = setTimeout(() => late.abort(), within);
  const request = { method: "POST", headers, body: body && JSON.stringify(body), cache: "no-store", signal: late.signal };
  try {
    return await answerOf(await fetch(path, request));
  } finally {
    clearTimeout(timer);
  }
}

async function answerOf(response) {
  const text = await response.text();
  let answer = null;
  try {
    answer = JSON.parse(text);
  } catch {
    // No JSON: a proxy's answer, or none.
  }
  return { response, answer };
}

/** Seconds, as `Retry-After` tells them. */
const retryAfter = (response) => Math.max(1, Number.parseInt(response.headers.get("retry-after") ?? "", 10) || 1);

/**
 * One tab at a time: a refresh may exchange the cookie, and two at once would present the same one twice. That is a
 * courtesy, which the gateway bears without: a tab whose turn does not come goes ahead.
 */
async function inTurn(run) {
  if (!navigator.locks) return run();
  const late = new AbortController();
  const timer = setTimeout(() => late.abort(), TURN);
  let isOurs = false;
  const begin = () => {
    isOurs = true;
    clearTimeout(timer);
    return run();
  };
  try {
    return await navigator.locks.request("lockstep-refresh", { signal: late.signal }, begin);
  } catch (error) {
    if (isOurs) throw error;
    return run();
  } finally {
    clearTimeout(timer);
  }
}

export class Session {
  /** @type {string|null} */ #user = null;
  /** @type {string|null} a token that came with a log in and nobody has asked for yet */ #fresh = null;
  #tabs = new BroadcastChannel("lockstep-session");

  /** @param {{onLogout: () => void}} events `onLogout`: the user has logged out in another tab */
  constructor({ onLogout }) {
    this.#tabs.onmessage = ({ data }) => data === "logout" && this.#user !== null && onLogout();
  }

  /** The user's name, or null. */
  get user() {
    return this.#user;
  }

  /**
   * Takes up the session of the cookie, if there is one.
   * @returns {Promise<boolean>} whether there is
   * @throws {Error} if the gateway cannot be reached, or does not answer in time
   */
  async resume() {
    try {
      this.#fresh = await inTurn(() => this.#refresh());
      return true;
    } catch (error) {
      if (error instanceof LoginNeeded) return false;
      throw error;
    }
  }

  /**
   * @param {string} username
   * @param {string} password
   * @throws {LoginRefused} with a sentence for the user
   */
  async login(username, password) {
    let result;
    try {
      result = await inTurn(() => post("auth/login", { username, password }, LOGIN_ANSWER));
    } catch {
      throw new LoginRefused("The gateway cannot be reached. Check your network and try again.");
    }
    const { response, answer } = result;
    if (response.status === 429) {
      throw new LoginRefused(`Too many attempts. Try again in ${retryAfter(response)} s.`);
    }
    if (response.status === 401) throw new LoginRefused("The user name or the password is wrong.");
    if (!response.ok || !answer?.token) {
      throw new LoginRefused(answer?.error?.message ?? `The gateway could not log you in (${response.status}).`);
    }
    this.#user = nameOf(answer.user);
    this.#fresh = answer.token;
  }

  /**
   * A fresh access token. Tries again by itself while the gateway cannot be reached.
   * @returns {Promise<string>}
   * @throws {LoginNeeded}
   */
  async token() {
    if (this.#fresh) {
      const token = this.#fresh;
      this.#fresh = null;
      return token;
    }
    for (let pause = FIRST_PAUSE; ; pause = Math.min(pause * 2, LONGEST_PAUSE)) {
      try {
        return await inTurn(() => this.#refresh());
      } catch (error) {
        if (error instanceof LoginNeeded) throw error;
        const after = error.after ?? pause * (0.5 + Math.random() / 2);
        await new Promise((resolve) => setTimeout(resolve, after));
      }
    }
  }

  /**
   * @param {boolean} everywhere whether every session of the user ends
   * @throws {Error} if the gateway did not do it: the user is still logged in
   */
  async logout(everywhere) {
    const { response } = await inTurn(() => post("auth/logout", everywhere ? { everywhere } : {}));
    if (!response.ok && response.status !== 401) throw new Error(`status ${response.status}`);
    this.forget();
    this.#tabs.postMessage("logout");
  }

  /** Forgets who was logged in. */
  forget() {
    this.#user = null;
    this.#fresh = null;
  }

  async #refresh() {
    const { response, answer } = await post("auth/refresh");
    if (response.status === 401 || response.status === 403) throw new LoginNeeded(this.#user === null ? "none" : "ended");
    if (!response.ok || !answer?.token) {
      const after = response.status === 429 ? retryAfter(response) * 1_000 : undefined;
      throw Object.assign(new Error(`status ${response.status}`), { after });
    }
    const user = nameOf(answer.user);
    // Somebody else has logged in in another tab: what is shown here is not theirs.
    if (this.#user !== null && user !== this.#user) throw new LoginNeeded("other user");
    this.#user = user;
    return answer.token;
  }
}
