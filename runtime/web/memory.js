/** This tab's session storage, which survives a reload: text that was written and not sent. */

const PREFIX = "lockstep.";

/** Access, which a browser may deny. */
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
      // Without it, a reload loses unsent text. Everything else works.
    }
  },
};

/** Clears it, including unsent messages, because another user will use this browser. */
export function forgetUnsent() {
  try {
    for (const key of Object.keys(sessionStorage)) if (key.startsWith(PREFIX)) sessionStorage.removeItem(key);
  } catch {
    // Then there is nothing to clear.
  }
}
