/** The page: login, the chat, and their connection to the document. */
import { Api } from "./api.js";
import { Chat } from "./chat.js";
import { announceCopies } from "./clipboard.js";
import { DeletionDialog } from "./deletion.js";
import { set } from "./dom.js";
import { LoginForm, TokenForm } from "./login.js";
import { Markdown } from "./markdown.js";
import { forgetUnsent } from "./memory.js";
import { Menu } from "./menu.js";
import { Session } from "./session.js";
import { ConversationView } from "./view.js";
import { ACTION_NAMES, OLDER, TOKEN_ENDS, TOKEN_NEEDED, describe, tokenNeeded, tooLong, unreachable } from "./words.js";

/** @param {string} id @returns {any} */
const $ = (id) => document.getElementById(id);

const FIRST_PAUSE = 1_000;
const LONGEST_PAUSE = 15_000;

/** The most characters of a title. */
const LONGEST_TITLE = 200;

/** The most characters of a thread's name. */
const LONGEST_THREAD = 128;

/** @type {Chat|null} */
let chat = null;
const session = new Session({ onLogout: () => end("You have logged out in another tab.") });
const api = new Api(session);
const markdown = new Markdown(async (text) => (await api.ask("markdown", { method: "POST", body: text, type: "text/markdown" })).tree);
const view = new ConversationView({
  markdown,
  announce,
  scroller: $("conversation"),
  list: $("turns"),
  onAgain: (id) => attempt(() => chat?.again(id)),
  onEdit: (id) => edit(id),
  onDiscard: (id) => chat?.discard(id),
  onTakeBack: (run) => chat?.takeBack(run),
  onRepeat: (run) => deliver(() => chat?.repeat(run)),
  onRevise: (run) => revise(run),
  onReply: (run, pause, payload) => chat?.reply(run, pause, payload),
  onScroll: (atEnd) => ($("down").hidden = atEnd),
});

// ---- the shown section ----

function show(which) {
  for (const id of ["splash", "login", "token-entry", "chat"]) $(id).hidden = id !== which;
  if (which !== "chat") deletion.close();
}

/** The thread that the address names. Null if it names none, such as `#100%`: the page then begins a new one. */
function threadOfAddress() {
  try {
    const thread = decodeURIComponent(location.hash.slice(1));
    return thread !== "" && [...thread].length <= LONGEST_THREAD ? thread : null;
  } catch {
    return null;
  }
}

/** Resumes the session of an earlier page, if there is one. */
async function start() {
  if (await resumed()) open();
  else askLogin("");
}

async function resumed() {
  for (let pause = FIRST_PAUSE; ; pause = Math.min(pause * 2, LONGEST_PAUSE)) {
    try {
      return await session.resume();
    } catch {
      set($("splash-text"), unreachable(navigator.onLine));
      await pauseOf(pause);
    }
  }
}

/** Resolves when the time is over, or the network may be back. */
function pauseOf(milliseconds) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    addEventListener("online", () => {
      clearTimeout(timer);
      resolve(undefined);
    }, { once: true });
  });
}

function askLogin(why, user) {
  endsSoon = false;
  show(session.isForeign ? "token-entry" : "login");
  if (session.isForeign) tokenForm.ask(why || TOKEN_NEEDED);
  else loginForm.ask(why, user);
}

function open() {
  chat = new Chat({
    user: session.user ?? "",
    thread: threadOfAddress(),
    session,
    api,
    on: { draw, announce, loginNeeded, choose, deleted, asked: (run) => (asked = run) },
  });
  set($("who"), session.user || "a token");
  set($("logout"), session.isForeign ? "Forget the token" : "Log out");
  $("logout-everywhere").hidden = session.isForeign;
  show("chat");
  redraw();
  field();
  $("message").focus();
}

/** Ends the chat after a logout. */
function end(why) {
  chat?.leave();
  chat = null;
  session.forget();
  markdown.forget();
  forgetUnsent();
  history.replaceState(null, "", location.pathname);
  $("message").value = "";
  menu.show("", []);
  $("menu").open = false;
  view.show("", [], new Set(), []);
  askLogin(why, "");
}

const WHY = {
  ended: "Your login has ended. Log in to continue where you were.",
  "other user": "Another user has logged in in this browser. Log in to continue as yourself.",
};

function loginNeeded(reason, code) {
  if (session.isForeign && code === null) {
    // The connection stays until the token expires.
    endsSoon = true;
    return drawStatus();
  }
  const why = session.isForeign ? tokenNeeded(code) : code === 4502 ? "Your login was revoked. Log in again." : (WHY[reason] ?? "");
  askLogin(why, chat?.user ?? "");
}

// ---- login and logout ----

/** Whether a token of another issuer expires soon, and there is no other. */
let endsSoon = false;

const loginForm = new LoginForm({ session, onLogin: () => enter() });
const tokenForm = new TokenForm({ session, onLogin: () => enter(), onBack: () => back() });

