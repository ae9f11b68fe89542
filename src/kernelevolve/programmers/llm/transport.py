"""What goes over the wire to a model: kept, repeated where that may help, or played back.

Exchanges are recorded below the client libraries, so that what is kept is what was sent, whatever
the provider. Headers are not kept: they hold the keys.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import httpx2
from pydantic_ai.retries import AsyncHTTPX2TenacityTransport, RetryConfig, wait_retry_after
from tenacity import retry_if_exception_type, stop_after_attempt, wait_exponential_jitter

from kernelevolve.config import keys
from kernelevolve.core.errors import ProgrammerError

RETRIED = (408, 409, 425, 429, 500, 502, 503, 504, 529)
"""Statuses after which the same request may succeed; 529 is how Anthropic says overloaded."""
ATTEMPTS = 6
LONGEST_WAIT_SECONDS = 120.0
ANSWER_SECONDS = 1200.0
"""A whole answer, however slowly it drips, takes no longer than this."""
SILENCE_SECONDS = 600.0
"""Between two pieces of an answer; reasoning models are silent for minutes."""


@dataclass
class Wire:
    """What was last sent and received for one request of a model."""

    request: bytes = b""
    response: bytes = b""
    status: int = 0


_wire: ContextVar[Wire] = ContextVar("wire")


@contextmanager
def watched() -> Iterator[Wire]:
    """The wire of the request that is made inside."""
    wire = Wire()
    token = _wire.set(wire)
    try:
        yield wire
    finally:
        _wire.reset(token)


class Recording(httpx2.AsyncBaseTransport):
    """Reads answers to their end, and keeps what went over the wire."""

    def __init__(self, wrapped: httpx2.AsyncBaseTransport) -> None:
        self._wrapped = wrapped

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send and receive.

        Raises:
            TransportError: no whole answer came.
        """
        wire = _wire.get(Wire())
        wire.request, wire.response, wire.status = without_keys(await request.aread()), b"", 0
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                response = await self._wrapped.handle_async_request(request)
                wire.status = response.status_code
                wire.response = without_keys(await response.aread())
        except TimeoutError as error:
            raise httpx2.ReadTimeout(
                f"no whole answer within {ANSWER_SECONDS:.0f} s", request=request
            ) from error
        return response

    async def aclose(self) -> None:
        """Close the connections."""
        await self._wrapped.aclose()


class Played(httpx2.AsyncBaseTransport):
    """Answers from a recording, and compares what is asked with what was asked then."""

    def __init__(self, answers: Callable[[], Wire]) -> None:
        self._answers = answers
        self.check = False
        """Whether what is asked must be what was asked then."""

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """The recorded answer.

        Raises:
            ProgrammerError: the recording has none, or another request is asked for.
        """
        recorded, asked = self._answers(), without_keys(await request.aread())
        if self.check and asked != recorded.request:
            raise ProgrammerError(
                f"the prompt differs: {first_difference(recorded.request, asked)}"
            )
        if not recorded.status:
            raise httpx2.ConnectError("no answer came in the recording either", request=request)
        return httpx2.Response(
            recorded.status,
            headers={"content-type": "application/json"},
            content=recorded.response,
            request=request,
        )


def first_difference(before: bytes, now: bytes, around: int = 60) -> str:
    """Where two texts part, with what stands there."""
    at = next((i for i, (a, b) in enumerate(zip(before, now, strict=False)) if a != b), None)
    at = min(len(before), len(now)) if at is None else at
    start = max(0, at - around // 2)
    old, new = (t[start : start + around].decode(errors="replace") for t in (before, now))
    return f"at byte {at}, recorded {old!r}, now {new!r}"


def client(transport: httpx2.AsyncBaseTransport | None = None) -> httpx2.AsyncClient:
    """A client that records, and repeats what may succeed the next time.

    Args:
        transport: what carries requests instead of a connection; what is played back is neither
            repeated nor recorded below.
    """
    timeout = httpx2.Timeout(SILENCE_SECONDS, connect=20.0)
    carried = Recording(transport or httpx2.AsyncHTTPTransport())
    if isinstance(transport, Played):
        return httpx2.AsyncClient(transport=carried, timeout=timeout)
    waits = wait_retry_after(
        wait_exponential_jitter(initial=1.0, max=60.0), max_wait=LONGEST_WAIT_SECONDS
    )
    config = RetryConfig(
        retry=retry_if_exception_type((httpx2.HTTPStatusError, httpx2.TransportError)),
        wait=waits,
        stop=stop_after_attempt(ATTEMPTS),
        sleep=pause,
        reraise=True,
    )
    retried = AsyncHTTPX2TenacityTransport(config, carried, _raise_for_retry)
    return httpx2.AsyncClient(transport=LastAnswer(retried), timeout=timeout)


async def pause(seconds: float) -> None:
    """Between two attempts."""
    await asyncio.sleep(seconds)


class LastAnswer(httpx2.AsyncBaseTransport):
    """Gives the client the last answer of an error's attempts, which it explains best itself."""

    def __init__(self, wrapped: httpx2.AsyncBaseTransport) -> None:
        self._wrapped = wrapped

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """The answer, be it an error's."""
        try:
            return await self._wrapped.handle_async_request(request)
        except httpx2.HTTPStatusError as error:
            return error.response

    async def aclose(self) -> None:
        """Close the connections."""
        await self._wrapped.aclose()


def _raise_for_retry(response: httpx2.Response) -> None:
    if response.status_code in RETRIED and not _is_out_of_quota(response):
        response.raise_for_status()


def _is_out_of_quota(response: httpx2.Response) -> bool:
    """A 429 that no waiting helps."""
    return response.status_code == 429 and b"insufficient_quota" in response.content


def without_keys(data: bytes) -> bytes:
    """The text without any key that the environment holds."""
    for key in keys():
        data = data.replace(key.encode(), b"[key]")
    return data
