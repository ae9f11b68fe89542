"""Caps on the processes and the memory of untrusted trees, where control groups can be made."""

import os
import resource
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
PREFIX = "kernelevolve-"
KINDS = {
    "pids": ("pids.max",),
    "memory": ("memory.max", "memory.limit_in_bytes"),
}
NO_SWAP = {"memory.swap.max": "0", "memory.memsw.limit_in_bytes": ""}
"""An empty value stands for the limit itself: there, memory and swap are counted together."""
CLOSE_SECONDS = 1.0


class Group:
    """Members may not have more processes or memory together than is said here.

    Does nothing where control groups cannot be made; `bounds` tells what holds.
    """

    def __init__(self, processes: int, memory_bytes: int, name: str = "") -> None:
        values = {"pids": processes, "memory": memory_bytes}
        self.bounds: frozenset[str] = frozenset()
        self._folders: list[Path] = []
        self.doors: list[int] = []
        """Descriptors for `enter`."""
        for root in _roots():
            _sweep(root)
            self._make(root / f"{PREFIX}{os.getpid()}{name}", values)

    def _make(self, folder: Path, values: dict[str, int]) -> None:
        with suppress(OSError):
            folder.mkdir()
        held = {kind for kind, value in values.items() if _set(folder, kind, value)}
        if held - self.bounds and (door := _door(folder)) is not None:
            self.bounds |= held
            self._folders.append(folder)
            self.doors.append(door)
        else:
            with suppress(OSError):
                folder.rmdir()

    def limit(self, processes: int, memory_bytes: int) -> None:
        """Bound all members, those before too."""
        for folder in self._folders:
            _set(folder, "pids", processes)
            _set(folder, "memory", memory_bytes)

    def close(self) -> None:
        """Remove the folders; members that were killed may take a moment to be gone."""
        while self.doors:
            os.close(self.doors.pop())
        deadline = time.monotonic() + CLOSE_SECONDS
        for folder in self._folders:
            while folder.exists() and time.monotonic() < deadline:
                with suppress(OSError):
                    folder.rmdir()
                    break
                time.sleep(0.005)


def enter(doors: Sequence[int]) -> None:
    """Make the calling process, and everything that it starts from now on, a member.

    It has one thread, and moves itself: to move another, the kernel halts all forks for ten
    milliseconds.

    Raises:
        OSError: it is not let in.
    """
    for door in doors:
        os.write(door, b"0")


def _door(folder: Path) -> int | None:
    """Where a process writes itself in; None where it cannot."""
    for name in ("tasks", "cgroup.procs"):
        with suppress(OSError):
            return os.open(folder / name, os.O_WRONLY | os.O_CLOEXEC)
    return None


def usage(pids: Sequence[int]) -> tuple[int, int]:
    """Threads of these processes and their resident bytes, shared pages counted by each."""
    threads, resident = 0, 0
    for pid in pids:
        with suppress(OSError, IndexError, ValueError):
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            threads += int(fields[17])
            resident += int(fields[21]) * resource.getpagesize()
    return threads, resident


def _set(folder: Path, kind: str, value: int) -> bool:
    """Whether that kind of limit is held now."""
    for name in KINDS[kind]:
        if (folder / name).exists():
            with suppress(OSError):
                (folder / name).write_text(str(value))
                for swap, text in NO_SWAP.items() if kind == "memory" else ():
                    with suppress(OSError):
                        if (folder / swap).exists():
                            (folder / swap).write_text(text or str(value))
                return True
    return False


def _roots() -> tuple[Path, ...]:
    """Controllers of the first version, or the one tree of the second."""
    return tuple(r for r in (ROOT / "pids", ROOT / "memory", ROOT) if os.access(r, os.W_OK))


def _sweep(root: Path) -> None:
    """Remove what processes left that are no more."""
    with suppress(OSError):
        for folder in root.glob(f"{PREFIX}*"):
            pid = folder.name.removeprefix(PREFIX).partition("-")[0]
            if pid.isdigit() and not Path(f"/proc/{pid}").exists():
                with suppress(OSError):
                    folder.rmdir()
