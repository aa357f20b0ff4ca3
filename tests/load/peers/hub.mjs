/**
 * What the Node and Bun servers share: the token check, and agents that carry out plans. See `../src/plan.rs`.
 */
import { createHmac, timingSafeEqual } from "node:crypto";

const RETAINED = 1024;
const SECRET = process.env.SECRET;

export const now = () => Math.round((performance.timeOrigin + performance.now()) * 1000);
const text = (plan, due) => String(due).padEnd(Math.max(plan.size, 16), ".");

/** The user of a token that is signed with HS256 and has not expired, or null. */
export function verify(token) {
  const [head, claims, signature] = String(token).split(".");
  if (!signature || JSON.parse(Buffer.from(head, "base64url")).alg !== "HS256") return null;
  const right = createHmac("sha256", SECRET).update(`${head}.${claims}`).digest();
  const given = Buffer.from(signature, "base64url");
  if (given.length !== right.length || !timingSafeEqual(given, right)) return null;
  const { sub, exp } = JSON.parse(Buffer.from(claims, "base64url"));
  return exp > Date.now() / 1000 ? sub : null;
}

/** Carries out a plan: `publish(type, texts)` resolves once the events are accepted. */
export async function answer(plan, publish) {
  await publish("message_received", [text(plan, now())]);
  await publish("agent_started", [text(plan, now())]);
  const type = plan.kind === "token" ? "agent_delta" : "agent_thinking";
  const began = now();
  for (let k = 0; k * plan.batch < plan.n; k++) {
    const due = plan.every > 0 ? began + k * plan.every : now();
    const early = (due - now()) / 1000;
    if (early > 0) await new Promise((resolve) => setTimeout(resolve, early));
    await publish(type, Array(Math.min(plan.batch, plan.n - k * plan.batch)).fill(text(plan, due)));
  }
  await publish("agent_completed", [text(plan, now())]);
}

/** An event, with the members that clients look at first. */
export const event = (type, offset, text) => ({
  type, offset, previous: offset - 1, run_id: "0123456789abcdef", thread_id: null, timestamp: 1795348729814,
  data: { part: 1, kind: "text", text },
});

/** Users, their last frames and their sockets. `write(socket, frames)` returns a promise of their acceptance. */
export class Hub {
  #users = new Map();

  constructor(write) {
    this.write = write;
  }

  user(name) {
    let user = this.#users.get(name);
    if (!user) this.#users.set(name, (user = { head: 0, frames: [], sockets: new Set() }));
    return user;
  }

  async publish(user, type, texts) {
    const frames = texts.map((text) => {
      const frame = JSON.stringify(event(type, ++user.head, text));
      user.frames.push([user.head, frame]);
      return frame;
    });
    if (user.frames.length > 2 * RETAINED) user.frames.splice(0, user.frames.length - RETAINED);
    await Promise.all([...user.sockets].map((socket) => this.write(socket, frames)));
  }

  /** Handles a frame of a socket. Returns false if the socket must be closed. */
  frame(socket, state, frame) {
    const message = JSON.parse(frame);
    if (message.type === "auth") return this.#open(socket, state, message);
    if (!state.user) return false;
    if (message.type === "ping") this.write(socket, ['{"type":"pong"}']);
    const plan = message.payload;
    if (plan?.kind === "broadcast") {
      const said = text(plan, now());
      for (const user of this.#users.values()) this.publish(user, "notice", [said]);
    } else if (plan) {
      answer(plan, (type, texts) => this.publish(state.user, type, texts));
    }
    return true;
  }

  #open(socket, state, { token, resume }) {
    const name = verify(token);
    if (name === null) return false;
    const user = (state.user = this.user(name));
    const from = resume ? resume.offset : user.head;
    const ready = { type: "connection_ready", connection_id: "0123456789abcdef", user_id: name, epoch: 1, offset: from, head: user.head };
    this.write(socket, [JSON.stringify(ready), ...user.frames.filter(([offset]) => offset > from).map(([, frame]) => frame)]);
    user.sockets.add(socket);
    return true;
  }

  gone(socket, state) {
    state.user?.sockets.delete(socket);
  }
}
