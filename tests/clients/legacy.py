"""The contract with the earlier system's command-line client, in Python's `websockets`: a header or subprotocols for the
credential, `connection_established` and `handshake_response` in either order, then the frames that it sends and the
fields that it reads.

    LOCKSTEP_URL=http://127.0.0.1:8080/ LOCKSTEP_USER=ada LOCKSTEP_PASSWORD=... python legacy.py

Exit codes: 0 every check held, 1 one did not, 2 usage.
"""

import asyncio
import base64
import json
import os
import sys
import uuid
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection, connect

from golden import LIMIT, log_in

TERMINAL = {"agent_completed", "agent_failed"}
EVENTS = TERMINAL | {"agent_started", "agent_thinking", "tool_executing", "tool_completed", "partial_result"}


@dataclass
class Answer:
    """What the client prints of one run."""

    events: list[dict] = field(default_factory=list)
    text: str = ""

    def take(self, event: dict) -> None:
        self.events.append(event)
        if event["type"] == "partial_result":
            self.text += event["payload"]["content"]

    @property
    def end(self) -> dict:
        return self.events[-1]

    def first(self, kind: str) -> dict:
        return next(event["payload"] for event in self.events if event["type"] == kind)


class Client:
    """One connection, which waits for both frames of the welcome."""

    def __init__(self, socket: ClientConnection):
        self.socket = socket
        self.thread = ""
        self.user = ""

    async def hear(self) -> dict:
        frame = json.loads(await self.socket.recv())
        assert frame["payload"] == frame["data"], frame
        return frame

    async def say(self, **frame: object) -> None:
        await self.socket.send(json.dumps(frame))

    async def welcome(self) -> None:
        missing = {"connection_established", "handshake_response"}
        while missing:
            frame = await self.hear()
            missing.discard(frame["type"])
            if frame["type"] == "connection_established":
                assert frame["connection_ready"] is True and frame["config"]["heartbeat_interval"] > 0, frame
                self.user = frame["user_id"]
            if frame["type"] == "handshake_response":
                self.thread = frame["thread_id"]

    async def answer(self, thread: str, count: int | None = None) -> Answer:
        """The events of a thread's run up to its end, or `count` of them."""
        answer = Answer()
        while True:
            event = await self.hear()
            assert event["type"] != "error", event
            if event["type"] not in EVENTS or event["thread_id"] != thread:
                continue
            assert event["user_id"] == self.user and event["agent_name"] == "assistant", event
            answer.take(event)
            if event["type"] in TERMINAL or len(answer.events) == count:
                return answer


def subprotocols(token: str) -> list[str]:
    encoded = base64.urlsafe_b64encode(token.encode()).decode().rstrip("=")
    return ["jwt-auth", f"jwt.{encoded}"]


async def golden(url: str, token: str) -> None:
    """The first message of a conversation, with a tool."""
    async with connect(url, subprotocols=subprotocols(token)) as socket:
        assert socket.subprotocol == "jwt-auth", socket.subprotocol
        client = Client(socket)
        await client.welcome()
        request = {"user_request": "what is 2+3*4?", "thread_id": client.thread, "context": {}, "settings": {}}
        await client.say(type="start_agent", payload=request)
        answer = await client.answer(client.thread)
        assert answer.end["type"] == "agent_completed", answer.end
        end = answer.end["payload"]
        assert "14" in end["result"] and end["result"] == answer.text, end
        assert end["status"] == "completed" and end["execution_time_ms"] >= 0, end
        assert answer.first("agent_started")["status"] == "started"
        assert answer.first("agent_thinking")["reasoning"]
        assert answer.first("tool_executing")["tool_name"] == "calculator"
        assert "14" in json.dumps(answer.first("tool_completed")["result"])
        await client.say(type="heartbeat")
        while (await client.hear())["type"] != "heartbeat_ack":
            pass


async def header(url: str, token: str) -> None:
    """The credential is in a header, and the codec in a subprotocol. The text is in a string."""
    headers = {"Authorization": f"Bearer {token}"}
    async with connect(url, subprotocols=["jwt-auth"], additional_headers=headers) as socket:
        client = Client(socket)
        await client.welcome()
        await client.say(type="user_message", payload="count to 4", thread_id=client.thread)
        assert (await client.answer(client.thread)).end["payload"]["result"] == "1 2 3 4"


async def stopped(url: str, token: str) -> None:
    """The stop button names no run."""
    async with connect(url, subprotocols=subprotocols(token)) as socket:
        client = Client(socket)
        await client.welcome()
        await client.say(type="start_agent", payload={"user_request": "count to 200", "thread_id": client.thread})
        await client.answer(client.thread, count=5)
        await client.say(type="stop_agent", payload={})
        end = (await client.answer(client.thread)).end
        assert end["type"] == "agent_failed" and end["payload"]["error"], end


async def restored(url: str, token: str) -> None:
    """A cut in mid-answer: the place of the last event is the first frame of the next connection."""
    thread = f"thread-{uuid.uuid4()}"
    async with connect(url, subprotocols=subprotocols(token)) as socket:
        client = Client(socket)
        await client.welcome()
        await client.say(type="start_agent", payload={"user_request": "count to 90", "thread_id": thread})
        first = await client.answer(thread, count=15)
        socket.transport.abort()
    async with connect(url, subprotocols=subprotocols(token)) as socket:
        client = Client(socket)
        place = {"threadId": thread, "lastMessageId": first.end["message_id"], "connectionId": "lost"}
        await client.say(type="session_restore", payload=place)
        await client.welcome()
        rest = await client.answer(thread)
    whole = first.text + rest.text
    assert whole == rest.end["payload"]["result"] == " ".join(str(number) for number in range(1, 91)), whole
    places = [event["message_id"] for event in first.events + rest.events]
    assert len(set(places)) == len(places), "an event came twice"


async def conversations(url: str, token: str) -> None:
    """Two conversations at a time are not mixed."""
    async with connect(url, subprotocols=subprotocols(token)) as socket:
        client = Client(socket)
        await client.welcome()
        answers = {f"thread-{uuid.uuid4()}": Answer() for _ in range(2)}
        for thread, last in zip(answers, (30, 40)):
            await client.say(type="start_agent", payload={"user_request": f"count to {last}", "thread_id": thread})
        while not all(answer.events and answer.end["type"] in TERMINAL for answer in answers.values()):
            event = await client.hear()
            if event["type"] in EVENTS and event["thread_id"] in answers:
                answers[event["thread_id"]].take(event)
        for answer, last in zip(answers.values(), (30, 40)):
            assert answer.text == " ".join(str(number) for number in range(1, last + 1)), answer.text
            assert answer.end["payload"]["result"] == answer.text


async def main() -> int:
    try:
        base, user, password = (os.environ[f"LOCKSTEP_{name}"] for name in ("URL", "USER", "PASSWORD"))
    except KeyError as missing:
        print(f"{missing} is not set", file=sys.stderr)
        return 2
    base = base.rstrip("/")
    scheme = "wss" if urlsplit(base).scheme == "https" else "ws"
    url = f"{scheme}://{urlsplit(base).netloc}/ws"
    token = await asyncio.to_thread(log_in, base, user, password)
    failed = 0
    for check in (golden, header, stopped, restored, conversations):
        try:
            await asyncio.wait_for(check(url, token), LIMIT)
            print(f"ok      legacy {check.__name__}: {check.__doc__}")
        except Exception as error:  # pylint: disable=broad-except
            failed += 1
            print(f"not ok  legacy {check.__name__}: {type(error).__name__}: {error}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
