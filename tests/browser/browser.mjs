/** Chromium, or with BROWSER=firefox Firefox, and a user's actions in it. */
import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";

// The packages are installed next to the other clients.
const packages = createRequire(new URL("../clients/", import.meta.url));
const { chromium, firefox } = packages("playwright-core");

/** @param {string} name */
function required(name) {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set: see the head of page.test.mjs`);
  return value;
}

export const URL_OF_PAGE = required("LOCKSTEP_URL");
export const USER = required("LOCKSTEP_USER");
export const NEWCOMER = required("LOCKSTEP_NEWCOMER");
export const PASSWORD = required("LOCKSTEP_PASSWORD");
const CONTROL = required("LOCKSTEP_CONTROL");

const TIMEOUT = Number(process.env.TIMEOUT ?? 30_000);

const FLAGS = [
  "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync",
  // With WEB, Chromium takes the page for one from another network.
  ...(process.env.WEB ? ["--disable-features=LocalNetworkAccessChecks"] : []),
];

/** The errors that pages logged, and their violations of the content security policy. */
export const faults = [];

/** Controls the gateway; the commands are listed at the head of page.test.mjs. */
export const control = (what) => promisify(execFile)(CONTROL, [what]);

/** Whether the browser is Debian's Firefox, which is driven over WebDriver BiDi. */
export const isFirefox = process.env.BROWSER === "firefox";

export async function launch() {
  if (!isFirefox) return chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", headless: true, args: FLAGS });
  const browser = await firefox.launch({ channel: "moz-firefox", executablePath: process.env.FIREFOX ?? "/usr/bin/firefox-esr", headless: true });
  withoutMediaFeatures(browser);
  return browser;
}

/** A test that does not run in Firefox, and the reason. @param {string} why */
export const onlyInChromium = (why) => (isFirefox ? () => {} : test);

/**
 * Playwright sets the media features of each new context, which this Firefox does not support: the command is left out,
 * and the browser's own preferences apply.
 */
function withoutMediaFeatures(browser) {
  const session = Object.getPrototypeOf(browser._connection.toImpl(browser)._browserSession);
  const { send } = session;
  session.send = function (method, params) {
    return method === "emulation.setMediaFeaturesOverride" ? Promise.resolve({}) : send.call(this, method, params);
  };
}

/** A browser context of a separate user, without another's cookies. */
export async function userContext(browser, options = {}) {
  const context = await browser.newContext(options);
  context.setDefaultTimeout(TIMEOUT);
  if (process.env.WEB) await serve(context, process.env.WEB);
  context.on("page", (page) => {
    // To Firefox, a connection that cannot be made is an error of the page.
    page.on("pageerror", (error) => isFirefox && /^Firefox can.t establish/.test(error.message) || faults.push(error.stack));
    page.on("console", (message) => /Content Security Policy|TypeError/.test(message.text()) && faults.push(message.text()));
  });
  return context;
}

/** Serves the page from a directory, unchanged, instead of the one in the gateway's binary. */
async function serve(context, directory) {
  await context.route(URL_OF_PAGE, async (route) => {
    const response = await route.fetch();
    return route.fulfill({ response, body: await readFile(join(directory, "index.html"), "utf8") });
  });
  await context.route("**/page/*/*", (route) =>
    route.fulfill({ path: join(directory, route.request().url().split("/").at(-1)) }));
}

/** A new page of the gateway, once it has loaded. */
export async function visit(context, path = "") {
  const page = await context.newPage();
  await page.goto(URL_OF_PAGE + path);
  await page.locator("#splash").waitFor({ state: "hidden" });
  return page;
}

export async function login(page, name = USER) {
  await page.fill("#username", name);
  await page.fill("#password", PASSWORD);
  await page.click("#login-button");
  await live(page);
}

/** A browser with one user context, whose page is logged in. */
export async function loggedIn() {
  const browser = await launch();
  const context = await userContext(browser);
  const page = await visit(context);
  await login(page);
  return { browser, context, page };
}

/** The page's own address; `page.url()` is what the browser has reported so far. */
export const addressOf = (page) => page.evaluate(() => location.href);

/** The thread in the address. */
export const threadOf = async (page) => decodeURIComponent(new URL(await addressOf(page)).hash.slice(1));

/** Waits until the connection is in a state, by default `live`. */
export const live = (page, state = "live") => page.locator(`#status[data-state="${state}"]`).waitFor();

/** A new, empty conversation. */
export async function fresh(page) {
  await page.click("#new");
  await page.locator(".turn").first().waitFor({ state: "detached" });
}

export async function say(page, text) {
  await page.fill("#message", text);
  await page.press("#message", "Enter");
}

/** The last turn, once it is in this state. */
export async function turn(page, state) {
  const last = page.locator("#turns > .turn:not(.draft)").last();
  await last.and(page.locator(`[data-state="${state}"]`)).waitFor();
  return last;
}

/** The numbers shown in the last turn's count. */
export async function counted(page) {
  const text = await page.locator("#turns > .turn:not(.draft)").last().locator(".answer").allTextContents();
  return text.join(" ").trim().split(/\s+/).map(Number);
}

/** Waits until the last turn has counted to `to`. */
export const counts = (page, to) =>
  page.locator("#turns > .turn:not(.draft)").last().locator(".answer", { hasText: new RegExp(`\\b${to}\\b`) }).waitFor();

/** The id of the element with the focus. */
export const focused = (page) => page.evaluate(() => document.activeElement?.id || document.activeElement?.localName);

/** Presses a key until the element with this id has the focus. */
export async function press(page, key, id) {
  for (let count = 0; count < 30; count++) {
    await page.keyboard.press(key);
    if ((await focused(page)) === id) return;
  }
  throw new Error(`${id} cannot be reached with ${key}`);
}

/** Texts whose contrast with their background is less than `least` (WCAG 2.2, 1.4.3). */
export const faint = (page, least = 4.5) =>
  page.evaluate((least) => {
    const channels = (color) => color.match(/[\d.]+/g).map(Number);
    const linear = (value) => (value / 255 <= 0.04045 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4);
    const luminance = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
    const behind = (node) => {
      for (let at = node; at; at = at.parentElement) {
        const color = channels(getComputedStyle(at).backgroundColor);
        if (color.length < 4 || color[3] === 1) return color;
      }
      return [255, 255, 255];
    };
    const found = [];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    for (let text = walker.nextNode(); text; text = walker.nextNode()) {
      const node = text.parentElement;
      if (!text.data.trim() || !node.checkVisibility({ visibilityProperty: true }) || node.closest(".unseen")) continue;
      const [a, b] = [luminance(channels(getComputedStyle(node).color)), luminance(behind(node))];
      const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
      if (contrast < least) found.push(`${contrast.toFixed(2)}: ${text.data.trim().slice(0, 40)}`);
    }
    return found;
  }, least);

/** The violations of axe-core's rules in the page's present state, from moderate on. */
export async function violations(page) {
  const known = await page.evaluate(() => typeof globalThis.axe === "object");
  // Past the content security policy, like a debugger: the page itself loads nothing from elsewhere.
  if (!known) await page.evaluate(await readFile(packages.resolve("axe-core/axe.min.js"), "utf8"));
  return page.evaluate(async () => {
    const { violations } = await globalThis.axe.run(document, { resultTypes: ["violations"] });
    return violations.map(({ id, impact, nodes }) => `${impact} ${id}: ${nodes.map(({ html }) => html.slice(0, 120)).join(" | ")}`);
  });
}

/** The elements that are wider than the window. */
export const tooWide = (page) =>
  page.evaluate(() => {
    const isScrolled = (node) => node.closest("pre, .thoughts, .scrolled") !== null;
    const wide = [...document.querySelectorAll("body *")].filter((node) => {
      const { right, width } = node.getBoundingClientRect();
      return width > 0 && right > innerWidth + 0.5 && !isScrolled(node);
    });
    const names = wide.map((node) => node.id || node.className || node.localName);
    return document.documentElement.scrollWidth > innerWidth ? [...names, "the document"] : names;
  });

/**
 * Lets a test cut a page's sockets: `cut(code)` ends the open one, `hold()` prevents the next, `freeze()` blocks both
 * directions, and `tell(frame)` sends a frame in the gateway's name. `sent` is what the page wrote.
 */
export async function cuttable(page, change = (text) => text) {
  const state = { open: null, isHeld: false, isFrozen: false, sent: [] };
  await page.routeWebSocket(/\/ws$/, (socket) => {
    if (state.isHeld) return socket.close({ code: 4004, reason: "held by the test" });
    const gateway = socket.connectToServer();
    socket.onMessage((text) => {
      state.sent.push(text);
      if (!state.isFrozen) gateway.send(text);
    });
    gateway.onMessage((text) => state.isFrozen || socket.send(change(text)));
    state.open = socket;
  });
  return {
    cut: (code = 4002, reason = "cut by the test") => state.open.close({ code, reason }),
    hold: () => (state.isHeld = true),
    release: () => (state.isHeld = false),
    freeze: (isFrozen = true) => (state.isFrozen = isFrozen),
    tell: (frame) => state.open.send(JSON.stringify(frame)),
    sent: state.sent,
  };
}

/** For `cuttable`: the agent, asked to count to 30, answers with this text in thirty pieces. */
export function saying(text) {
  const size = Math.ceil(text.length / 30);
  const said = new Map();
  return (sent) => {
    const frame = JSON.parse(sent);
    const { type, run_id: run, data } = frame;
    if (type === "agent_completed") return JSON.stringify({ ...frame, data: { ...data, text } });
    if (type !== "agent_delta") return sent;
    // A frame of joined pieces has more than one number.
    const count = data.text.match(/\d+/g)?.length ?? 0;
    const from = said.get(run) ?? 0;
    said.set(run, from + count * size);
    return JSON.stringify({ ...frame, data: { ...data, text: text.slice(from, from + count * size) } });
  };
}
