/**
 * Writes the pictures of the README into tests/pictures: `chat.png`, the chat page with one answer, in Chromium, and
 * `counterexample.svg`, the shortest run that violates a property, as `prove races --html` draws it.
 *
 *     npm ci && cargo build --release --workspace --bins
 *     node pictures.mjs [--gateway FILE] [--prove FILE] [--race ID]
 *
 * The programs are target/release/{lockstep,prove}; `prove` is looked for where the gateway is. CHROMIUM names the browser.
 * Exit codes: 0 written, 1 failed, 2 usage.
 */
import { execFile, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdir, mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs, promisify } from "node:util";

import { chromium } from "playwright-core";

const here = (name) => fileURLToPath(new URL(name, import.meta.url));
const PICTURES = here("../pictures");
const SIZE = { width: 900, height: 560 };
const USER = "ada";
const PASSWORD = randomBytes(12).toString("hex");
const MESSAGE = "What is (17 + 25) * 3?";

/** The largest that a picture may be, in bytes: readers load it with the README. */
const MAX_BYTES = { "chat.png": 60_000, "counterexample.svg": 40_000 };

async function freePort() {
  const listener = createServer().listen(0, "127.0.0.1");
  await once(listener, "listening");
  const { port } = listener.address();
  listener.close();
  return port;
}

/** The environment without what would configure a gateway. */
const environment = () => Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("LOCKSTEP_")));

/** Runs `use` with the address of a gateway that has one account. */
async function withGateway(file, use) {
  const directory = await mkdtemp(join(tmpdir(), "lockstep-pictures-"));
  const [env, data] = [{ ...environment(), LOCKSTEP_AGENT__PACE_MS: "0" }, join(directory, "data")];
  let gateway = null;
  try {
    const account = spawn(file, ["user", "--data-dir", data, "add", USER], { env, stdio: ["pipe", "ignore", "inherit"] });
    account.stdin.end(`${PASSWORD}\n`);
    const [code] = await once(account, "exit");
    if (code !== 0) throw new Error(`lockstep user add: exit code ${code}`);
    const port = await freePort();
    gateway = spawn(file, ["serve", "--listen", `127.0.0.1:${port}`, "--data-dir", data], { env, stdio: ["ignore", "ignore", "inherit"] });
    const url = `http://127.0.0.1:${port}/`;
    while (!(await fetch(new URL("readyz", url)).then(({ ok }) => ok, () => false))) {
      if (gateway.exitCode !== null) throw new Error(`the gateway did not start: exit code ${gateway.exitCode}`);
      await new Promise((resolve) => setImmediate(resolve));
    }
    return await use(url);
  } finally {
    if (gateway?.exitCode === null && gateway.kill()) await once(gateway, "exit");
    await rm(directory, { recursive: true });
  }
}

/** The chat page once the message is answered, as a PNG. */
async function chat(url) {
  const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium";
  const browser = await chromium.launch({ executablePath, headless: true, args: ["--no-sandbox", "--disable-gpu"] });
  try {
    const page = await browser.newPage({ viewport: SIZE, colorScheme: "light", reducedMotion: "reduce" });
    await page.goto(url);
    await page.fill("#username", USER);
    await page.fill("#password", PASSWORD);
    await page.click("#login-button");
    await page.locator('#status[data-state="live"]').waitFor();
    await page.fill("#message", MESSAGE);
    await page.press("#message", "Enter");
    await page.locator('#turns > .turn:not(.draft)[data-state="completed"]').waitFor();
    await page.locator("#conversation").evaluate((conversation) => conversation.scrollTo(0, 0));
    return await page.screenshot();
  } finally {
    await browser.close();
  }
}

/** The drawing of a race's counterexample, as an SVG that needs no page around it. */
async function counterexample(prove, race) {
  const directory = await mkdtemp(join(tmpdir(), "lockstep-pictures-"));
  try {
    await promisify(execFile)(prove, ["races", race, "--html", directory]);
    const html = await readFile(join(directory, `${race}.html`), "utf8");
    const [, style] = /<style>(.*?)<\/style>/s.exec(html) ?? [];
    const [, attributes, drawing] = /<svg([^>]*)>(.*?)<\/svg>/s.exec(html) ?? [];
    if (!style || !drawing) throw new Error(`${race}.html has no drawing`);
    // Only the rules of the drawing, and a background of its own.
    const rules = style.match(/:root\{.*?\}@media\(prefers-color-scheme:dark\)\{.*?\}\}|svg [^{}]*\{[^}]*\}/gs).join("");
    const own = "svg{background:var(--paper);font:12px ui-monospace,Menlo,Consolas,monospace}";
    return `<svg${attributes}><style>${rules}${own}</style>${drawing}</svg>\n`;
  } finally {
    await rm(directory, { recursive: true });
  }
}

async function write(name, content) {
  const path = join(PICTURES, name);
  await mkdir(PICTURES, { recursive: true });
  await writeFile(path, content);
  const { size } = await stat(path);
  if (size > MAX_BYTES[name]) throw new Error(`${name} has ${size} bytes, more than ${MAX_BYTES[name]}`);
  console.log(`tests/pictures/${name}: ${size} bytes`);
}

function parse(args) {
  const options = { gateway: { type: "string" }, prove: { type: "string" }, race: { type: "string", default: "X3" } };
  const { values } = parseArgs({ args, options });
  const { gateway = here("../../target/release/lockstep"), race } = values;
  return { gateway, race, prove: values.prove ?? join(dirname(gateway), "prove") };
}

let programs = null;
try {
  programs = parse(process.argv.slice(2));
} catch (error) {
  console.error(error.message);
  process.exitCode = 2;
}
if (programs) {
  try {
    await write("counterexample.svg", await counterexample(programs.prove, programs.race));
    await write("chat.png", await withGateway(programs.gateway, chat));
  } catch (error) {
    console.error(error.message);
    process.exitCode = 1;
  }
}
