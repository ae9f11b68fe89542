"""The judge's hold on a runner: ask with a limit, stop, kill."""

import ctypes
import os
import select
import signal
import socket
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from kernelevolve.evaluation import peek, replies
from kernelevolve.evaluation.layout import Array
from kernelevolve.evaluation.midway import Midway
from kernelevolve.evaluation.peek import Extent
from kernelevolve.evaluation.tree import STOP_SECONDS, Restless, Tree
from kernelevolve.evaluation.wire import Channel, Closed, Expired, Malformed

START_SECONDS = 60.0
LOG_TAIL = 3000
CLOSED = "the process closed its channel to the judge and went on"
SPIN_SECONDS = 1.0
LIBC = ctypes.CDLL(None, use_errno=True)


class Lost(Exception):
    """Our own machinery failed."""


class Ended(Exception):
    """The runner's process ended; `code` is negative for a signal."""

    def __init__(self, code: int, log: str, why: str = "") -> None:
        super().__init__(why or f"ended with {code}")
        self.code = code
        self.log = log
        self.why = why
        """The limit that it broke, or what it did to its channel, in words."""


class Late(Exception):
    """A request ran past its limit; the runner was killed."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"no answer within {seconds:g} s")
        self.seconds = seconds


class Failed(Exception):
    """The module raised; `error` holds kind, type, text and trace."""

    def __init__(self, error: Mapping[str, str]) -> None:
        super().__init__(str(error.get("text", ""))[:200])
        self.error = error


class Runner:
    """One forked runner."""

    _started: int | None = None
    """The last number that the kernel gave in its namespace."""
    on_device = False
    """Whether its kernels run on a device, and not on its processor."""
    _last_word: dict[str, Any] | None = None
    """What its init said of its end, where it was asked for something else."""

    def __init__(
        self,
        control: socket.socket,
        status: socket.socket,
        log: int,
        *,
        isolated: bool,
    ) -> None:
        self._channel = Channel(control, cap=4 << 20)
        self._status = Channel(status, cap=4096)
        self._log = log
        self._isolated = isolated
        self._poll = select.poll()
        self.init = _sender(status)
        self.tree = Tree(self.init)
        self.driver = 0
        """Number of the process that answers; known from its first answer on."""
        self.cores: frozenset[int] = frozenset()
        """Where it was told to run, before it ran anybody's code."""
        self.peeks = False
        """Whether its memory can be read; found out before it runs anybody's code."""
        self._handle = os.pidfd_open(self.init)
        for channel in (self._channel, self._status):
            self._poll.register(channel, select.POLLIN)
        self.killed = False
        self.closed = False
        self.log_bytes = LOG_TAIL

    def show(self, folder: str) -> None:
        """Let it see that part of the hidden folder, and none from then on.

        Raises:
            Lost: it has ended.
        """
        if not self._ask_init({"shown": folder}).get("shown"):
            raise Lost("a runner ended before it loaded anything")

    def _ask_init(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Its answer; its last word where the runner has ended."""
        try:
            self._status.send(body)
            answer = self._status.receive(STOP_SECONDS).body
            self._last_word = answer if "ended" in answer else None
            return answer
        except (Closed, Expired, Malformed) as error:
            return {"failed": str(error)}

    def starts_threads(self) -> bool:
        """Whether threads or processes have started in its namespace since this was asked last.

        The kernel's numbers tell: each question takes one. Not known, and so not said, where
        runners have no namespace of their own.
        """
        before, self._started = self._started, None
        number = self._ask_init({"number": True}).get("number") if self._isolated else None
        if isinstance(number, int):
            self._started = number
        return None not in (before, number) and number != (before or 0) + 1

    def set_up(self, cores: Sequence[int], threads: int, seconds: float) -> None:
        """Where it is to run, which is the first thing that it is asked.

        Raises:
            Lost: it could not start; nobody's code has run in it.
        """
        try:
            self.ask("setup", seconds, cores=list(cores), threads=threads)
        except (Ended, Late) as error:
            said = error.log if isinstance(error, Ended) else ""
            raise Lost(f"a runner could not start: {error}\n{said}".rstrip()) from error

    def ask(self, op: str, seconds: float, fds: Sequence[int] = (), **body: Any) -> dict[str, Any]:
        """Send a request and wait for its answer.

        Raises:
            Ended: the process ended instead; it is closed.
            Late: no answer came in time; it is killed.
            Failed: the module raised; it can be asked again.
            Malformed: the answer is not in the protocol.
        """
        self._send({"op": op, **body}, seconds, fds)
        self.go_on()
        reply = self._reply(seconds)
        if not self.driver:
            self._meet()
        return reply

    def _send(self, body: Mapping[str, Any], seconds: float, fds: Sequence[int] = ()) -> None:
        try:
            self._channel.send(body, fds, seconds)
        except Closed:
            self._raise_ended()
        except Expired as error:
            self.close()
            raise Late(seconds) from error

    def _meet(self) -> None:
        """After the first answer, which comes before anything is loaded."""
        self.driver = next(iter(self.tree.pids()), 0)
        self.peeks = bool(self.driver) and peek.permitted(self.driver)
        with suppress(OSError):
            self.cores = frozenset(os.sched_getaffinity(self.driver))

    def window(
        self, seconds: float, *, still: bool, midway: Midway | None = None, **body: Any
    ) -> tuple[float, float]:
        """Time `calls` by the judge's own clock; the runner's own figure comes second.

        The request lies ready before the runner is let go.

        Args:
            seconds: limit.
            still: the clock runs until every thread stands, and they are left so.
            midway: where to stop on the way; the pause is not counted.
            body: what is called.
        """
        self._send({"op": "calls", **body}, seconds)
        begun = time.perf_counter()
        self.go_on()
        latest = begun + min(seconds, SPIN_SECONDS)
        pause = 0.0
        if midway is not None:
            midway.begins(begun)
            pause = self._halfway(latest, midway)
        reply = None if self._spin(latest) else self._reply(seconds)
        ended = self._ended(seconds, still=still)
        reply = self._reply(seconds) if reply is None else reply
        self.window_told(reply)
        return ended - begun - pause, replies.seconds(reply, "took")

    def window_told(self, reply: Mapping[str, Any]) -> None:
        """Take note of what came with the answer to a window."""

    def _ended(self, seconds: float, *, still: bool) -> float:
        """The moment when a window has ended whose answer came; all threads stand if `still`."""
        return self.stop() if still else time.perf_counter()

    def halt_midway(self) -> float:
        """Stop in the middle of a window; the moment from which on nothing of it was worked."""
        return self.stop()

    def _halfway(self, latest: float, midway: Midway) -> float:
        """Stop where it is time to, unless the answer comes first; seconds that all stood."""
        if self._spin(latest, midway.reached):
            return 0.0
        stopped = self.halt_midway()
        midway.look()
        pause = time.perf_counter() - stopped
        self.go_on()
        return pause

    def _spin(self, deadline: float, reached: Callable[[], bool] = lambda: False) -> bool:
        """Watch for the answer without sleeping: waking up would count as the runner's time."""
        poll, now = self._poll.poll, time.perf_counter
        while not (answered := poll(0)) and not reached() and now() < deadline:
            pass
        return bool(answered)

    def _reply(self, seconds: float) -> dict[str, Any]:
        deadline = time.monotonic() + seconds
        left = seconds
        while left > 0:
            events = dict(self._poll.poll(left * 1000))
            if self._channel.fileno() in events:
                try:
                    return self._accepted(self._channel.receive(max(left, 1.0)).body)
                except Closed:
                    self._raise_ended()
                except Expired:
                    break
            if events:
                self._raise_ended()
            left = deadline - time.monotonic()
        self.close()
        raise Late(seconds)

    @staticmethod
    def _accepted(reply: dict[str, Any]) -> dict[str, Any]:
        if "error" in reply:
            raise Failed(replies.failure(reply))
        return reply

    def _raise_ended(self) -> NoReturn:
        self.go_on()
        code, why = -signal.SIGKILL, ""
        try:
            body = self._last_word or self._status.receive(STOP_SECONDS).body
            code, why = int(body.get("ended", 0)), str(body.get("limit", ""))
        except Expired:
            why = CLOSED
        except (Closed, Malformed):
            pass
        log = tail(self._log, self.log_bytes)
        self.close()
        raise Ended(code, log, why)

    def log(self) -> str:
        """The end of what it printed."""
        return tail(self._log)

    def stop(self) -> float:
        """Halt every thread of the tree; the moment when the last one was seen to stand.

        Raises:
            Late: some thread goes on; the tree is killed.
        """
        try:
            return self.tree.halt()
        except Restless as error:
            self.close()
            raise Late(STOP_SECONDS) from error

    def go_on(self) -> None:
        """Undo `stop`."""
        if self.tree.halted:
            self.tree.resume()

    def read(self, extents: Sequence[Extent], block: Array) -> bool:
        """Copy memory of the driver's process, best while it stands; False where it cannot."""
        return peek.read(self.driver, extents, block)

    @property
    def reaches(self) -> bool:
        """Whether memory that could not be read is still to be handed over."""
        return False

    def reach_for(self) -> None:
        """Have the driver hand over memory that could not be read."""

    @property
    def watched(self) -> bool:
        """Whether the judge can look on while it runs: not where both have but one processor."""
        mine = os.sched_getaffinity(0)
        return len(mine) > 1 or not mine <= self.cores

    def waited(self) -> float:
        """Seconds that the driver was ready to run and something foreign had its core.

        Where it has one core, what other threads of its own took of that is no excuse.
        """
        ran, waited = self.tree.scheduled(self.driver)
        return waited - (self.tree.cpu() - ran if len(self.cores) == 1 else 0.0)

    def strays(self) -> frozenset[int]:
        """Processors that some thread may use beside its own, by the kernel's word."""
        return self.tree.processors() - self.cores if self.cores else frozenset()

    def shares(self, addresses: Sequence[int], files: Sequence[int]) -> bool:
        """Whether an address lies in memory that is one of these files', by the kernel's word."""
        inodes = {os.fstat(fd).st_ino for fd in files}
        return bool(inodes & peek.files_behind(self.driver, addresses))

    def memory(self) -> tuple[int, int]:
        """Resident bytes of the runner now, and their peak."""
        return self._resident("VmRSS"), self._resident("VmHWM")

    def private(self) -> int:
        """Resident bytes of the runner without what it shares with the judge."""
        return self._resident("RssAnon")

    def _resident(self, field: str) -> int:
        with suppress(OSError):
            for line in Path(f"/proc/{self.driver}/status").read_text().splitlines():
                if line.startswith(field):
                    return int(line.split()[1]) << 10
        return 0

    def kill(self) -> None:
        """The whole tree; `close` waits until it is gone."""
        if self.killed:
            return
        self.killed = True
        others = [] if self._isolated else self.tree.pids()
        for pid in others:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._handle, signal.SIGKILL)

    def close(self) -> None:
        """Kill the whole tree and wait until it is gone."""
        if self.closed:
            return
        self.kill()
        self.closed = True
        select.select([self._handle], [], [], STOP_SECONDS)
        self.tree.close()
        os.close(self._handle)
        os.close(self._log)
        self._channel.close()
        self._status.close()


def _sender(status: socket.socket) -> int:
    """Process number, as seen from here, of whoever sent the first message."""
    status.settimeout(START_SECONDS)
    space = socket.CMSG_SPACE(struct.calcsize("3i"))
    try:
        data, ancillary, _, _ = status.recvmsg(4096, space)
    except OSError as error:
        raise Lost(f"a runner did not start: {error}") from error
    if b'"hello"' not in data:
        raise Lost(f"a runner did not start: {data[4:].decode(errors='replace')}")
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS:
            return int(struct.unpack("3i", payload[: struct.calcsize("3i")])[0])
    raise Lost("a runner came without credentials")


def tail(fd: int, limit: int = LOG_TAIL) -> str:
    """The end of what was written to a memory file."""
    size = os.fstat(fd).st_size
    data = os.pread(fd, limit, max(0, size - limit))
    return data.decode(errors="replace").strip()
