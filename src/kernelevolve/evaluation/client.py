"""The main process's end of a subprocess that answers numbered requests: judge, builder."""

import itertools
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

from kernelevolve.evaluation import sandbox
from kernelevolve.evaluation.wire import Channel, Closed, Malformed, pair

END_SECONDS = 5.0
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


class Gone(Exception):
    """The subprocess died before it answered."""


class Client:
    """Starts `python -P -m module`, sends requests from any thread, hands out futures.

    Nothing is imported from the folder that the user happens to be in.
    """

    def __init__(self, module: str, first: dict[str, Any] | None = None) -> None:
        ours, theirs = pair()
        self.process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-P", "-m", module, f"--fd={theirs.fileno()}"],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            env=sandbox.environment(ONE_THREAD) | {"HOME": str(sandbox.home())},
        )
        theirs.close()
        self._channel = Channel(ours)
        self._numbers = itertools.count(1)
        self._open: dict[int, Future[dict[str, Any]]] = {}
        self._lock = threading.Lock()
        self.alive = True
        if first is not None:
            self._channel.send(first)
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def request(self, body: dict[str, Any], fds: Sequence[int] = ()) -> "Future[dict[str, Any]]":
        """The answer, later; it fails with `Gone` when the subprocess dies."""
        future: Future[dict[str, Any]] = Future()
        with self._lock:
            if not self.alive:
                future.set_exception(Gone())
                return future
            number = next(self._numbers)
            self._open[number] = future
            try:
                self._channel.send({"id": number, **body}, fds)
            except Closed:
                self.alive = False
                self._open.pop(number)
                future.set_exception(Gone())
        return future

    def _listen(self) -> None:
        with suppress(Closed, Malformed, OSError, ValueError):
            while True:
                body = self._channel.receive().body
                with self._lock:
                    future = self._open.pop(body["id"], None)
                if future is not None and future.set_running_or_notify_cancel():
                    future.set_result(body)
        with self._lock:
            self.alive = False
            pending, self._open = self._open, {}
        for future in pending.values():
            if future.set_running_or_notify_cancel():
                future.set_exception(Gone())

    def close(self) -> None:
        """End it; whatever it started ends with it."""
        with suppress(OSError):
            self._channel.sock.shutdown(2)
        try:
            self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._thread.join(END_SECONDS)
        self._channel.close()
