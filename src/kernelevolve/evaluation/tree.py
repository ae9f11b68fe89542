"""All processes and threads of a runner, as the judge sees them: halted, resumed, accounted."""

import ctypes
import os
import signal
import time
from contextlib import suppress

from kernelevolve.evaluation.family import Family

LIBC = ctypes.CDLL(None)
STOP_SECONDS = 2.0
LATE_SECONDS = 2e-4
"""A stop that takes longer is none at once: it lasts until all threads stand."""
SCHEDULER_CLOCK = 2
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
        self._family = Family(init)

    def pids(self) -> list[int]:
        """The processes, the driver first; while they stand there are no others."""
        if not self.halted:
            self._family.look()
        return self._family.pids

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
        for pid, thread in self._family.threads:
            LIBC.tgkill(pid, int(thread), signal.SIGSTOP)
        moment = time.perf_counter()
        self._await(deadline)
        if time.perf_counter() - moment > LATE_SECONDS:
            moment = time.perf_counter()
        while self._family.look() or not self._family.stands():
            self._tell(signal.SIGSTOP)
            self._await(deadline)
            moment = time.perf_counter()
        return time.perf_counter() if self.strict else moment

    def _await(self, deadline: float) -> None:
        while not self._family.stands():
            if time.perf_counter() > deadline:
                raise Restless
            os.sched_yield()

    def _tell(self, number: int) -> None:
        for pid in {pid for pid, _ in self._family.threads}:
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def resume(self) -> None:
        """Undo `halt`."""
        self._tell(signal.SIGCONT)
        self.halted = False

    def processors(self) -> frozenset[int]:
        """All on which some thread that was seen may run."""
        found: set[int] = set()
        for _, thread in self._family.threads:
            with suppress(OSError):
                found |= os.sched_getaffinity(int(thread))
        return frozenset(found)

    def cpu(self) -> float:
        """Processor seconds of all living processes, of their ended threads and children too.

        Of children in whole ticks, and only of those that their parent, or the init, waited for.
        """
        pids = self.pids()
        total = sum(map(_of_ended_children, self._family.stats()))
        for pid in pids:
            with suppress(OSError):
                total += time.clock_gettime((~pid << 3) | SCHEDULER_CLOCK)
        return total

    def scheduled(self, pid: int) -> tuple[float, float]:
        """Seconds that the main thread of one process ran, and that it waited for its core."""
        ran, waited = (_read(f"/proc/{pid}/task/{pid}/schedstat") or "0 0").split()[:2]
        return int(ran) * 1e-9, int(waited) * 1e-9

    def close(self) -> None:
        """Forget it."""
        self._family.close()


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
