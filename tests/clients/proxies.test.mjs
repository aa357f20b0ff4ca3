/**
 * The gateway behind real proxies, nginx and HAProxy, each with its file from runtime/deploy: the client's address, the
 * base path, sockets, and idle connections. Each test has its own gateway and proxy.
 *
 * GATEWAY  the gateway's program; by default target/release/lockstep
 *
 * A proxy that is not installed is skipped, which `tests/run` treats as a failure.
 */
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { Agent, request } from "node:http";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

import WebSocket from "ws";

const here = (name) => fileURLToPath(new URL(name, import.meta.url));
const PROGRAM = process.env.GATEWAY ?? here("../../target/release/lockstep");
const [USER, PASSWORD] = ["ada", "a password of these tests"];
/** Shorter than the pauses of the test of idle connections. */
const HEADER_MS = 200;
const PAUSE_MS = 2 * HEADER_MS;
/** How many wrong passwords an address may try. */
const BURST = 3;

const PROXIES = {
  nginx: {
    base: "/chat/",
    config: 'base_path = "/chat/"\n[proxies]\ntrusted = ["127.0.0.1"]\n',
    file: here("../../runtime/deploy/nginx.conf"),
    /** Paths of an installation are replaced by a directory of the test. */
    adapt: (text, directory) => {
      const paths = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map((name) => `${name}_temp_path ${directory}/${name};`);
      return text.replace("http {", `http {\naccess_log off;\n${paths.join("\n")}`);
    },
    start: (file, directory) => ["nginx", ["-e", "stderr", "-p", directory, "-c", file, "-g", `daemon off; pid ${directory}/pid;`]],
  },
  haproxy: {
    base: "/",
    config: '[proxies]\ntrusted = ["127.0.0.1"]\nheader = "none"\nproxy_protocol = true\n',
    file: here("../../runtime/deploy/haproxy.cfg"),
    adapt: (text) => text,
    start: (file) => ["haproxy", ["-db", "-f", file]],
  },
};

const isInstalled = (name) => spawnSync(name, ["-v"], { env: environment(), stdio: "ignore" }).error === undefined;
/** The environment without the gateway's variables, with the directories in which Debian installs servers. */
const environment = () => ({
  ...Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("LOCKSTEP_"))),
  PATH: `${process.env.PATH}:/usr/sbin:/sbin`,
});

async function freePort() {
  const listener = createServer().listen(0, "127.0.0.1");
  await once(listener, "listening");
  const { port } = listener.address();
  listener.close();
  return port;
}

/** Sends a request; returns the answer's status, header fields and text. `from` is the client's address. */
async function ask(port, path, { method = "GET", from = "127.0.0.1", headers = {}, body, agent } = {}) {
  const sent = request({ host: "127.0.0.1", port, path, method, headers, localAddress: from, agent });
  sent.end(body);
  const [answer] = await once(sent, "response");
  let text = "";
  for await (const piece of answer.setEncoding("utf8")) text += piece;
  return { status: answer.statusCode, headers: answer.headers, text };
}

const json = { "content-type": "application/json" };
const logIn = (port, base, password, options = {}) =>
  ask(port, `${base}auth/login`, {
    method: "POST", body: JSON.stringify({ username: USER, password }), ...options, headers: { ...json, ...options.headers },
  });

/** Runs a function with a gateway behind a proxy, and ends both in any case. */
async function behind(name, run) {
  const { base, config, file, adapt, start } = PROXIES[name];
  const directory = await mkdtemp(join(tmpdir(), "lockstep-proxies-"));
  const [inner, outer] = [await freePort(), await freePort()];
  const children = [];
  const launch = (command, args) => {
    const child = spawn(command, args, { env: environment(), stdio: ["ignore", "inherit", "inherit"] });
    child.on("error", (error) => console.error(error.message));
    children.push(child);
    return child;
  };
  try {
    const [settings, proxied] = [join(directory, "lockstep.toml"), join(directory, "proxy.conf")];
    const rates = `[login]\naddress_burst = ${BURST}\naddress_refill_ms = 600000\naccount_burst = 1000\n`;
    const limits = `[limits]\nheader_ms = ${HEADER_MS}\n[agent]\npace_ms = 0\n[log]\nkind = "memory"\n`;
    await writeFile(settings, `listen = "127.0.0.1:${inner}"\ndata_dir = "${directory}/data"\n${config}${rates}${limits}`);
    const text = (await readFile(file, "utf8")).replaceAll("127.0.0.1:8080", `127.0.0.1:${inner}`);
    await writeFile(proxied, adapt(text.replaceAll("127.0.0.1:8081", `127.0.0.1:${outer}`), directory));
    const added = spawnSync(PROGRAM, ["user", "--config", settings, "add", USER], { input: `${PASSWORD}\n`, env: environment() });
    assert.equal(added.status, 0, String(added.stderr));
    launch(PROGRAM, ["serve", "--config", settings, "--log-filter", "warn"]);
    const proxy = launch(...start(proxied, directory));
    while ((await ask(outer, `${base}healthz`).catch(() => ({ status: 0 }))).status !== 200) {
      assert.equal(proxy.exitCode, null, "the proxy does not start");
      await new Promise((resolve) => setImmediate(resolve));
    }
    await run(outer, base);
  } finally {
    for (const child of children.toReversed()) {
      if (child.exitCode !== null || child.pid === undefined) continue;
      child.kill("SIGTERM");
      await once(child, "exit");
    }
    await rm(directory, { recursive: true, force: true });
  }
}

