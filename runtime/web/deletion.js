/** The dialog that asks whether to delete a conversation, and waits until it is deleted. */
import { set } from "./dom.js";

/** The most characters of a title that are shown. */
const LONGEST_TITLE = 200;

export class DeletionDialog {
  #root;
  #title;
  #confirm;
  #cancel;
  #onConfirm;
  /** The thread to delete. @type {string|null} */ #thread = null;
  #isDeleting = false;

  /**
   * @param {HTMLDialogElement} root
   * @param {(thread: string) => Promise<void>} onConfirm settles when the thread is deleted, or could not be
   */
  constructor(root, onConfirm) {
    this.#root = root;
    this.#onConfirm = onConfirm;
    [this.#title, this.#cancel, this.#confirm] = ["title", "cancel", "confirm"].map((name) => root.querySelector(`#deletion-${name}`));
    this.#cancel.addEventListener("click", () => this.#isDeleting || this.close());
    this.#confirm.addEventListener("click", () => this.#delete());
    // A requested deletion cannot be cancelled.
    root.addEventListener("cancel", (event) => this.#isDeleting && event.preventDefault());
  }

  /** Opens the dialog. Cancel has focus first. */
  ask(thread, title) {
    this.#thread = thread;
    set(this.#title, title.slice(0, LONGEST_TITLE));
    this.#draw();
    this.#root.showModal();
  }

  /** Closes the dialog, if it is open for that thread. Without a thread, always. Focus returns to where it was. */
  close(thread = this.#thread) {
    if (this.#root.open && thread === this.#thread) this.#root.close();
  }

  async #delete() {
    if (this.#isDeleting) return;
    const thread = this.#thread;
    this.#isDeleting = true;
    this.#draw();
    await this.#onConfirm(thread);
    this.#isDeleting = false;
    this.#draw();
    this.close(thread);
  }

  #draw() {
    for (const button of [this.#cancel, this.#confirm]) button.setAttribute("aria-disabled", String(this.#isDeleting));
    set(this.#confirm, this.#isDeleting ? "Deleting…" : "Delete");
  }
}
