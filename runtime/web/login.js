/** The two login forms: with a user name and a password, or with a token of another issuer. */
import { set } from "./dom.js";
import { LoginRefused } from "./session.js";

/** @param {string} id @returns {any} */
const $ = (id) => document.getElementById(id);

function explain(id, why) {
  $(id).hidden = why === "";
  set($(id), why);
}

function refuse(id, why, input) {
  set($(id), why);
  input.setAttribute("aria-invalid", "true");
  input.focus();
  input.select();
}

export class LoginForm {
  #session;
  #onLogin;

  /** @param {{session: import("./session.js").Session, onLogin: () => void}} options */
  constructor({ session, onLogin }) {
    this.#session = session;
    this.#onLogin = onLogin;
    $("login-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
  }

  /** @param {string} why what the user should know @param {string} [user] who should log in again */
  ask(why, user = $("username").value) {
    explain("login-why", why);
    set($("login-error"), "");
    $("password").value = "";
    $("username").value = user;
    (user === "" ? $("username") : $("password")).focus();
  }

  async #submit() {
    const [username, password] = [$("username"), $("password")];
    set($("login-error"), "");
    for (const input of [username, password]) input.removeAttribute("aria-invalid");
    const missing = [username, password].find((input) => input.value === "");
    if (missing) return refuse("login-error", `Enter your ${missing === username ? "user name" : "password"}.`, missing);
    this.#busy(true);
    try {
      await this.#session.login(username.value, password.value);
    } catch (error) {
      if (!(error instanceof LoginRefused)) throw error;
      return refuse("login-error", error.message, password);
    } finally {
      this.#busy(false);
    }
    password.value = "";
    this.#onLogin();
  }

  /** Nothing is disabled, so that focus stays where it is. */
  #busy(isBusy) {
    $("login-form").setAttribute("aria-busy", String(isBusy));
    set($("login-button"), isBusy ? "Logging in…" : "Log in");
  }
}

/** Takes a token from the user. Only the session gets it: the field has no name, so that no form sends it. */
export class TokenForm {
  #session;
  #onLogin;

  /** @param {{session: import("./session.js").Session, onLogin: () => void, onBack: () => void}} options */
  constructor({ session, onLogin, onBack }) {
    this.#session = session;
    this.#onLogin = onLogin;
    $("token-back").addEventListener("click", () => {
      $("token").value = "";
      onBack();
    });
    $("token-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
  }

  /** @param {string} why what the user should know @param {boolean} [isLive] whether there is a chat to go back to */
  ask(why, isLive = false) {
    explain("token-why", why);
    set($("token-error"), "");
    $("token-back").hidden = !isLive;
    $("token").value = "";
    $("token").focus();
  }

  #submit() {
    const input = $("token");
    set($("token-error"), "");
    input.removeAttribute("aria-invalid");
    if (input.value.trim() === "") return refuse("token-error", "Paste a token.", input);
    try {
      this.#session.present(input.value);
    } catch (error) {
      if (!(error instanceof LoginRefused)) throw error;
      return refuse("token-error", error.message, input);
    }
    input.value = "";
    this.#onLogin();
  }
}
