"""Where the time of a judgement goes. In the judge."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Stopwatch:
    """Milliseconds by name; what is spent under a name within another counts for the inner one."""

    def __init__(self) -> None:
        self.ms: dict[str, float] = {}
        self._inner = 0.0

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Time what is done meanwhile; without a name it counts for what surrounds it."""
        if not name:
            yield
            return
        begun, before = time.perf_counter(), self._inner
        self._inner = 0.0
        try:
            yield
        finally:
            took = (time.perf_counter() - begun) * 1e3
            own, self._inner = took - self._inner, before
            self.add(name, own)
            self._inner = before + took

    def add(self, name: str, milliseconds: float) -> None:
        """Count what was timed elsewhere, within what is being timed here."""
        self.ms[name] = self.ms.get(name, 0.0) + milliseconds
        self._inner += milliseconds
