/**
 * Starts a gateway of its own, with a user of its own, in a directory of its own, and runs the clients against it.
 *
 *     npm ci && cargo build --release --bin lockstep
 *     node run.mjs [--gateway FILE] [unit|ws|python|browser]...      all of them unless some are named
 *
 * `python` needs `pip install -r requirements.txt` (PYTHON names the interpreter, else python3), `browser` a Chromium
 * (CHROMIUM names it). KEEP=1 keeps the directory. Exit codes: 0 all passed, 1 something failed, 2 usage.
 *
 * The tests steer the gateway with the command in LOCKSTEP_CONTROL, which is this file again: it asks this process.
 */
import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { createWriteStream } from "node:fs";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer, request } from "node:http";
import { createServer as createListener } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const here = (name) => fileURLToPath(new URL(name, import.meta.url));
const USER = "ada";
const PASSWORD = randomBytes(12).toString("hex");

/** Access tokens live so short that each page renews its own while the tests run: this is what `expire` waits for. */
const SETTINGS = { LOCKSTEP_AUTH__TOKEN_SECONDS: "25" };

const SUITES = {
  unit: () => node("machine.test.mjs", "client.test.mjs", "conversation.test.mjs"),
  ws: () => node("ws.test.mjs"),
  python: () => [process.env.PYTHON ?? "python3", [here("golden.py")]],
  browser: () => node("../browser/page.test.mjs"),
};
const node = (...files) => [process.execPath, ["--test", "--test-reporter=spec", ...files.map(here)]];

/** The environment without what would configure a gateway. */
const environment = () => Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("LOCKSTEP_")));

class Gateway {
  #process = null;
  #isEnding = false;

  constructor(file, directory, port, log) {
    Object.assign(this, { file, directory, port, log });
  }

  get url() {
    return `http://127.0.0.1:${this.port}/`;
  }

  async addUser() {
    const adding = spawn(this.file, ["user", "--data-dir", this.directory, "add", USER], {
      env: environment(), stdio: ["pipe", "inherit", "inherit"],
    });
    adding.stdin.end(`${PASSWORD}\n`);
    const [code] = await once(adding, "exit");
    if (code !== 0) throw new Error(`lockstep user add: exit code ${code}`);
  }

  /** Starts it, and resolves once it admits connections. */
  async start() {
    const args = ["serve", "--listen", `127.0.0.1:${this.port}`, "--data-dir", this.directory];
    this.#process = spawn(this.file, args, { env: { ...environment(), ...SETTINGS }, stdio: ["ignore", "pipe", "pipe"] });
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
    const ended = once(this.#process, "exit");
    this.#process.kill(signal);
    await ended;
    this.#isEnding = false;
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

/** Asks the process that runs the tests. */
async function ask(port, what) {
  const asking = request({ port, host: "127.0.0.1", path: `/${what}`, method: "POST" });
  asking.end();
  const [answer] = await once(asking, "response");
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

async function main(file, names) {
  const directory = await mkdtemp(join(tmpdir(), "lockstep-clients-"));
  const log = createWriteStream(join(directory, "gateway.log"));
  const gateway = new Gateway(file, join(directory, "data"), await freePort(), log);
  const steering = listen(gateway);
  await once(steering, "listening");
  const failed = [];
  try {
    const needsGateway = names.some((name) => name !== "unit");
    if (needsGateway) {
      await gateway.addUser();
      await gateway.start();
    }
    const control = join(directory, "control");
    const { port } = steering.address();
    await writeFile(control, `#!/bin/sh\nexec '${process.execPath}' '${here("run.mjs")}' --ask ${port} "$1"\n`, { mode: 0o755 });
    const env = {
      ...process.env, LOCKSTEP_URL: gateway.url, LOCKSTEP_USER: USER, LOCKSTEP_PASSWORD: PASSWORD, LOCKSTEP_CONTROL: control,
    };
    for (const name of names) {
      console.log(`\n== ${name}`);
      const [command, args] = SUITES[name]();
      const suite = spawn(command, args, { env, stdio: "inherit" });
      suite.on("error", (error) => console.error(error.message));
      const [code] = await once(suite, "close");
      if (code !== 0) failed.push(name);
    }
    if (needsGateway) await gateway.end("SIGTERM");
  } finally {
    steering.close();
    if (process.env.KEEP) console.log(`kept: ${directory}`);
    else await rm(directory, { recursive: true });
  }
  console.log(`\n${names.length - failed.length} passed, ${failed.length} failed${failed.length > 0 ? `: ${failed.join(", ")}` : ""}`);
  return failed.length > 0 ? 1 : 0;
}

const [first, ...rest] = process.argv.slice(2);
if (first === "--ask") {
  await ask(Number(rest[0]), rest[1]);
} else {
  const hasFile = first === "--gateway" && rest.length > 0;
  const file = hasFile ? rest.shift() : here("../../target/release/lockstep");
  const names = hasFile ? rest : process.argv.slice(2);
  const unknown = names.filter((name) => !(name in SUITES));
  if (unknown.length > 0) {
    console.error(`no such suite: ${unknown.join(", ")}; there are ${Object.keys(SUITES).join(", ")}`);
    process.exitCode = 2;
  } else {
    process.exitCode = await main(file, names.length > 0 ? names : Object.keys(SUITES));
  }
}