function askToken() {
  show("token-entry");
  tokenForm.ask("", true);
}

function back() {
  show("chat");
  redraw();
  $("message").focus();
}

/** Opens the chat: the same user continues, another user starts a new chat. */
async function enter() {
  endsSoon = false;
  if (chat?.user !== (session.user ?? "")) {
    chat?.leave();
    if (chat) forgetUnsent();
    markdown.forget();
    chat = null;
    return open();
  }
  chat.present(await session.token());
  back();
}

async function logout(everywhere) {
  try {
    await session.logout(everywhere);
  } catch {
    return notice("You could not be logged out: the gateway cannot be reached. Try again.");
  }
  end(session.isForeign ? "The token is forgotten." : everywhere ? "You are logged out everywhere." : "You are logged out.");
}

$("logout").addEventListener("click", () => logout(false));
$("logout-everywhere").addEventListener("click", () => logout(true));

// ---- drawing ----

let isDue = false;
/** The run whose pause takes the focus when it is drawn. @type {string|null} */
let asked = null;

/** Draws all changes once, before the next frame. A hidden page is drawn when it becomes visible. */
function draw() {
  if (isDue) return;
  isDue = true;
  requestAnimationFrame(redraw);
}

function redraw() {
  isDue = false;
  if (!chat) return;
  const { runs, drafts, status } = chat;
  // A thread that is being deleted is not redrawn, although its runs end.
  if (!chat.isDeleting) {
    view.show(chat.thread, chat.turns, chat.changed, drafts);
    chat.changed.clear();
    if (asked !== null) view.focusPause(asked);
    asked = null;
  }
  const isNothing = runs.length === 0 && drafts.length === 0;
  $("empty").hidden = !isNothing || status.catchingUp || status.state !== "live" || chat.isLoading || chat.older !== "none";
  $("conversation").setAttribute("aria-busy", String(status.catchingUp || chat.isLoading));
  drawOlder(chat.older);
  drawEdit();
  drawStop(status);
  drawStatus();
  if (menu.isOpen) menu.show(chat.thread, chat.threads);
  const { title } = chat;
  $("rename").hidden = title === null || !chat.canRename;
  $("delete").hidden = title === null;
}

/** Draws the button for earlier messages. It stays in place while they load, and so does focus. */
function drawOlder(older) {
  const button = $("older");
  if (older === "none" && document.activeElement === button) $("conversation").focus();
  button.hidden = older === "none";
  set(button, OLDER[older] ?? "");
  button.setAttribute("aria-disabled", String(older !== "more" && older !== "failed"));
}

/** Shows whether the text in the field replaces a message. */
function drawEdit() {
  $("edit").hidden = chat.edited === null;
  set($("edit-text"), chat.edited === null ? "" : "Editing a message");
}

function drawStop({ state }) {
  const { open } = chat;
  const isStopping = open.length > 0 && open.every(({ id }) => chat.stopping.has(id));
  const stop = $("stop");
  if (open.length === 0 && document.activeElement === stop) $("message").focus();
  stop.hidden = open.length === 0;
  const isReady = state === "live" || state === "holding" || state === "leaving";
  stop.setAttribute("aria-disabled", String(!isReady || isStopping));
  set(stop, isStopping ? "Stopping…" : "Stop");
}

let announced = "";

function drawStatus() {
  const { status } = chat;
  const told = describe(status, { now: Date.now(), online: navigator.onLine });
  const words = endsSoon && told.action === null && status.state === "live" ? { ...told, ...TOKEN_ENDS } : told;
  $("status").dataset.tone = words.tone;
  $("status").dataset.state = status.catchingUp ? "catching-up" : status.state;
  set($("status-text"), words.short);
  set($("banner-text"), words.long);
  $("banner").hidden = words.long === "" && words.action === null;
  $("banner").dataset.tone = words.tone;
  const action = $("banner-action");
  if (words.action === null && document.activeElement === action) $("message").focus();
  action.hidden = words.action === null;
  set(action, ACTION_NAMES[words.action] ?? "");
  action.dataset.action = words.action ?? "";
  // Screen readers do not get the countdown every second.
  const spoken = status.state === "backoff" ? words.long : words.long || words.short;
  if (spoken !== announced && status.state !== "connecting" && status.state !== "authenticating") announce(spoken);
  announced = spoken;
}

setInterval(() => chat?.status.state === "backoff" && drawStatus(), 500);

$("banner-action").addEventListener("click", ({ target }) => {
  if (target.dataset.action === "nudge") chat?.nudge();
  else if (target.dataset.action === "connect") chat?.connect();
  else if (target.dataset.action === "token") askToken();
  else location.reload();
});

/** Announces a text to screen readers. */
function announce(text) {
  set($("announcer"), text);
}

/** Shows a text in place of the hint until the user types, and announces it. */
function notice(text) {
  set($("hint"), text);
  $("hint").classList.add("failure");
  announce(text);
}

