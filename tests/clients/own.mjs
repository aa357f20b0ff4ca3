/** A gateway of one suite's own, with its own directory, user and settings. */
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const PROGRAM = process.env.GATEWAY ?? fileURLToPath(new URL("../../target/release/lockstep", import.meta.url));

/** The environment without the gateway's variables. */
export const environment = () => Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("LOCKSTEP_")));

export async function freePort() {
  const listener = createServer().listen(0, "127.0.0.1");
  await once(listener, "listening");
  const { port } = listener.address();
  listener.close();
  return port;
}

/** Waits until `url` answers. */
export async function answers(url, process) {
  while (!(await fetch(url).then(({ ok }) => ok, () => false))) {
    assert.equal(process.exitCode, null, `nothing answers at ${url}`);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

export async function end(process, signal = "SIGTERM") {
  if (process === null || process.exitCode !== null || process.signalCode !== null) return;
  const ended = once(process, "exit");
  process.kill(signal);
  await ended;
}

export class Own {
  process = null;

  /** Prepares a gateway whose configuration has these further lines. */
  static async create(settings, user, password) {
    const port = await freePort();
    const directory = await mkdtemp(join(tmpdir(), "lockstep-own-"));
    const own = Object.assign(new Own(), {
      directory, url: `http://127.0.0.1:${port}/`, settings: join(directory, "lockstep.toml"), log: join(directory, "log.txt"), user, password,
    });
    await writeFile(own.settings, `listen = "127.0.0.1:${port}"\ndata_dir = "${join(directory, "data")}"\n${settings}`);
    const added = spawnSync(PROGRAM, ["user", "--config", own.settings, "add", user], { input: `${password}\n`, env: environment() });
    assert.equal(added.status, 0, String(added.stderr ?? added.error));
    return own;
  }

  async start() {
    this.process = spawn("sh", ["-c", 'exec "$0" serve --config "$1" --log-filter warn >>"$2" 2>&1', PROGRAM, this.settings, this.log], {
      env: environment(), stdio: "ignore",
    });
    await answers(new URL("readyz", this.url), this.process);
  }

  /** What `lockstep config` prints. */
  printed() {
    return String(spawnSync(PROGRAM, ["config", "--config", this.settings], { env: environment() }).stdout);
  }

  said() {
    return readFile(this.log, "utf8");
  }

  async token() {
    const response = await fetch(new URL("auth/login", this.url), {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ username: this.user, password: this.password }),
    });
    assert.equal(response.status, 200);
    return (await response.json()).token;
  }

  async remove() {
    await end(this.process);
    await rm(this.directory, { recursive: true, force: true });
  }
}
