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
  // A second press, while the first is still said, must not take that for the button's name.
  const { label = button.textContent, name = button.getAttribute("aria-label") ?? "" } = button.dataset;
  Object.assign(button.dataset, { label, name });
  button.textContent = isCopied ? "Copied" : "Not copied";
  button.removeAttribute("aria-label");
  announce(isCopied ? "Copied." : "It could not be copied.");
  setTimeout(() => {
    button.textContent = label;
    if (name !== "") button.setAttribute("aria-label", name);
  }, SAID);
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
