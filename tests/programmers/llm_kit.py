"""A model's endpoint that answers from a script, at the level of HTTP."""

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx2

from kernelevolve.core.candidate import Brief, Exchange, Move, SourceFile
from kernelevolve.core.evaluation import Evaluation, Stage, Status
from kernelevolve.core.target import TargetSpec
from kernelevolve.core.task import Task, Workload
from kernelevolve.programmers.llm.connect import Connections
from kernelevolve.programmers.llm.programmer import Llm

KERNEL = "import torch\n\nBLOCK = 64\n\n\nclass ModelNew(torch.nn.Module):\n    pass\n"
ANSWER = f"HYPOTHESIS: one pass\nPREDICTED: 1.4\nFILE: model.py\n```python\n{KERNEL}```\n"
Reply = str | dict[str, Any] | httpx2.Response | Exception


def called(name: str, **arguments: object) -> dict[str, Any]:
    """A message that calls a tool."""
    function = {"name": name, "arguments": json.dumps(arguments)}
    return {"content": None, "tool_calls": [{"id": "c1", "type": "function", "function": function}]}


def completion(reply: str | dict[str, Any], **fields: Any) -> httpx2.Response:
    """A whole answer of the chat API."""
    message = {"content": reply} if isinstance(reply, str) else dict(reply)
    reason = fields.pop("finish_reason", "tool_calls" if "tool_calls" in message else "stop")
    body = {
        "id": "x",
        "object": "chat.completion",
        "created": 1,
        "model": "scripted",
        "choices": [
            {"index": 0, "finish_reason": reason, "message": {"role": "assistant", **message}}
        ],
        "usage": {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100},
        **fields,
    }
    return httpx2.Response(200, json=body)


def failure(status: int, message: str = "no", code: str = "", **headers: str) -> httpx2.Response:
    """An error of the chat API."""
    error = {"error": {"message": message, "code": code or None, "type": "x"}}
    return httpx2.Response(status, json=error, headers=headers)


@dataclass
class Endpoint(httpx2.AsyncBaseTransport):
    """Answers one reply after the other; the last one for ever."""

    replies: Sequence[Reply]
    asked: list[dict[str, Any]] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self.asked.append(json.loads(await request.aread()))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(0)
        self.at_once -= 1
        reply = self.replies[min(len(self.asked), len(self.replies)) - 1]
        if isinstance(reply, Exception):
            raise reply
        if isinstance(reply, httpx2.Response):
            return httpx2.Response(reply.status_code, headers=reply.headers, content=reply.content)
        return completion(reply)

    def text(self, number: int = -1) -> str:
        """All that one request said, roles left out."""
        return "\n".join(str(m.get("content")) for m in self.asked[number]["messages"])


@dataclass
class Bench:
    """Keeps exchanges; judges as it is told."""

    judge: Callable[[Stage], Evaluation] = lambda stage: Evaluation(status=Status.OK, stage=stage)
    exchanges: list[Exchange] = field(default_factory=list)
    tried: list[Stage] = field(default_factory=list)

    async def try_out(self, files: Sequence[SourceFile], stage: Stage) -> Evaluation:
        self.tried.append(stage)
        return self.judge(stage)

    async def run(self, command: Sequence[str], stdin: bytes) -> bytes:
        raise AssertionError("not asked for")

    def look(self, ref: str) -> str:
        return f"what {ref} holds"

    def blob(self, ref: str) -> bytes:
        raise AssertionError("not asked for")

    def exchanged(self, exchange: Exchange) -> None:
        self.exchanges.append(exchange)


def brief(**fields: Any) -> Brief:
    task = Task(name="twice", source="class Model: ...", workloads=(Workload(name="default"),))
    spec = TargetSpec(vendor="cpu", arch="x86_64", index=0, name="test", cores=(0,))
    given: dict[str, Any] = {"move": Move(), "number": 1, "seed": "0/1", "language": "cpp"}
    return Brief(**{"task": task, "target": spec, "guide": "write C++", **given, **fields})


def llm(endpoint: Endpoint, *model: str, **fields: Any) -> Llm:
    """A programmer whose models all live at the endpoint."""
    prices = fields.pop("prices", {"in.openai:m": 1.0, "out.openai:m": 10.0})
    connections = Connections("http://localhost/v1", prices=prices, transport=endpoint)
    return Llm(model=model or ("openai:m",), connections=connections, **fields)
