"""The golden path with Python's `websockets`: log in, ask, receive the answer as it grows, lose the connection in the
middle, and go on.

    pip install -r requirements.txt
    LOCKSTEP_URL=http://127.0.0.1:8080/ LOCKSTEP_USER=ada LOCKSTEP_PASSWORD=... python golden.py

Exit codes: 0 every check held, 1 one did not, 2 usage.
"""

import asyncio
import json
import os
import re
import sys
import uuid
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from websockets.asyncio.client import ClientConnection, connect

SUBPROTOCOL = "lockstep.v1"
LIMIT = 60
GRAMMAR = re.compile(
    r"message_received agent_started( agent_(thinking|delta))*( tool_executing tool_completed)?( agent_(thinking|delta))* agent_completed"
)
TERMINAL = {"agent_completed", "agent_error"}


def log_in(base: str, username: str, password: str) -> str:
    """Returns an access token."""
    body = json.dumps({"username": username, "password": password}).encode()
    request = Request(f"{base}/auth/login", data=body, headers={"content-type": "application/json"})
    with urlopen(request, timeout=LIMIT) as response:
        return json.load(response)["token"]


async def say(socket: ClientConnection, **frame: object) -> None:
    await socket.send(json.dumps(frame))


async def hear(socket: ClientConnection) -> dict:
    text = await socket.recv()
    assert isinstance(text, str), "the gateway says text only"
    return json.loads(text)


async def attach(socket: ClientConnection, **auth: object) -> dict:
    """Presents the credential and returns `connection_ready`."""
    assert socket.subprotocol == SUBPROTOCOL, socket.subprotocol
    await say(socket, type="auth", **auth)
    ready = await hear(socket)
    assert ready["type"] == "connection_ready", ready
    return ready


async def events(socket: ClientConnection, last: int, count: int | None = None) -> list[dict]:
    """Events after `last` up to a run's end, or `count` of them; each must name the one before it."""
    heard = []
    while True:
        event = await hear(socket)
        if "previous" not in event:
            continue
        assert event["previous"] == last and event["offset"] > last, f"{event} does not follow {last}"
        last = event["offset"]
        heard.append(event)
        if event["type"] in TERMINAL or len(heard) == count:
            return heard


async def ask(socket: ClientConnection, text: str) -> str:
    message = str(uuid.uuid4())
    await say(socket, type="user_message", message_id=message, thread_id=str(uuid.uuid4()), payload={"text": text})
    return message


def judge(run: list[dict], message: str) -> dict:
    """Checks a whole run against the grammar, and returns its end."""
    assert GRAMMAR.fullmatch(" ".join(event["type"] for event in run)), [event["type"] for event in run]
    assert run[0]["data"]["message_id"] == message
    assert len({(event["run_id"], event["thread_id"]) for event in run}) == 1
    return run[-1]["data"]


async def golden(url: str, token: str) -> None:
    """One message, one tool, one answer."""
    async with connect(url, subprotocols=[SUBPROTOCOL]) as socket:
        ready = await attach(socket, token=token)
        message = await ask(socket, "what is 2+3*4?")
        run = await events(socket, ready["offset"])
        assert "14" in judge(run, message)["text"]
        tool = next(event["data"] for event in run if event["type"] == "tool_completed")
        assert (tool["name"], tool["status"]) == ("calculator", "success"), tool
        await say(socket, type="ping")
        assert (await hear(socket))["type"] == "pong"


async def resumed(url: str, token: str) -> None:
    """The connection is lost in mid-answer: nothing is missing and nothing is repeated."""
    async with connect(url, subprotocols=[SUBPROTOCOL]) as socket:
        ready = await attach(socket, token=token)
        message = await ask(socket, "count to 90")
        first = await events(socket, ready["offset"], count=12)
        socket.transport.abort()
    place = {"epoch": ready["epoch"], "offset": first[-1]["offset"]}
    async with connect(url, subprotocols=[SUBPROTOCOL]) as socket:
        again = await attach(socket, token=token, resume=place, replaces=ready["connection_id"])
        assert again["resumed"] and again["offset"] == place["offset"], again
        run = first + await events(socket, place["offset"])
    assert judge(run, message)["text"] == " ".join(str(number) for number in range(1, 91))
    pieces = "".join(event["data"]["text"] for event in run if event["type"] == "agent_delta")
    assert pieces == run[-1]["data"]["text"], pieces


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
    for check in (golden, resumed):
        try:
            await asyncio.wait_for(check(url, token), LIMIT)
            print(f"ok      {check.__name__}: {check.__doc__}")
        except Exception as error:  # pylint: disable=broad-except
            failed += 1
            print(f"not ok  {check.__name__}: {type(error).__name__}: {error}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
