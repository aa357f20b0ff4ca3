/**
 * Starts a gateway with a user and a directory of its own, and runs the clients against it. They reach it through a
 * recording proxy, and the gateway writes a trace: both are checked at the end.
 *
 *     npm ci && cargo build --release --workspace --bins
 *     node run.mjs [--gateway FILE] [--proxy FILE] [--prove FILE] [unit|ws|legacy|window|agui|python|legacy-python|owners|proxies|browser|firefox]...
 *
 * Runs all suites unless some are named. The programs are target/release/{lockstep,proxy,prove}; the latter two are
 * expected beside the gateway. `window`, `agui` and `proxies` start their own gateways; `proxies` needs nginx and HAProxy,
 * `python`, `legacy-python`, `agui` and `owners` need `pip install -r requirements.txt` (PYTHON names the interpreter, default python3), `browser` a
 * Chromium (CHROMIUM names it), `firefox` a Firefox (FIREFOX names it). WEB, such as runtime/web, is a directory whose
 * page they show instead of the one in the binary. KEEP=1 keeps the directory with the history and the trace; it is
 * kept anyway if a check fails or the run is aborted. Exit codes: 0 all passed, 1 something failed, 2 usage.
 *
 * The tests control the gateway with the command in LOCKSTEP_CONTROL, which is this file again: it sends requests to
 * this process.
 */
import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { createWriteStream } from "node:fs";
import { access, constants, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer, request } from "node:http";
import { createServer as createListener } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

import { Proxy, judgeHistory, judgeTraces } from "./judged.mjs";

const here = (name) => fileURLToPath(new URL(name, import.meta.url));
const USER = "ada";
const NEWCOMER = "bea";
const PASSWORD = randomBytes(12).toString("hex");

/** Access tokens are so short-lived that each page renews its own during the tests: `expire` waits for that. Pages are
 * loaded through the proxy, so they have its origin. */
const settings = (origin) => ({ LOCKSTEP_AUTH__TOKEN_SECONDS: "25", LOCKSTEP_ORIGINS: JSON.stringify([origin]) });

const UNITS = ["machine", "client", "session", "api", "conversation", "past", "chat", "markdown", "highlight", "judged"];
const PAGES = ["page", "answers", "threads", "editing", "deletion", "tokens", "refusals", "older", "pause"];

/**
 * The page's tests that run in Firefox too. The others depend only on the gateway, which answers every browser alike.
 */
const PAGES_IN_FIREFOX = ["page", "answers", "editing", "deletion", "older", "pause"];

const SUITES = {
  unit: () => node(...UNITS.map((name) => `${name}.test.mjs`)),
  ws: () => node("ws.test.mjs"),
  legacy: () => node("legacy.test.mjs"),
  window: () => node("window.test.mjs"),
  agui: () => node("agui.test.mjs"),
  python: () => [process.env.PYTHON ?? "python3", [here("golden.py")]],
  owners: () => [process.env.PYTHON ?? "python3", [here("owners.py")]],
  "legacy-python": () => [process.env.PYTHON ?? "python3", [here("legacy.py")]],
  proxies: () => node("proxies.test.mjs"),
  browser: () => node(...PAGES.map((name) => `../browser/${name}.test.mjs`)),
  firefox: () => [...node(...PAGES_IN_FIREFOX.map((name) => `../browser/${name}.test.mjs`)), { BROWSER: "firefox" }],
};
/** One file after the other: those that share a gateway would disturb each other. */
const node = (...files) => [process.execPath, ["--test", "--test-concurrency=1", "--test-reporter=spec", ...files.map(here)]];

/** The environment without the gateway's variables. */
const environment = () => Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("LOCKSTEP_")));

class Gateway {
  #process = null;
  #isEnding = false;
  /** How often it was started, and killed. */
  lives = { starts: 0, kills: 0 };

  constructor(file, directory, port, origin, log) {
    Object.assign(this, { file, directory, port, origin, log });
  }

  get url() {
    return `http://127.0.0.1:${this.port}/`;
  }

