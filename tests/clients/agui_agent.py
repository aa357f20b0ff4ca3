"""A third-party agent server: Pydantic AI's AG-UI adapter, served by uvicorn, with a fake model.

    pip install -r requirements.txt
    python agui_agent.py PORT TOKEN

It answers only requests with `Authorization: Bearer TOKEN`. The model calls the tool `add` where the message has two
numbers, `pay`, which needs an approval, where it says "pay", and the front end's `colour` where it says "colour". It fails where it says "fail", never ends where it says "endless", and repeats it otherwise.
"""

import asyncio
import json
import re
import sys
from collections.abc import AsyncIterator

import uvicorn
from pydantic_ai import Agent, DeferredToolRequests
from pydantic_ai.messages import ModelMessage, ToolReturnPart, UserPromptPart
from pydantic_ai.models.function import AgentInfo, DeltaThinkingPart, DeltaToolCall, FunctionModel
from pydantic_ai.ui.ag_ui import AGUIAdapter
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

PORT, TOKEN = int(sys.argv[1]), sys.argv[2]
# How many streams were cut by their client.
stopped = 0
# How often the tool `pay` ran.
paid = 0


def said(messages: list[ModelMessage]) -> list[str]:
    """The user's messages, oldest first."""
    parts = [part for message in messages for part in message.parts]
    return [str(part.content) for part in parts if isinstance(part, UserPromptPart)]


async def model(messages: list[ModelMessage], _: AgentInfo) -> AsyncIterator[object]:
    global stopped
    text = said(messages)[-1]
    last = messages[-1].parts[-1]
    if isinstance(last, ToolReturnPart) and last.tool_name != "add":
        yield f"{last.tool_name}: {last.content}"
        return
    if isinstance(last, ToolReturnPart):
        yield "The sum "
        yield f"is {last.content}."
        return
    if "fail" in text:
        raise RuntimeError(f"the model is broken, says {TOKEN}")
    if "endless" in text:
        try:
            yield "on and "
            await asyncio.Event().wait()
        except (asyncio.CancelledError, GeneratorExit):
            stopped += 1
            raise
    for name, arguments in (("pay", '{"euros":5}'), ("colour", '{"of":"sky"}')):
        if name in text:
            yield {0: DeltaToolCall(name=name, json_args=arguments, tool_call_id=f"call-{name}")}
            return
    numbers = re.findall(r"\d+", text)
    yield {0: DeltaThinkingPart(content="Hm, ")}
    yield {0: DeltaThinkingPart(content="let me see.")}
    if len(numbers) == 2:
        a, b = map(int, numbers)
        yield {1: DeltaToolCall(name="add", json_args='{"a":', tool_call_id=f"call-{a}")}
        yield {1: DeltaToolCall(json_args=f'{a},"b":{b}}}')}
        return
    yield f"You said: {' | '.join(said(messages))}"


agent = Agent(FunctionModel(stream_function=model), output_type=[str, DeferredToolRequests])


@agent.tool_plain
def add(a: int, b: int) -> dict[str, int]:
    """Adds two numbers."""
    return {"sum": a + b}


@agent.tool_plain(requires_approval=True)
def pay(euros: int) -> str:
    """Pays."""
    global paid
    paid += 1
    return f"paid {euros} euros"


async def run(request: Request) -> Response:
    if request.headers.get("authorization") != f"Bearer {TOKEN}":
        return JSONResponse({"detail": "who are you?"}, 401)
    return await AGUIAdapter.dispatch_request(request, agent=agent)


async def seen(_: Request) -> Response:
    return JSONResponse({"stopped": stopped, "paid": paid})


if __name__ == "__main__":
    app = Starlette(routes=[Route("/", run, methods=["POST"]), Route("/seen", seen)])
    uvicorn.run(app, host="127.0.0.1", port=PORT, log_level="warning")
