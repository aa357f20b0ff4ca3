/** Authenticated requests to the gateway's routes. */
import { LoginNeeded } from "./session.js";

/** The time limit of an answer, in milliseconds. */
const ANSWER = 10_000;

/** A route refused a request, or did not answer. */
export class Refused extends Error {
  /**
   * @param {number} status 0 if there was no answer
   * @param {number|null} after how long the gateway asks to wait, in milliseconds
   */
  constructor(status, after = null) {
    super(status === 0 ? "no answer" : `status ${status}`);
    this.status = status;
    this.after = after;
  }

  /** Whether the route does not exist. */
  get isMissing() {
    return this.status === 404 || this.status === 405;
  }
}

export class Api {
  #session;

  /** @param {{bearer: (isFresh: boolean) => Promise<string>}} session provides access tokens, new ones if required */
  constructor(session) {
    this.#session = session;
  }

  /**
   * @param {string} path relative to the page
   * @param {{method?: string, body?: string, type?: string}} [request]
   * @returns {Promise<any>} the answer's JSON, null if there is none
   * @throws {Refused}
   */
  async ask(path, request = {}) {
    try {
      return await this.#once(path, request, await this.#session.bearer(false));
    } catch (error) {
      // The token may have expired in transit.
      if (!(error instanceof Refused) || error.status !== 401) throw asRefused(error);
    }
    try {
      return await this.#once(path, request, await this.#session.bearer(true));
    } catch (error) {
      throw asRefused(error);
    }
  }

  async #once(path, { method = "GET", body, type }, token) {
    const late = new AbortController();
    const timer = setTimeout(() => late.abort(), ANSWER);
    const headers = { authorization: `Bearer ${token}`, ...(type ? { "content-type": type } : {}) };
    try {
      const response = await fetch(path, { method, headers, body, cache: "no-store", signal: late.signal });
      if (!response.ok) throw new Refused(response.status, waitOf(response));
      return response.status === 204 ? null : await response.json();
    } finally {
      clearTimeout(timer);
    }
  }
}

/** @param {unknown} error */
function asRefused(error) {
  if (error instanceof Refused) return error;
  return new Refused(error instanceof LoginNeeded ? 401 : 0);
}

/** `Retry-After`, in milliseconds. @param {Response} response */
function waitOf(response) {
  const seconds = Number.parseInt(response.headers.get("retry-after") ?? "", 10);
  return Number.isFinite(seconds) ? seconds * 1_000 : null;
}
