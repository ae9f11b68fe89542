"""A store that lives as long as its process: for tests and throw-away runs."""

import threading
import time
from collections.abc import Sequence
from hashlib import sha256

from kernelevolve.core.errors import StoreError
from kernelevolve.core.events import Command, Event, RunStopped
from kernelevolve.core.lease import check_free
from kernelevolve.core.protocols import Store


class Memory:
    """Journals and blobs in dictionaries; any thread may use it."""

    def __init__(self) -> None:
        self._runs: dict[str, list[Event]] = {}
        self._blobs: dict[str, bytes] = {}
        self._leases: dict[str, tuple[str, float]] = {}
        self._lock = threading.Lock()

    def append(self, run: str, events: Sequence[Event], lease: str | None = None) -> None:
        """See `Store`."""
        with self._lock:
            if lease is None:
                self._check_commands(run, events)
            else:
                self._hold(run, lease, gives_up=any(isinstance(e, RunStopped) for e in events))
            if events:
                self._runs.setdefault(run, []).extend(events)

    def read(self, run: str, after: int = 0) -> Sequence[Event]:
        """See `Store`."""
        with self._lock:
            return tuple(self._runs.get(run, ())[after:])

    def runs(self) -> Sequence[str]:
        """See `Store`."""
        with self._lock:
            return tuple(self._runs)

    def put_blob(self, data: bytes) -> str:
        """See `Store`."""
        ref = sha256(data).hexdigest()
        with self._lock:
            self._blobs[ref] = data
        return ref

    def get_blob(self, ref: str) -> bytes:
        """See `Store`."""
        try:
            return self._blobs[ref]
        except KeyError:
            raise StoreError(f"blob {ref}: not in this store") from None

    def _check_commands(self, run: str, events: Sequence[Event]) -> None:
        if run not in self._runs:
            raise StoreError(f"unknown run {run!r}; known: {', '.join(self._runs) or 'none'}")
        if not all(isinstance(event, Command) for event in events):
            raise StoreError(f"run {run!r}: without its lease only commands may be appended")

    def _hold(self, run: str, lease: str, gives_up: bool) -> None:
        now = time.time()
        holder, beat = self._leases.get(run, (None, now))
        check_free(run, holder, lease, now - beat)
        if gives_up:
            self._leases.pop(run, None)
        else:
            self._leases[run] = (lease, now)


plugin: type[Store] = Memory
