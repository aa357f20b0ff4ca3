/** This tab's memory, which a reload survives: what was written and not sent. */

const PREFIX = "lockstep.";

/** A browser may deny it. */
export const memory = {
  load(key) {
    try {
      return JSON.parse(sessionStorage.getItem(key) ?? "null");
    } catch {
      return null;
    }
  },
  save(key, value) {
    try {
      if (value === null) sessionStorage.removeItem(key);
      else sessionStorage.setItem(key, JSON.stringify(value));
    } catch {
      // Without it, a reload loses what was not sent. Everything else works.
    }
  },
};

/** Forgets all of it, unsent messages included: another user is to use this browser. */
export function forgetUnsent() {
  try {
    for (const key of Object.keys(sessionStorage)) if (key.startsWith(PREFIX)) sessionStorage.removeItem(key);
  } catch {
    // There is nothing to forget then.
  }
}
