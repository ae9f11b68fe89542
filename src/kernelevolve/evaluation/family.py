"""Processes and threads below one process, found again and again by files that stay open."""

import os
from contextlib import suppress
from dataclasses import dataclass

PAGE = 4096
STANDING = b"TtZX"
Thread = tuple[int, str]
"""A process, and the name of one of its threads."""


@dataclass(frozen=True)
class _Open:
    """Files of one thread; a thread that takes its number later has others."""

    stat: int
    children: int


class Family:
    """What descends from one process; that one is left out.

    Opening the files of a thread takes longer than reading them ten times.
    """

    def __init__(self, root: int) -> None:
        self.root = root
        self.pids: list[int] = []
        """As they were last looked for, the oldest first."""
        self._tasks: dict[int, int] = {}
        self._open: dict[Thread, _Open] = {}

    @property
    def threads(self) -> list[Thread]:
        """Theirs."""
        return [thread for thread in self._open if thread[0] != self.root]

    def look(self) -> bool:
        """Find all; whether some were not known."""
        new, self.pids, found = False, [], set[Thread]()
        pending = [self.root]
        while pending:
            pid = pending.pop()
            for name in self._listed(pid):
                thread = pid, name
                new |= thread not in self._open
                with suppress(FileNotFoundError, ProcessLookupError):
                    files = self._open.get(thread) or self._opened(thread)
                    found.add(thread)
                    children = [int(child) for child in _read(files.children).split()]
                    self.pids += children
                    pending += children
        for thread in self._open.keys() - found:
            self._close(thread)
        for pid in self._tasks.keys() - {self.root, *self.pids}:
            os.close(self._tasks.pop(pid))
        return new

    def _listed(self, pid: int) -> list[str]:
        """The threads of a process; none where it has ended, even if another has its number now."""
        if pid in self._tasks:
            if found := os.listdir(self._tasks[pid]):  # noqa: PTH208 - no path takes an open folder
                return found
            self._end(pid)
        with suppress(FileNotFoundError, ProcessLookupError):
            self._tasks[pid] = os.open(f"/proc/{pid}/task", os.O_DIRECTORY | os.O_CLOEXEC)
            return os.listdir(self._tasks[pid])  # noqa: PTH208
        return []

    def _opened(self, thread: Thread) -> _Open:
        folder = f"/proc/{thread[0]}/task/{thread[1]}"
        children = os.open(f"{folder}/children", os.O_RDONLY | os.O_CLOEXEC)
        try:
            stat = os.open(f"{folder}/stat", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            os.close(children)
            raise
        self._open[thread] = _Open(stat, children)
        return self._open[thread]

    def stats(self) -> list[int]:
        """Open files of what the kernel says of each process, the first one's too."""
        known = ((pid, str(pid)) for pid in (self.root, *self.pids))
        return [self._open[thread].stat for thread in known if thread in self._open]

    def stands(self) -> bool:
        """Whether none of the known threads runs."""
        return all(map(self._stands, self.threads))

    def _stands(self, thread: Thread) -> bool:
        """Whether it does not run; one that has ended is forgotten: others may get its number."""
        try:
            stat = os.pread(self._open[thread].stat, 128, 0)
        except ProcessLookupError:
            self._close(thread)
            return True
        return stat.rpartition(b")")[2][1:2] in STANDING

    def _end(self, pid: int) -> None:
        os.close(self._tasks.pop(pid))
        for thread in [thread for thread in self._open if thread[0] == pid]:
            self._close(thread)

    def _close(self, thread: Thread) -> None:
        files = self._open.pop(thread)
        os.close(files.stat)
        os.close(files.children)

    def close(self) -> None:
        """Forget all of it."""
        for thread in list(self._open):
            self._close(thread)
        for fd in self._tasks.values():
            os.close(fd)
        self.pids, self._tasks = [], {}


def descendants(pid: int) -> list[int]:
    """Children, their children, and so on."""
    family = Family(pid)
    family.look()
    found = family.pids
    family.close()
    return found


def _read(fd: int) -> bytes:
    """All of a file that the kernel gives by the page."""
    found = part = os.pread(fd, PAGE, 0)
    while len(part) > PAGE // 2:
        part = os.pread(fd, PAGE, len(found))
        found += part
    return found
