/**
 * The login session. The refresh credential is a cookie that no script can read; only this object keeps access tokens.
 */

/** The user must log in; `reason` says why. */
export class LoginNeeded extends Error {
  /** @param {"none"|"ended"|"other user"|"foreign"} reason `foreign`: the user must provide another issuer's token */
  constructor(reason) {
    super(`log in needed: ${reason}`);
    this.reason = reason;
  }
}

/** A login was refused; `message` is for the user. */
export class LoginRefused extends Error {}

const FIRST_PAUSE = 1_000;
const LONGEST_PAUSE = 30_000;

/** The name of a user, in whichever form the gateway sends it. */
const nameOf = (user) => (typeof user === "object" && user ? (user.name ?? user.username ?? user.id) : user);

/** One word that can be sent in a header. */
const TOKEN = /^[\x21-\x7e]{1,16384}$/;

/** A token's subject, only for display: the gateway verifies it. Null if it is not a JWT. @param {string} token */
function subjectOf(token) {
  try {
    const claims = atob(token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/"));
    const { sub } = JSON.parse(new TextDecoder().decode(Uint8Array.from(claims, (byte) => byte.charCodeAt(0))));
    return typeof sub === "string" ? sub : null;
  } catch {
    return null;
  }
}

/** The time limit of an answer, in milliseconds. A login checks a password, which is slow by design. */
const ANSWER = 8_000;
const LOGIN_ANSWER = 30_000;

/** An access token that expires within this time is no longer used, in milliseconds. */
const MARGIN = 5_000;

/** How long to wait for another tab, in milliseconds. It may be frozen while it holds the lock. */
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
    // Not JSON: a proxy's answer, or none.
  }
  return { response, answer };
}

/** The seconds of `Retry-After`. */
const retryAfter = (response) => Math.max(1, Number.parseInt(response.headers.get("retry-after") ?? "", 10) || 1);

/**
 * Runs in one tab at a time: a refresh may exchange the cookie, and two at once would present the same one twice. This
 * is not essential, because the gateway tolerates it: a tab that waits too long goes ahead.
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
  /** @type {string|null} a token that came with a login and was not requested yet */ #fresh = null;
  /** The newest access token, and when it expires. @type {{token: string, until: number}|null} */ #held = null;
  #isForeign = false;
  #tabs = new BroadcastChannel("lockstep-session");

  /** @param {{onLogout: () => void}} events `onLogout`: the user has logged out in another tab */
  constructor({ onLogout }) {
    this.#tabs.onmessage = ({ data }) => data === "logout" && this.#user !== null && onLogout();
  }

  /** The user's name, or null. */
  get user() {
    return this.#user;
  }

  /** Whether the gateway has no login of its own: the user must paste tokens of another issuer. */
  get isForeign() {
    return this.#isForeign;
  }

  /**
   * Sets a token of another issuer. This object keeps it until it is forgotten or the page is gone.
   * @param {string} text
   * @throws {LoginRefused} if it is not a token
   */
  present(text) {
    const token = text.trim().replace(/^bearer\s+/i, "");
    if (!TOKEN.test(token)) throw new LoginRefused("This is not a token: it contains spaces, or characters that tokens do not contain.");
    this.#user = subjectOf(token);
    this.#fresh = token;
    this.#held = { token, until: Infinity };
  }

  /**
   * Resumes the session of the cookie, if there is one.
   * @returns {Promise<boolean>} whether there is one
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
    this.#fresh = this.#hold(answer);
  }

  /**
   * A fresh access token. Retries while the gateway cannot be reached.
   * @returns {Promise<string>}
   * @throws {LoginNeeded}
   */
  async token() {
    if (this.#fresh) {
      const token = this.#fresh;
      this.#fresh = null;
      return token;
    }
    if (this.#isForeign) throw new LoginNeeded("foreign");
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
   * An access token for a request: the current one, unless a fresh one is required.
   * @param {boolean} isFresh
   * @returns {Promise<string>}
   * @throws {LoginNeeded}
   */
  async bearer(isFresh) {
    if (!isFresh && this.#held !== null && Date.now() < this.#held.until) return this.#held.token;
    return this.token();
  }

  /**
   * @param {boolean} everywhere whether every session of the user ends
   * @throws {Error} if the gateway did not do so: the user is still logged in
   */
  async logout(everywhere) {
    if (this.#isForeign) return this.forget();
    const { response } = await inTurn(() => post("auth/logout", everywhere ? { everywhere } : {}));
    if (!response.ok && response.status !== 401) throw new Error(`status ${response.status}`);
    this.forget();
    this.#tabs.postMessage("logout");
  }

  /** Forgets the user and the tokens. */
  forget() {
    this.#user = null;
    this.#fresh = null;
    this.#held = null;
  }

  #hold({ token, expires_in: seconds }) {
    this.#held = { token, until: Date.now() + (seconds > 0 ? seconds * 1_000 : 0) - MARGIN };
    return token;
  }

  async #refresh() {
    const { response, answer } = await post("auth/refresh");
    if (response.status === 404 || response.status === 405) {
      this.#isForeign = true;
      throw new LoginNeeded("foreign");
    }
    if (response.status === 401 || response.status === 403) throw new LoginNeeded(this.#user === null ? "none" : "ended");
    if (!response.ok || !answer?.token) {
      const after = response.status === 429 ? retryAfter(response) * 1_000 : undefined;
      throw Object.assign(new Error(`status ${response.status}`), { after });
    }
    const user = nameOf(answer.user);
    // Another user has logged in in another tab: the content shown here is not theirs.
    if (this.#user !== null && user !== this.#user) throw new LoginNeeded("other user");
    this.#user = user;
    return this.#hold(answer);
  }
}