/** Sends a message and returns the answer's text. */
async function chat(port, base, token) {
  const socket = new WebSocket(`ws://127.0.0.1:${port}${base}ws`, ["lockstep.v1"], { origin: `http://127.0.0.1:${port}` });
  await once(socket, "open");
  socket.send(JSON.stringify({ type: "auth", token }));
  socket.send(JSON.stringify({ type: "user_message", message_id: "m", thread_id: "t", payload: { text: "what is 2+3*4?" } }));
  for await (const [data] of on(socket)) {
    const frame = JSON.parse(data.toString());
    if (frame.type !== "agent_completed") continue;
    socket.close(1000);
    await once(socket, "close");
    return frame.data.text;
  }
  throw new Error("the socket was closed");
}

async function* on(socket) {
  const frames = [];
  let wake = () => {};
  socket.on("message", (data) => (frames.push([data]), wake()));
  socket.on("close", () => (frames.push(null), wake()));
  for (;;) {
    while (frames.length === 0) await new Promise((resolve) => (wake = resolve));
    const frame = frames.shift();
    if (frame === null) return;
    yield frame;
  }
}

for (const name of Object.keys(PROXIES)) {
  const options = { timeout: 120_000, skip: isInstalled(name) ? false : `${name} is not installed: NOTHING of it was tested` };

  test(`${name}: the page, a login and a chat, where browsers look for them`, options, () =>
    behind(name, async (port, base) => {
      for (const [asked, kind] of [["", "text/html"], ["app.js", "text/javascript"], ["style.css", "text/css"]]) {
        const { status, headers } = await ask(port, `${base}${asked}`);
        assert.deepEqual([status, headers["content-type"].split(";")[0]], [200, kind], asked);
      }
      if (base !== "/") assert.deepEqual((await ask(port, "/chat")).headers.location.endsWith("/chat/"), true);
      const entered = await logIn(port, base, PASSWORD);
      assert.equal(entered.status, 200, entered.text);
      const [cookie] = entered.headers["set-cookie"];
      assert.match(cookie, new RegExp(`; Path=${base}auth;`));
      const refreshed = await ask(port, `${base}auth/refresh`, { method: "POST", headers: { cookie: cookie.split(";")[0] } });
      assert.equal(refreshed.status, 200, refreshed.text);
      assert.match(await chat(port, base, JSON.parse(refreshed.text).token), /14/);
    }));

  test(`${name}: an address that guesses passwords is stopped, whatever it says, and no other`, options, () =>
    behind(name, async (port, base) => {
      const [guesser, neighbour] = [{ from: "127.0.0.2" }, { from: "127.0.0.3" }];
      for (let guess = 0; guess < BURST; guess++) {
        assert.equal((await logIn(port, base, "wrong password", guesser)).status, 401);
      }
      for (const headers of [{}, { "x-forwarded-for": "192.0.2.7" }, { forwarded: "for=192.0.2.7" }]) {
        assert.equal((await logIn(port, base, "wrong password", { ...guesser, headers })).status, 429, JSON.stringify(headers));
      }
      assert.equal((await logIn(port, base, PASSWORD, neighbour)).status, 200);
    }));

  test(`${name}: a connection that waits longer than a header may take is good for the next request`, options, () =>
    behind(name, async (port, base) => {
      const agent = new Agent({ keepAlive: true, maxSockets: 1 });
      for (let turn = 0; turn < 10; turn++) {
        assert.equal((await ask(port, `${base}readyz`, { agent })).status, 200);
        await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
      }
      agent.destroy();
    }));
}
