/** Copies text, even if the page was loaded over plain HTTP and has no `navigator.clipboard`. */

/** How long a button shows the result, in milliseconds. */
const SAID = 1_500;

/** @type {(text: string) => void} */
let announce = () => {};

/** Sets the function that announces the result to screen readers. @param {(text: string) => void} say */
export function announceCopies(say) {
  announce = say;
}

/**
 * Copies a text, and shows the result on the button.
 * @param {string} text
 * @param {HTMLElement} button
 */
export async function copy(text, button) {
  const isCopied = await write(text);
  // While a result is shown, a second press must not take it for the button's label.
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
