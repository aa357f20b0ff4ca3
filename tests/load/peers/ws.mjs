/** The common subset on Node with ws: an event is accepted when the socket has taken it. */
import { createRequire } from "node:module";

import { Hub } from "./hub.mjs";

const { WebSocketServer } = createRequire(`${process.env.NODE_PATH}/`)("ws");

const hub = new Hub((socket, frames) => {
  const raw = socket._socket;
  if (frames.length > 1) raw.cork();
  const taken = new Promise((resolve) => frames.forEach((frame, i) => socket.send(frame, i === frames.length - 1 ? resolve : undefined)));
  if (frames.length > 1) raw.uncork();
  return taken;
});
const server = new WebSocketServer({
  port: Number(process.env.PORT), host: "127.0.0.1", backlog: 4096, perMessageDeflate: false, handleProtocols: () => "lockstep.v1",
});
server.on("connection", (socket) => {
  const state = {};
  socket.on("message", (frame) => hub.frame(socket, state, frame) || socket.close());
  socket.on("close", () => hub.gone(socket, state));
  socket.on("error", () => {});
});
