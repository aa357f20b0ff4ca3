/** The page: log in, the chat, and what connects them to the document. */
import { Api } from "./api.js";
import { Chat } from "./chat.js";
import { announceCopies } from "./clipboard.js";
import { DeletionDialog } from "./deletion.js";
import { LoginForm, TokenForm } from "./login.js";
import { Markdown } from "./markdown.js";
import { forgetUnsent } from "./memory.js";
import { Menu } from "./menu.js";
import { Session } from "./session.js";
import { ConversationView, set } from "./view.js";
import { ACTION_NAMES, OLDER, TOKEN_ENDS, TOKEN_NEEDED, describe, tokenNeeded, tooLong, unreachable } from "./words.js";

/** @param {string} id @returns {any} */
const $ = (id) => document.getElementById(id);

const FIRST_PAUSE = 1_000;
const LONGEST_PAUSE = 15_000;

/** Characters of the longest title. */
const LONGEST_TITLE = 200;

/** Characters of the longest name of a thread. */
const LONGEST_THREAD = 128;

/** @type {Chat|null} */
let chat = null;
const session = new Session({ onLogout: () => end("You have logged out in another tab.") });
const api = new Api(session);
const markdown = new Markdown(async (text) => (await api.ask("markdown", { method: "POST", body: text, type: "text/markdown" })).tree);
const view = new ConversationView({
  markdown,
  scroller: $("conversation"),
  list: $("turns"),
  onAgain: (id) => attempt(() => chat?.again(id)),
  onEdit: (id) => edit(id),
  onDiscard: (id) => chat?.discard(id),
  onTakeBack: (run) => chat?.takeBack(run),
  onRepeat: (run) => deliver(() => chat?.repeat(run)),
  onRevise: (run) => revise(run),
  onScroll: (atEnd) => ($("down").hidden = atEnd),
});

// ---- which of them is shown ----

function show(which) {
  for (const id of ["splash", "login", "token-entry", "chat"]) $(id).hidden = id !== which;
  if (which !== "chat") deletion.close();
}

/** The thread that the address names. An address that names none, such as `#100%`, begins a new one. */
function threadOfAddress() {
  try {
    const thread = decodeURIComponent(location.hash.slice(1));
    return thread !== "" && [...thread].length <= LONGEST_THREAD ? thread : null;
  } catch {
    return null;
  }
}

/** Takes up the session of an earlier visit, if there is one. */
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

/** Ends when the time is over, or the network may be back. */
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
    on: { draw, announce, loginNeeded, choose, deleted },
  });
  set($("who"), session.user || "a token");
  set($("logout"), session.isForeign ? "Forget the token" : "Log out");
  $("logout-everywhere").hidden = session.isForeign;
  show("chat");
  redraw();
  field();
  $("message").focus();
}

/** Ends the chat of a user who has logged out. */
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
  ended: "Your login has ended. Log in to go on where you were.",
  "other user": "Another user has logged in in this browser. Log in to go on as yourself.",
};

function loginNeeded(reason, code) {
  if (session.isForeign && code === null) {
    // The connection goes on until the token ends.
    endsSoon = true;
    return drawStatus();
  }
  const why = session.isForeign ? tokenNeeded(code) : code === 4502 ? "Your login was revoked. Log in again." : (WHY[reason] ?? "");
  askLogin(why, chat?.user ?? "");
}

// ---- log in and out ----

/** Whether a token of another issuer ends soon, and there is no other. */
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

/** The same user goes on where they were; another begins anew. */
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

/** Draws once, before the next frame, whatever has changed until then. A hidden page is drawn when it is looked at. */
function draw() {
  if (isDue) return;
  isDue = true;
  requestAnimationFrame(redraw);
}

function redraw() {
  isDue = false;
  if (!chat) return;
  const { runs, drafts, status } = chat;
  // A thread that is being deleted stays as it is, though its runs end.
  if (!chat.isDeleting) {
    view.show(chat.thread, chat.turns, chat.changed, drafts);
    chat.changed.clear();
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

/** The way to what was said before. It stays where it is while more is loaded: focus does, too. */
function drawOlder(older) {
  const button = $("older");
  if (older === "none" && document.activeElement === button) $("conversation").focus();
  button.hidden = older === "none";
  set(button, OLDER[older] ?? "");
  button.setAttribute("aria-disabled", String(older !== "more" && older !== "failed"));
}

/** Whether what is in the field replaces a message. */
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
  // The countdown is not read out each second.
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

/** Says something to who cannot see it. */
function announce(text) {
  set($("announcer"), text);
}

/** Says something to everybody, in the place of the hint, for as long as nothing else is written. */
function notice(text) {
  set($("hint"), text);
  $("hint").classList.add("failure");
  announce(text);
}

/** @returns {boolean} whether it could be done */
function attempt(run) {
  try {
    run();
    return true;
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    notice("Too many messages wait for an answer. Wait for one of them.");
    return false;
  }
}

announceCopies(announce);

// ---- conversations and the address ----

/** The chat shows another thread: so does the address. */
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
  const title = prompt("What this conversation is called. Nothing: what it began with.", chat.title ?? "");
  if (title === null) return;
  menu.close();
  try {
    await chat.rename(title.slice(0, LONGEST_TITLE));
    announce("The conversation has another title.");
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

/** A conversation was deleted, in whichever tab. */
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

/** The field shows the draft of the thread. */
function field() {
  if (!chat) return;
  if (message.value !== chat.text) message.value = chat.text;
  drawEdit();
  hint();
  grow();
}

/** As high as its text, up to what the style allows. The attribute is what a policy without inline style permits. */
function grow() {
  message.rows = 1;
  while (message.rows < 8 && message.scrollHeight > message.clientHeight) message.rows += 1;
}

message.addEventListener("input", () => {
  chat.text = message.value;
  hint();
  grow();
});

/** Says below the field how it works, or that what is in it is too long. @returns {boolean} whether it can be sent */
function hint() {
  const excess = chat.excess(message.value);
  set($("hint"), excess > 0 ? tooLong(excess, chat.longest) : HINT);
  $("hint").classList.toggle("failure", excess > 0);
  message.setAttribute("aria-invalid", String(excess > 0));
  return excess === 0;
}

/** A message comes back to be changed. */
function edit(id) {
  if (!chat?.edit(id)) return;
  field();
  message.focus();
}

/** The message of a turn comes into the field. What is sent then replaces the turn, unless its place is not known. */
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
  // The text stays where it is: it is said why.
  if (!hint()) {
    announce($("hint").textContent);
    return message.focus();
  }
  if (deliver(() => chat.send(text))) field();
  message.focus();
}

/** @returns {boolean} whether it is on its way */
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

// ---- the world ----

// Said at once; and the gateway is asked, for a browser may be wrong.
for (const type of ["online", "offline"]) {
  addEventListener(type, () => {
    chat?.nudge();
    if (chat) drawStatus();
  });
}
document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && chat?.nudge());

start();
