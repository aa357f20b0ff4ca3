/**
 * The common subset on Socket.IO, with connection state recovery: the same JSON in its packets, a room per user, and its
 * own replay in place of ours. It says nothing about when a socket has taken an event.
 */
import { createServer } from "node:http";
import { createRequire } from "node:module";

import { answer, event, now, verify } from "./hub.mjs";

const { Server } = createRequire(`${process.env.NODE_PATH}/`)("socket.io");

const heads = new Map();
const http = createServer();
const io = new Server(http, {
  transports: ["websocket"], pingInterval: 20000, perMessageDeflate: false, connectionStateRecovery: { maxDisconnectionDuration: 120000, skipMiddlewares: false },
});
io.use((socket, next) => {
  const name = verify(socket.handshake.auth.token);
  socket.data.name = name;
  next(name === null ? new Error("rejected") : undefined);
});
let sent = 0;
const publish = (name) => (type, texts) => {
  for (const text of texts) {
    const offset = (heads.get(name) ?? 0) + 1;
    heads.set(name, offset);
    io.to(name).emit("e", event(type, offset, text));
  }
  return ++sent % 64 === 0 ? new Promise((resolve) => setImmediate(resolve)) : undefined;
};
io.on("connection", (socket) => {
  const { name } = socket.data;
  socket.join(name);
  if (!heads.has(name)) heads.set(name, 0);
  socket.on("m", ({ payload: plan }) => {
    if (plan?.kind === "broadcast") {
      const text = String(now()).padEnd(plan.size, ".");
      for (const user of heads.keys()) publish(user)("notice", [text]);
    } else if (plan) {
      answer(plan, publish(name));
    }
  });
});
http.listen({ port: Number(process.env.PORT), host: "127.0.0.1", backlog: 4096 });
