"""All processes and threads of a runner, as the judge sees them: halted, resumed, accounted."""

import ctypes
import os
import signal
import time
from contextlib import suppress

LIBC = ctypes.CDLL(None)
STOP_SECONDS = 2.0
LATE_SECONDS = 2e-4
"""A stop that takes longer is none at once: it lasts until all threads stand."""
SCHEDULER_CLOCK = 2
STANDING = b"TtZX"
TICKS = os.sysconf("SC_CLK_TCK")
WAITED_FOR = slice(13, 15)
"""Of the fields behind a process's name: its ended children's time in user and kernel mode."""


class Restless(Exception):
    """Processes that do not stand still although they were told to."""


class Tree:
    """What descends from a runner's init; the init itself is ours and is left alone."""

    def __init__(self, init: int) -> None:
        self.init = init
        self.halted = False
        self.strict = False
        """Whether a halt lasts until all threads were looked for, of which some may be new."""
        self._pids: list[int] = []
        self._threads: dict[tuple[int, str], int] = {}
        self._own_stat = os.open(f"/proc/{init}/stat", os.O_RDONLY | os.O_CLOEXEC)

    def pids(self) -> list[int]:
        """The processes, the driver first; while they stand there are no others."""
        return self._pids if self.halted else descendants(self.init)

    def halt(self) -> float:
        """Stop every thread; the moment from which on none of them ran.

        Every known thread is told by itself, so that whoever runs is interrupted at once and none
        goes on while another, which was told for all, waits for a core. Threads that were started
        since are found later, and then the moment is later as well.

        Raises:
            Restless: some thread goes on.
        """
        deadline = time.perf_counter() + STOP_SECONDS
        self.halted = True
        for pid, thread in self._threads:
            LIBC.tgkill(pid, int(thread), signal.SIGSTOP)
        moment = time.perf_counter()
        self._await(deadline)
        if time.perf_counter() - moment > LATE_SECONDS:
            moment = time.perf_counter()
        while self._look() or not self._stands():
            for pid in {pid for pid, _ in self._threads}:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGSTOP)
            self._await(deadline)
            moment = time.perf_counter()
        return time.perf_counter() if self.strict else moment

    def _await(self, deadline: float) -> None:
        while not self._stands():
            if time.perf_counter() > deadline:
                raise Restless
            os.sched_yield()

    def _stands(self) -> bool:
        return all(_stands(fd) for fd in self._threads.values())

    def _look(self) -> bool:
        """Find all threads; whether some were not known."""
        self._pids = descendants(self.init)
        found = {(pid, thread) for pid in self._pids for thread in _listed(f"/proc/{pid}/task")}
        for gone in self._threads.keys() - found:
            os.close(self._threads.pop(gone))
        new = found - self._threads.keys()
        for pid, thread in new:
            with suppress(OSError):
                path = f"/proc/{pid}/task/{thread}/stat"
                self._threads[pid, thread] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        return bool(new)

    def resume(self) -> None:
        """Undo `halt`."""
        for pid in {pid for pid, _ in self._threads}:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        self.halted = False

    def processors(self) -> frozenset[int]:
        """All on which some thread that was seen may run."""
        found: set[int] = set()
        for _, thread in self._threads:
            with suppress(OSError):
                found |= os.sched_getaffinity(int(thread))
        return frozenset(found)

    def cpu(self) -> float:
        """Processor seconds of all living processes, of their ended threads and children too.

        Of children in whole ticks, and only of those that their parent, or the init, waited for.
        """
        known = [fd for (pid, thread), fd in self._threads.items() if thread == str(pid)]
        total = sum(map(_of_ended_children, (self._own_stat, *known)))
        for pid in self.pids():
            with suppress(OSError):
                total += time.clock_gettime((~pid << 3) | SCHEDULER_CLOCK)
        return total

    def scheduled(self, pid: int) -> tuple[float, float]:
        """Seconds that the main thread of one process ran, and that it waited for its core."""
        ran, waited = (_read(f"/proc/{pid}/task/{pid}/schedstat") or "0 0").split()[:2]
        return int(ran) * 1e-9, int(waited) * 1e-9

    def close(self) -> None:
        """Forget it."""
        for fd in self._threads.values():
            os.close(fd)
        os.close(self._own_stat)
        self._threads = {}


def descendants(pid: int) -> list[int]:
    """Children, their children, and so on."""
    found: list[int] = []
    pending = [pid]
    while pending:
        current = pending.pop()
        for thread in _listed(f"/proc/{current}/task"):
            children = _read(f"/proc/{current}/task/{thread}/children").split()
            found += map(int, children)
            pending += map(int, children)
    return found


def _listed(folder: str) -> list[str]:
    try:
        return os.listdir(folder)  # noqa: PTH208 - a path object per thread is slow
    except OSError:
        return []


def _of_ended_children(stat: int) -> float:
    try:
        fields = os.pread(stat, 1024, 0).rpartition(b")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[WAITED_FOR])) / TICKS


def _read(path: str) -> str:
    """Empty where there is no such process any more."""
    try:
        with open(path) as file:  # noqa: PTH123 - a path object per thread is slow
            return file.read()
    except OSError:
        return ""


def _stands(fd: int) -> bool:
    try:
        state = os.pread(fd, 128, 0).rpartition(b")")[2][1:2]
    except OSError:
        return True
    return state in STANDING