  get traces() {
    return join(this.directory, "traces");
  }

  /** Runs the command line's `add` for a user, or `passwd` with the same password. */
  async account(verb, name = USER) {
    const command = spawn(this.file, ["user", "--data-dir", this.directory, verb, name], {
      env: environment(), stdio: ["pipe", "inherit", "inherit"],
    });
    command.stdin.end(`${PASSWORD}\n`);
    const [code] = await once(command, "exit");
    if (code !== 0) throw new Error(`lockstep user ${verb}: exit code ${code}`);
  }

  /** Starts it, and resolves once it admits connections. */
  async start() {
    const args = ["serve", "--listen", `127.0.0.1:${this.port}`, "--data-dir", this.directory, "--trace", this.traces];
    const env = { ...environment(), ...settings(this.origin) };
    this.lives.starts++;
    this.#process = spawn(this.file, args, { env, stdio: ["ignore", "pipe", "pipe"] });
    for (const stream of [this.#process.stdout, this.#process.stderr]) stream.pipe(this.log, { end: false });
    const ended = once(this.#process, "exit");
    ended.then(([code, signal]) => this.#isEnding || console.error(`the gateway ended by itself: ${code ?? signal}`));
    for (;;) {
      const ready = await fetch(new URL("readyz", this.url)).then(({ ok }) => ok, () => false);
      if (ready) return;
      if (this.#process.exitCode !== null) throw new Error(`the gateway did not start: see ${this.log.path}`);
      await new Promise((resolve) => setImmediate(resolve));
    }
  }

  async end(signal) {
    this.#isEnding = true;
    if (signal === "SIGKILL") this.lives.kills++;
    const ended = once(this.#process, "exit");
    this.#process.kill(signal);
    await ended;
    this.#isEnding = false;
  }

  /** Ends it in any case, if it runs. */
  abandon() {
    this.#isEnding = true;
    this.#process?.kill("SIGKILL");
  }

  async operator(path, body) {
    const token = (await readFile(join(this.directory, "operator.token"), "utf8")).trim();
    const headers = { authorization: `Bearer ${token}`, "content-type": "application/json" };
    const answer = await fetch(new URL(`operator/${path}`, this.url), { method: "POST", headers, body: JSON.stringify(body) });
    if (!answer.ok) throw new Error(`operator/${path}: ${answer.status} ${await answer.text()}`);
  }

  async control(what) {
    switch (what) {
      case "restart":
        await this.end("SIGKILL");
        return this.start();
      case "drain":
        await this.end("SIGTERM");
        return this.start();
      case "revoke":
        return this.operator("revoke", { subject: USER });
      case "notice":
        return this.operator("notice", { subject: USER, data: { text: "Back at noon." } });
      case "passwd":
        return this.account("passwd");
      case "expire":
        return undefined;
      default:
        throw new Error(`no such control: ${what}`);
    }
  }
}

async function freePort() {
  const listener = createListener().listen(0, "127.0.0.1");
  await once(listener, "listening");
  const { port } = listener.address();
  listener.close();
  return port;
}

/** Sends a request to the process that runs the tests. */
async function ask(port, what) {
  const sent = request({ port, host: "127.0.0.1", path: `/${what}`, method: "POST" });
  sent.end();
  const [answer] = await once(sent, "response");
  if (answer.statusCode !== 200) answer.pipe(process.stderr);
  process.exitCode = answer.statusCode === 200 ? 0 : 1;
  answer.resume();
}

function listen(gateway) {
  return createServer(async (asked, answer) => {
    try {
      await gateway.control(asked.url.slice(1));
      answer.writeHead(200).end();
    } catch (error) {
      answer.writeHead(500).end(`${error.stack}\n`);
    }
  }).listen(0, "127.0.0.1");
}

/** Runs suites, and prints which failed. */
async function run(names, program, env) {
  const failed = [];
  for (const name of names) {
    console.log(`\n== ${name}`);
    const [command, args, own = {}] = SUITES[name]();
    const suite = spawn(command, args, { env: { ...process.env, GATEWAY: program, ...env, ...own }, stdio: "inherit" });
    suite.on("error", (error) => console.error(error.message));
    const [code] = await once(suite, "close");
    if (code !== 0) failed.push(name);
  }
  return failed;
}

/** Runs suites against a gateway, and checks their records. */
async function runAgainstGateway(names, { gateway: file, proxy: recorder, prove }, directory) {
  const log = createWriteStream(join(directory, "gateway.log"));
  const history = join(directory, "history.jsonl");
  const port = await freePort();
  const proxy = await Proxy.before(`127.0.0.1:${port}`, recorder, history, log);
  const gateway = new Gateway(file, join(directory, "data"), port, proxy.origin, log);
  const steering = listen(gateway);
  try {
    await once(steering, "listening");
    await gateway.account("add");
    await gateway.account("add", NEWCOMER);
    await gateway.start();
    const control = join(directory, "control");
    const { port: asked } = steering.address();
    await writeFile(control, `#!/bin/sh\nexec '${process.execPath}' '${here("run.mjs")}' --ask ${asked} "$1"\n`, { mode: 0o755 });
    const failed = await run(names, file, {
      LOCKSTEP_URL: `${proxy.origin}/`, LOCKSTEP_USER: USER, LOCKSTEP_NEWCOMER: NEWCOMER, LOCKSTEP_PASSWORD: PASSWORD, LOCKSTEP_CONTROL: control,
    });
    await gateway.end("SIGTERM");
    await proxy.end();
    console.log("\n== judged");
    if (!(await judgeTraces(prove, gateway.traces, gateway.lives))) failed.push("traces");
    if (!(await judgeHistory(prove, history))) failed.push("history");
    return failed;
  } finally {
    steering.close();
    gateway.abandon();
    proxy.child.kill();
  }
}

/** Suites that need no gateway, or start their own. */
const ALONE = ["unit", "window", "agui", "owners", "proxies"];

async function main(programs, names) {
  const judged = names.some((name) => !ALONE.includes(name)) ? ["traces", "history"] : [];
  for (const file of judged.length > 0 ? Object.values(programs) : []) await access(file, constants.X_OK);
  const directory = await mkdtemp(join(tmpdir(), "lockstep-clients-"));
  let isKept = true;
  let failed = [];
  try {
    failed = await (judged.length > 0 ? runAgainstGateway(names, programs, directory) : run(names, programs.gateway, {}));
    isKept = Boolean(process.env.KEEP) || failed.some((name) => judged.includes(name));
  } finally {
    if (isKept) console.log(`kept: ${directory}`);
    else await rm(directory, { recursive: true });
  }
  const passed = names.length + judged.length - failed.length;
  console.log(`\n${passed} passed, ${failed.length} failed${failed.length > 0 ? `: ${failed.join(", ")}` : ""}`);
  return failed.length > 0 ? 1 : 0;
}

/** The programs and suites from the command line. */
function parse(args) {
  const options = { gateway: { type: "string" }, proxy: { type: "string" }, prove: { type: "string" } };
  const { values, positionals: names } = parseArgs({ args, options, allowPositionals: true });
  const unknown = names.filter((name) => !(name in SUITES));
  if (unknown.length > 0) throw new Error(`no such suite: ${unknown.join(", ")}; there are ${Object.keys(SUITES).join(", ")}`);
  const { gateway = here("../../target/release/lockstep") } = values;
  const [proxy, prove] = ["proxy", "prove"].map((name) => values[name] ?? join(dirname(gateway), name));
  return [{ gateway, proxy, prove }, names.length > 0 ? names : Object.keys(SUITES)];
}

if (process.argv[2] === "--ask") {
  await ask(Number(process.argv[3]), process.argv[4]);
} else {
  let asked = null;
  try {
    asked = parse(process.argv.slice(2));
  } catch (error) {
    console.error(error.message);
    process.exitCode = 2;
  }
  if (asked) process.exitCode = await main(...asked);
}
