"""Attempts in flight: started, awaited and abandoned by node number."""

import asyncio
from collections.abc import Coroutine


class Flight:
    """The search's running attempts, and the signal that it should stop."""

    def __init__(self) -> None:
        self._attempts: dict[int, asyncio.Task[None]] = {}
        self._stopped = asyncio.Event()

    def __len__(self) -> int:
        return len(self._attempts)

    def __contains__(self, number: object) -> bool:
        return number in self._attempts

    def launch(self, number: int, attempt: Coroutine[None, None, None]) -> None:
        """Start a node's attempt."""
        self._attempts[number] = asyncio.create_task(attempt)

    def stop(self) -> None:
        """End the present `wait`, or else the next one, at once."""
        self._stopped.set()

    async def wait(self, seconds: float) -> None:
        """Until an attempt ends, `stop` is called or the time is over; re-raises its error."""
        stopped = asyncio.create_task(self._stopped.wait())
        try:
            await asyncio.wait(
                [stopped, *self._attempts.values()],
                timeout=seconds,
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            stopped.cancel()
            self._stopped.clear()
        for number in [n for n, attempt in self._attempts.items() if attempt.done()]:
            self._attempts.pop(number).result()

    def abandon(self) -> list[asyncio.Task[None]]:
        """Cancel all attempts; the tasks, for who wants to await their end."""
        abandoned = list(self._attempts.values())
        self._attempts.clear()
        for attempt in abandoned:
            attempt.cancel()
            attempt.add_done_callback(_taken_note_of)
        return abandoned


def _taken_note_of(attempt: asyncio.Task[None]) -> None:
    """One error ends the session; asyncio need not complain that nobody asked for the others."""
    if not attempt.cancelled():
        attempt.exception()
