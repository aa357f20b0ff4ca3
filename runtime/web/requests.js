/** Client requests with their own answers: each is settled once, and never repeated. A part of `client.js`. */

/** @typedef {{thread_id: string|null, title: string|null, updated_at: number, open: boolean}} Listed a thread of a user */

/** Why a request has no answer. */
export class RequestError extends Error {
  /**
   * @param {string} code the code of the gateway's `error`; or `closed`: there is no connection, or it was lost before
   *   the answer; or `timeout`: there was no answer in time
   * @param {string} text
   */
  constructor(code, text) {
    super(text || code);
    this.code = code;
  }
}

export class Requests {
  #clock;
  /** @type {Map<string, {resolve: (frame: Record<string, any>) => void, reject: (error: RequestError) => void, timer: any}>} */
  #waiting = new Map();

  /** @param {import("./terms.js").Timers} clock */
  constructor(clock) {
    this.#clock = clock;
  }

  /**
   * @param {string} id
   * @param {() => boolean} write writes the request, and returns whether a socket accepted it
   * @param {number} patience how long to wait, in milliseconds
   * @returns {Promise<Record<string, any>>} the frame of the answer
   */
  send(id, write, patience) {
    return new Promise((resolve, reject) => {
      if (!write()) return reject(new RequestError("closed", "there is no connection"));
      const late = () => this.#take(id)?.reject(new RequestError("timeout", "the gateway has not answered in time"));
      this.#waiting.set(id, { resolve, reject, timer: this.#clock.setTimeout(late, patience) });
    });
  }

  /** Settles the request that a frame answers, if it is still pending. @param {Record<string, any>} frame */
  answer(frame) {
    const request = this.#take(frame.request_id);
    if (frame.type === "error") request?.reject(new RequestError(frame.code, frame.message));
    else request?.resolve(frame);
  }

  /** Rejects all pending requests: the connection is gone. */
  close() {
    for (const id of [...this.#waiting.keys()]) {
      this.#take(id)?.reject(new RequestError("closed", "the connection was lost before the answer"));
    }
  }

  #take(id) {
    const request = this.#waiting.get(id);
    this.#waiting.delete(id);
    this.#clock.clearTimeout(request?.timer);
    return request;
  }
}
