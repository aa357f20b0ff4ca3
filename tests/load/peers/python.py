"""The common subset on Python's websockets: an event is accepted when the library has it."""

import asyncio
import base64
import hashlib
import hmac
import json
import os
import time
from collections import deque

from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

RETAINED = 1024
SECRET = os.environ["SECRET"].encode()


class User:
    def __init__(self):
        self.head = 0
        self.frames = deque(maxlen=RETAINED)
        self.sockets = set()

    async def publish(self, kind, texts):
        frames = []
        for text in texts:
            self.head += 1
            event = {
                "type": kind, "offset": self.head, "previous": self.head - 1, "run_id": "0123456789abcdef",
                "thread_id": None, "timestamp": 1795348729814, "data": {"part": 1, "kind": "text", "text": text},
            }
            frames.append(json.dumps(event, separators=(",", ":")))
            self.frames.append((self.head, frames[-1]))
        for socket in list(self.sockets):
            try:
                for frame in frames:
                    await socket.send(frame)
            except ConnectionClosed:
                self.sockets.discard(socket)


users = {}


def now():
    return int(time.time() * 1e6)


def decoded(part):
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def verify(token):
    head, claims, signature = token.split(".")
    right = hmac.new(SECRET, f"{head}.{claims}".encode(), hashlib.sha256).digest()
    if json.loads(decoded(head))["alg"] != "HS256" or not hmac.compare_digest(right, decoded(signature)):
        return None
    said = json.loads(decoded(claims))
    return said["sub"] if said["exp"] > time.time() else None


async def answer(user, plan):
    def text(due):
        return str(due).ljust(max(plan["size"], 16), ".")

    await user.publish("message_received", [text(now())])
    await user.publish("agent_started", [text(now())])
    kind = "agent_delta" if plan["kind"] == "token" else "agent_thinking"
    began, batch = now(), plan["batch"]
    for k in range(-(-plan["n"] // batch)):
        due = began + k * plan["every"] if plan["every"] else now()
        # The shortest pause lets other tasks run.
        loop = asyncio.get_running_loop()
        due_now = loop.create_future()
        loop.call_later(max(0, (due - now()) / 1e6), due_now.set_result, None)
        await due_now
        await user.publish(kind, [text(due)] * min(batch, plan["n"] - k * batch))
    await user.publish("agent_completed", [text(now())])


async def talk(socket):
    user = None
    try:
        auth = json.loads(await socket.recv())
        name = verify(auth["token"])
        if name is None:
            return
        user = users.setdefault(name, User())
        resume = auth.get("resume")
        start = resume["offset"] if resume else user.head
        missed = [frame for offset, frame in user.frames if offset > start]
        ready = {"type": "connection_ready", "connection_id": "0", "user_id": name, "epoch": 1, "offset": start, "head": user.head}
        user.sockets.add(socket)
        for frame in [json.dumps(ready, separators=(",", ":")), *missed]:
            await socket.send(frame)
        async for frame in socket:
            message = json.loads(frame)
            plan = message.get("payload")
            if message["type"] == "ping":
                await socket.send('{"type":"pong"}')
            elif plan and plan["kind"] == "broadcast":
                said = str(now()).ljust(plan["size"], ".")
                for each in list(users.values()):
                    await each.publish("notice", [said])
            elif plan:
                # A task that runs is kept by its set only.
                task = asyncio.create_task(answer(user, plan))
                running.add(task)
                task.add_done_callback(running.discard)
    except ConnectionClosed:
        pass
    finally:
        if user:
            user.sockets.discard(socket)


running = set()


async def main():
    options = {"compression": None, "subprotocols": ["lockstep.v1"], "backlog": 4096}
    async with serve(talk, "127.0.0.1", int(os.environ["PORT"]), **options) as server:
        await server.serve_forever()


asyncio.run(main())
