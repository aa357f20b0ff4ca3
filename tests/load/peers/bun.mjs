/** The common subset on Bun: an event is accepted when the socket has taken it, or has room again. */
import { Hub } from "./hub.mjs";

let sent = 0;
const hub = new Hub((socket, frames) => {
  let full = false;
  socket.cork(() => {
    for (const frame of frames) full = socket.send(frame) < 0 || full;
  });
  if (full) return new Promise((resolve) => socket.data.waiting.push(resolve));
  // A socket with room never lets others run.
  return ++sent % 64 === 0 ? new Promise((resolve) => setImmediate(resolve)) : undefined;
});
const release = (socket) => socket.data.waiting.splice(0).forEach((resolve) => resolve());
Bun.serve({
  port: Number(process.env.PORT),
  hostname: "127.0.0.1",
  fetch(request, server) {
    const headers = { "Sec-WebSocket-Protocol": "lockstep.v1" };
    return server.upgrade(request, { data: { waiting: [] }, headers }) ? undefined : new Response("", { status: 400 });
  },
  websocket: {
    perMessageDeflate: false,
    backpressureLimit: 64 << 20,
    message: (socket, frame) => void (hub.frame(socket, socket.data, frame) || socket.close()),
    drain: release,
    close: (socket) => (hub.gone(socket, socket.data), release(socket)),
  },
});