/** @returns {boolean} whether it succeeded */
function attempt(run) {
  try {
    run();
    return true;
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    notice("Too many messages are waiting for an answer. Wait for one.");
    return false;
  }
}

announceCopies(announce);

// ---- conversations and the address ----

/** Updates the address when the chat shows another thread. */
function choose(thread, isNew) {
  const address = `#${encodeURIComponent(thread)}`;
  if (isNew) history.pushState(null, "", address);
  else history.replaceState(null, "", address);
  field();
}

addEventListener("popstate", () => {
  const thread = threadOfAddress();
  if (chat && thread !== null && thread !== chat.thread) {
    chat.show(thread);
    field();
  }
});

$("new").addEventListener("click", () => {
  chat?.show(null);
  field();
  $("message").focus();
});

const menu = new Menu({
  root: $("menu"), list: $("earlier"), filter: $("filter"), hint: $("earlier-hint"),
  onOpen() {
    chat?.listAll();
    if (chat) menu.show(chat.thread, chat.threads);
  },
  onChoose: (thread) => chat?.show(thread),
});

$("rename").addEventListener("click", async () => {
  const title = prompt("Title of this conversation. Leave it empty to restore the original title.", chat.title ?? "");
  if (title === null) return;
  menu.close();
  try {
    await chat.rename(title.slice(0, LONGEST_TITLE));
    announce("The conversation was renamed.");
  } catch {
    notice("The conversation could not be renamed. Try again later.");
  }
});

const deletion = new DeletionDialog($("deletion"), async (thread) => {
  try {
    await chat?.delete(thread);
  } catch {
    notice("The conversation could not be deleted. Try again later.");
  }
});

$("delete").addEventListener("click", () => {
  const { thread, title } = chat;
  menu.close();
  deletion.ask(thread, title ?? "");
});

/** Handles the deletion of a conversation, in any tab. */
function deleted(thread, isShown) {
  deletion.close(thread);
  if (!isShown) return;
  announce("Conversation deleted");
  $("message").focus();
}

$("older").addEventListener("click", () => $("older").getAttribute("aria-disabled") === "false" && chat?.loadOlder());

// ---- writing ----

const message = $("message");
const HINT = $("hint").textContent;

/** Shows the thread's draft in the field. */
function field() {
  if (!chat) return;
  if (message.value !== chat.text) message.value = chat.text;
  drawEdit();
  hint();
  grow();
}

/** Makes the field as high as its text, up to 8 rows. Uses an attribute, because the policy forbids inline styles. */
function grow() {
  message.rows = 1;
  while (message.rows < 8 && message.scrollHeight > message.clientHeight) message.rows += 1;
}

message.addEventListener("input", () => {
  chat.text = message.value;
  hint();
  grow();
});

/** Shows the hint below the field, or that its text is too long. @returns {boolean} whether it can be sent */
function hint() {
  const excess = chat.excess(message.value);
  set($("hint"), excess > 0 ? tooLong(excess, chat.longest) : HINT);
  $("hint").classList.toggle("failure", excess > 0);
  message.setAttribute("aria-invalid", String(excess > 0));
  return excess === 0;
}

/** Puts a message back into the field for editing. */
function edit(id) {
  if (!chat?.edit(id)) return;
  field();
  message.focus();
}

/** Puts the message of a turn into the field. Sending it replaces the turn, unless its position is unknown. */
function revise(run) {
  chat.revise(run);
  field();
  message.focus();
  if (chat.edited !== null) announce("Editing a message. Escape cancels.");
}

function endEdit() {
  chat.endEdit();
  field();
  message.focus();
  announce("The message stays as it was.");
}

$("edit-cancel").addEventListener("click", endEdit);

$("composer").addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || event.isComposing || !chat?.edited) return;
  event.preventDefault();
  endEdit();
});

message.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  $("composer").requestSubmit();
});

$("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  write(message.value);
});

function write(text) {
  if (text.trim() === "") return message.focus();
  // The text stays in the field, and the hint says why.
  if (!hint()) {
    announce($("hint").textContent);
    return message.focus();
  }
  if (deliver(() => chat.send(text))) field();
  message.focus();
}

/** @returns {boolean} whether the message was accepted for sending */
function deliver(send) {
  return attempt(() => {
    send();
    view.toEnd();
  });
}

$("ideas").addEventListener("click", ({ target }) => target instanceof HTMLButtonElement && write(target.textContent));

$("stop").addEventListener("click", () => {
  if ($("stop").getAttribute("aria-disabled") === "false" && chat?.stop()) announce("Stopping.");
});

$("down").addEventListener("click", () => {
  view.toEnd();
  message.focus();
});

// ---- the browser ----

// Shown at once. The gateway is checked too, because the browser may be wrong.
for (const type of ["online", "offline"]) {
  addEventListener(type, () => {
    chat?.nudge();
    if (chat) drawStatus();
  });
}
document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && chat?.nudge());

start();
