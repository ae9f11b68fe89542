"""What a candidate leaves running, open or changed beside its results. In the judge."""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from kernelevolve.core.detector import Detector
from kernelevolve.evaluation import replies
from kernelevolve.evaluation.processes import Runner
from kernelevolve.evaluation.verify import Broken

MORE_DESCRIPTORS = 64
SHOWN = 200
DECIDING = {
    "threads",
    "default dtype",
    "default device",
    "matmul precision",
    "deterministic algorithms",
    "grad mode",
    "autocast",
    "backends",
    "torch modes",
    "floating-point modes",
    "environment of libraries",
    "tracing",
    "alarm",
    "processors",
}
"""Alter numbers, or the driver that calls the module; all else is noted."""


@dataclass(frozen=True)
class Census:
    """A runner as the kernel shows it, and as it describes itself."""

    threads: int
    descriptors: int
    folder: str
    children: tuple[str, ...]
    """Names of the processes that it started and that still run."""
    said: Mapping[str, str]

    @classmethod
    def take(cls, pids: Sequence[int], said: Mapping[str, str]) -> "Census":
        """Of a runner's tree, the driver first."""
        if not pids:
            return cls(0, 0, "", (), said)
        process = Path(f"/proc/{pids[0]}")
        children = tuple(name for pid in pids[1:] if (name := _running(pid)))
        return cls(
            threads=_entries(process / "task"),
            descriptors=_entries(process / "fd"),
            folder=_link(process / "cwd"),
            children=children,
            said=said,
        )

    def compare(self, before: "Census", calls: str) -> dict[str, str]:
        """What is worth noting, by rule.

        Raises:
            Broken: something is left that a candidate must not leave.
        """
        if self.children:
            names = ", ".join(sorted(set(self.children)))
            _object(
                f"{len(self.children)} child processes still run after {calls} ({names}); "
                "end and wait for what forward starts"
            )
        more = self.descriptors - before.descriptors
        if more > MORE_DESCRIPTORS:
            _object(f"{more} more descriptors are open after {calls}; close what is opened")
        if self.folder != before.folder:
            _object(
                f"the current folder is {self.folder} after {calls}, {before.folder} before; "
                "go back before forward returns, or use whole paths"
            )
        for name in sorted(DECIDING & {*before.said, *self.said}):
            was, now = before.said.get(name, ""), self.said.get(name, "")
            if was != now:
                _object(
                    f"{name} changed after {calls}: {_difference(was, now)}; set it back before "
                    "forward returns, or do not change it"
                )
        return self._notes(before)

    def _notes(self, before: "Census") -> dict[str, str]:
        notes = {
            f"state_{name.replace(' ', '_')}": f"{name} changed: {_difference(was, now)}"
            for name, was in before.said.items()
            if name not in DECIDING and (now := self.said.get(name, "")) != was
        }
        if self.threads > before.threads:
            notes["threads"] = f"{self.threads} threads in its process, {before.threads} before"
        return notes


class Watch:
    """Compares a runner with what it was before it loaded anything."""

    def __init__(self, runner: Runner, seconds: float) -> None:
        self._runner = runner
        self._seconds = seconds
        self._before = self._census()

    def _census(self) -> Census:
        said = replies.texts(self._runner.ask("state", self._seconds), "state")
        return Census.take(self._runner.tree.pids(), said)

    def notes(self, calls: str) -> dict[str, str]:
        """What is worth noting after those calls, by rule.

        Raises:
            Broken: something is left that a candidate must not leave.
        """
        return self._census().compare(self._before, calls)


def _object(message: str) -> None:
    raise Broken(Detector.STATE, message)


def _difference(was: str, now: str) -> str:
    """Both texts from a little before the place where they part."""
    same = len(os.path.commonprefix([was, now]))
    start = max(0, same - SHOWN // 4)
    return f"{was[start : start + SHOWN]} became {now[start : start + SHOWN]}"


def _running(pid: int) -> str:
    """Its name; nothing for one that has ended."""
    with suppress(OSError, IndexError):
        name, _, rest = Path(f"/proc/{pid}/stat").read_text().partition("(")[2].rpartition(")")
        return "" if rest.split()[0] in "ZX" else name
    return ""


def _entries(folder: Path) -> int:
    with suppress(OSError):
        return sum(1 for _ in folder.iterdir())
    return 0


def _link(path: Path) -> str:
    with suppress(OSError):
        return str(path.readlink())
    return ""
