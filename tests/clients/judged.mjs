/**
 * What suites leave behind is judged, whatever else they look at: what their clients saw, as `prove history` does, and
 * the steps that the gateway's processes took, as `prove replay` does.
 */
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { createInterface } from "node:readline";

/** A proxy that passes on what clients and a gateway say, and writes it down. */
export class Proxy {
  /** Starts it. It listens at a port of its own, and `gateway` (`HOST:PORT`) need not be there yet. */
  static async before(gateway, file, history, log) {
    const args = ["--listen", "127.0.0.1:0", "--upstream", `ws://${gateway}`, "--out", history];
    const child = spawn(file, args, { stdio: ["ignore", "pipe", "pipe"] });
    const ended = once(child, "close");
    child.stderr.pipe(log, { end: false });
    const [said] = await Promise.race([once(createInterface(child.stdout), "line"), ended]);
    const [, address] = /listens on ws:\/\/(\S+)/.exec(said) ?? [];
    if (!address) throw new Error(`the proxy did not start: see ${log.path}`);
    return Object.assign(new Proxy(), { child, ended, origin: `http://${address}` });
  }

  /** Cuts whoever is left, and resolves when everything is written. */
  async end() {
    this.child.kill("SIGTERM");
    const [code] = await this.ended;
    if (code !== 0) throw new Error(`the proxy ended with exit code ${code}: the history has holes`);
  }
}

/** Why the replay of a gateway that was started and killed so often does not hold; null if it does. */
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

/** Why a history does not hold; null if it does. */
export function contradicts({ histories }) {
  const [{ contradictions, sockets, events }] = histories;
  if (contradictions.length > 0) return "two things that clients saw cannot both be right";
  return sockets > 0 && events > 0 ? null : `${events} events were seen on ${sockets} sockets`;
}

/** Runs `prove`: its exit code, and what it said. */
function prove(file, args) {
  return new Promise((resolve, reject) => {
    execFile(file, args, { maxBuffer: 1 << 28 }, (error, out, told) => {
      if (error && typeof error.code !== "number") reject(error);
      else resolve({ code: error?.code ?? 0, out, told });
    });
  });
}

/**
 * Judges with `prove`, and says so in a line of its own: `ok …`, or `not ok …` with what `prove` shows to people. The
 * report, and why it does not hold, or null.
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

/** Judges the traces of a gateway that was started and killed so often. Whether they hold. */
export async function judgeTraces(file, directory, lives) {
  const args = ["replay", directory, ...(lives.kills > 0 ? ["--killed"] : [])];
  const steps = ({ node_steps, connection_steps, session_steps }) => node_steps + connection_steps + session_steps;
  const { why } = await judge(file, args, "every step of the gateway is the model's", (report) => diverges(report, lives),
    ({ traces }) => `${traces.map(steps).join(" + ")} steps`);
  return why === null;
}

/** Judges a history. Whether it holds. */
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
