/** Copies text, also where the page came by plain HTTP and has no `navigator.clipboard`. */

/** For how long a button says that it has copied, in milliseconds. */
const SAID = 1_500;

/** @type {(text: string) => void} */
let announce = () => {};

/** Where it is said to users who do not see the button. @param {(text: string) => void} say */
export function announceCopies(say) {
  announce = say;
}

/**
 * Copies a text, and has the button say so.
 * @param {string} text
 * @param {HTMLElement} button
 */
export async function copy(text, button) {
  const isCopied = await write(text);
  const label = isCopied ? "Copied" : "Not copied";
  const before = button.dataset.label ?? button.textContent;
  button.dataset.label = before;
  button.textContent = label;
  announce(isCopied ? "Copied." : "It could not be copied.");
  setTimeout(() => (button.textContent = before), SAID);
}

async function write(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return writeBySelection(text);
  }
}

function writeBySelection(text) {
  const focused = document.activeElement;
  const field = document.createElement("textarea");
  field.className = "unseen";
  field.value = text;
  document.body.append(field);
  field.select();
  try {
    return document.execCommand("copy");
  } catch {
    return false;
  } finally {
    field.remove();
    if (focused instanceof HTMLElement) focused.focus();
  }
}
