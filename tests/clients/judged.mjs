/**
 * Every suite is also checked by its records: the history of what its clients saw, as `prove history` does, and the
 * trace of the gateway's steps, as `prove replay` does.
 */
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { createInterface } from "node:readline";

/** A proxy that forwards and records the traffic between clients and a gateway. */
export class Proxy {
  /** Starts the proxy on a free port; `gateway` (`HOST:PORT`) need not listen yet. */
  static async before(gateway, file, history, log) {
    const args = ["--listen", "127.0.0.1:0", "--upstream", `ws://${gateway}`, "--out", history];
    const child = spawn(file, args, { stdio: ["ignore", "pipe", "pipe"] });
    const ended = once(child, "close");
    child.stderr.pipe(log, { end: false });
    const [said] = await Promise.race([once(createInterface(child.stdout), "line"), ended]);
    const [, address] = /listening on ws:\/\/(\S+)/.exec(said) ?? [];
    if (!address) throw new Error(`the proxy did not start: see ${log.path}`);
    return Object.assign(new Proxy(), { child, ended, origin: `http://${address}` });
  }

  /** Cuts the open sockets, and resolves when everything is written. */
  async end() {
    this.child.kill("SIGTERM");
    const [code] = await this.ended;
    if (code !== 0) throw new Error(`the proxy ended with exit code ${code}: the history has holes`);
  }
}

/** Why the replay of a gateway that was started and killed that many times fails; null if it holds. */
export function diverges({ traces, unreadable }, { starts, kills }) {
  const steps = traces.reduce((sum, trace) => sum + Math.min(trace.session_steps, trace.connection_steps), 0);
  const cut = traces.filter((trace) => !trace.to_the_end).length;
  const missed = traces.reduce((sum, trace) => sum + trace.dropped + trace.unchecked, 0);
  if (traces.some((trace) => trace.divergence)) return "a step is not the model's";
  if (unreadable.length > 0 || traces.some((trace) => trace.damage)) return "a trace cannot be read to its end";
  if (traces.length !== starts) return `${starts} processes left ${traces.length} traces`;
  if (traces.some((trace) => !trace.from_the_beginning)) return "a trace begins in the middle";
  if (cut > kills) return `${cut} traces are cut off, and ${kills} processes were killed`;
  if (missed > 0) return `${missed} steps were not checked`;
  return steps > 0 ? null : "no step of a connection and a session is in it";
}

/** Why a history fails; null if it holds. */
export function contradicts({ histories }) {
  const [{ contradictions, sockets, events }] = histories;
  if (contradictions.length > 0) return "two things that clients saw cannot both be right";
  return sockets > 0 && events > 0 ? null : `${events} events were seen on ${sockets} sockets`;
}

/** Runs `prove`. Returns its exit code and its output. */
function prove(file, args) {
  return new Promise((resolve, reject) => {
    execFile(file, args, { maxBuffer: 1 << 28 }, (error, out, told) => {
      if (error && typeof error.code !== "number") reject(error);
      else resolve({ code: error?.code ?? 0, out, told });
    });
  });
}

/**
 * Checks with `prove`, and prints a line: `ok …`, or `not ok …` with the readable output of `prove`. Returns the
 * report, and the reason of a failure or null.
 */
async function judge(file, args, name, flaw, summary) {
  const { out: json } = await prove(file, [...args, "--format", "json"]);
  const report = json ? JSON.parse(json) : null;
  const why = report ? flaw(report) : "there is nothing to judge";
  if (why === null) {
    console.log(`ok      ${name}: ${summary(report)}`);
  } else {
    const { out, told } = await prove(file, args);
    console.log(`not ok  ${name}: ${why}\n${out}${told}`);
  }
  return { report, why };
}

/** Checks the traces of a gateway that was started and killed that many times. Returns whether they hold. */
export async function judgeTraces(file, directory, lives) {
  const args = ["replay", directory, ...(lives.kills > 0 ? ["--killed"] : [])];
  const steps = ({ node_steps, connection_steps, session_steps }) => node_steps + connection_steps + session_steps;
  const { why } = await judge(file, args, "every step of the gateway is the model's", (report) => diverges(report, lives),
    ({ traces }) => `${traces.map(steps).join(" + ")} steps`);
  return why === null;
}

/** Checks a history. Returns whether it holds. */
export async function judgeHistory(file, history) {
  const { report, why } = await judge(file, ["history", history], "what clients saw has no contradiction", contradicts,
    ({ histories: [{ lines, sockets, events }] }) => `${lines} lines, ${sockets} sockets, ${events} events`);
  const contradictions = report?.histories[0].contradictions ?? [];
  if (contradictions.length > 0) {
    const text = (await readFile(history, "utf8")).split("\n");
    const numbers = [...new Set(contradictions.flatMap(({ lines }) => lines))].sort((a, b) => a - b);
    for (const number of numbers) console.log(`  ${number}: ${text[number - 1]}`);
  }
  return why === null;
}
