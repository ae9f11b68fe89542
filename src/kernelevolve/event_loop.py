"""An event loop in a thread of its own, so that a caller's loop (Jupyter has one) does no harm."""

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from threading import Thread
from types import TracebackType
from typing import Any, TypeVar

T = TypeVar("T")
POLL_SECONDS = 0.2


class EventLoop:
    """Runs coroutines for synchronous callers; an interrupt reaches the work, not only the wait."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name="kernelevolve", daemon=True)
        self._beside: list[Future[None]] = []

    def __enter__(self) -> "EventLoop":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        asyncio.run_coroutine_threadsafe(_cancel_the_rest(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Have `work` done beside the rest; what is not done at the end is cancelled."""
        self._beside.append(asyncio.run_coroutine_threadsafe(work, self._loop))

    def run(self, work: Coroutine[Any, Any, T], stop: Callable[[], object] | None = None) -> T:
        """The result of `work`.

        Each interrupt calls `stop` in the loop and waits on; without `stop` it cancels the work.

        Raises:
            KeyboardInterrupt: the work was cancelled by an interrupt.
        """
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        while True:
            try:
                return self._wait(future)
            except KeyboardInterrupt:
                if stop is None or future.done():
                    future.cancel()
                    raise
                self._loop.call_soon_threadsafe(stop)

    def _wait(self, future: Future[T]) -> T:
        while True:
            try:
                return future.result(timeout=POLL_SECONDS)
            except NotYet:
                if future.done():
                    return future.result()


async def _cancel_the_rest() -> None:
    """What nobody waits for any more."""
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
