"""A run that is killed at any moment goes on from its journal, and leaves nothing behind."""

import json
import multiprocessing
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from kernelevolve.core.candidate import Brief, Move, Proposal, SourceFile
from kernelevolve.core.events import Evaluated, Event, Selected
from kernelevolve.core.graph import Graph
from kernelevolve.core.target import TargetSpec
from kernelevolve.search.journal import Journal
from kernelevolve.stores.sqlite import Sqlite
from kernelevolve.taskfile import parse
from tests import killed_main

pytestmark = [pytest.mark.needs_gxx, pytest.mark.needs_sandbox, pytest.mark.long, pytest.mark.slow]

EARLY, MIDWAY, LATE = 2, 2, 1
"""Kills while a session starts, while nodes are judged, and in the final check."""
NODES = 14
"""More than the sessions before the late kills can end."""
GONE_SECONDS = 20.0
TASK = """
import torch

WORKLOADS = {"small": {"rows": 32}}
HELD_OUT = {"odd": {"rows": 7}}

class Model(torch.nn.Module):
    def forward(self, x):
        y = torch.relu(x)
        for _ in range(12):
            y = y * 1.01
        return y

def get_inputs(rows=32):
    return [torch.randn(rows, 48)]

def get_init_inputs():
    return []
"""
MODEL = """
import torch
from kernelevolve.runtime import cpp

kernel = cpp.load("kernel.cpp", flags=["-O3"])

class ModelNew(torch.nn.Module):
    def forward(self, x):
        x = x.contiguous()
        y = torch.empty_like(x)
        kernel.fused(x, y, x.numel())
        return y
"""
KERNEL = """
extern "C" void fused(const float *x, float *y, long n) {
    for (long i = 0; i < n; ++i) y[i] = x[i] < 0 ? 0 : x[i] * FACTOR;
}
"""
TWINS = {9: 5}
"""A node that proposes what an earlier one has proposed."""


def recorded(store: Sqlite) -> None:
    """A run whose answers the killed one gets; every second is wrong."""
    task, target = parse("task", TASK), TargetSpec(vendor="cpu", arch="x86_64")
    journal = Journal(store, "recorded")
    journal.start(task, target, {})
    for number in range(1, NODES + 1):
        journal.selected(Move())
        brief = Brief(
            task=task, target=target, language="cpp", guide="", move=Move(), number=number, seed="1"
        )
        factor = "1.3f" if number % 2 == 0 else "1.1268250301f"
        kernel = f"// {TWINS.get(number, number)}\n" + KERNEL.replace("FACTOR", factor)
        texts = {"model.py": MODEL, "kernel.cpp": kernel}
        files = tuple(SourceFile(path=path, text=text) for path, text in texts.items())
        journal.proposed(brief, Proposal(files=files))


def descendants(pid: int) -> set[tuple[int, str]]:
    """Process numbers with start times, so that a reused number is not mistaken."""
    found: set[tuple[int, str]] = set()
    waiting = [pid]
    while waiting:
        current = waiting.pop()
        try:
            stat = Path(f"/proc/{current}/stat").read_text().rsplit(")", 1)[1].split()
            found.add((current, stat[19]))
            for task in Path(f"/proc/{current}/task").iterdir():
                waiting += [int(word) for word in (task / "children").read_text().split()]
        except OSError:
            continue
    return found


def lives(process: tuple[int, str]) -> bool:
    try:
        stat = Path(f"/proc/{process[0]}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return False
    return stat[19] == process[1] and stat[0] != "Z"


def left_over(processes: set[tuple[int, str]]) -> set[tuple[int, str]]:
    """Those that still live when everything has had time to end."""
    deadline = time.monotonic() + GONE_SECONDS
    while (alive := {p for p in processes if lives(p)}) and time.monotonic() < deadline:
        time.sleep(0.02)
    return alive


Due = Callable[[Sequence[Event]], bool]


class Run:
    """A run of many sessions, in processes that need not import anything first."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.said = folder / "said.json"
        self.store = Sqlite(folder / "store")
        (folder / "task.py").write_text(TASK)
        recorded(self.store)
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([killed_main.__name__])

    def session(self) -> multiprocessing.process.BaseProcess:
        """Begin the run, or go on with it."""
        words = ["resume", "r", "--store", str(self.folder / "store")]
        if "r" not in self.store.runs():
            short = ["--nodes", str(NODES), "--confirm", "1", "--eager-only"]
            words = ["optimize", str(self.folder / "task.py"), "--run", "r", *short, *words[2:]]
        process = self._context.Process(target=killed_main.session, args=(words, self.said))
        process.start()
        return process

    def killed(self, due: Due, later: float) -> set[tuple[int, str]]:
        """Start, watch the tree grow, kill the main process; what of the tree is left.

        Args:
            due: whether the moment has come, by what this session has written.
            later: seconds from that moment to the kill.
        """
        before = len(self.store.read("r"))
        process = self.session()
        assert process.pid is not None
        seen: set[tuple[int, str]] = set()
        end: float | None = None
        while process.is_alive() and (end is None or time.monotonic() < end):
            seen |= descendants(process.pid)
            if end is None and due(self.store.read("r", before)):
                end = time.monotonic() + later
            time.sleep(0.01)
        seen |= descendants(process.pid)
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL, self.said.read_text()
        return left_over(seen)

    def all_judged(self, _: Sequence[Event]) -> bool:
        return sum(isinstance(e, Evaluated) for e in self.store.read("r")) == NODES


def wrote(count: int) -> Due:
    return lambda events: len(events) >= count


@pytest.mark.timeout(300)
def test_killed_at_five_moments_a_run_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    chance = random.Random()
    run = Run(tmp_path)
    moments = [(wrote(0), chance.uniform(0.0, 1.5)) for _ in range(EARLY)]
    moments += [(wrote(chance.randint(2, 5)), chance.uniform(0.0, 0.3)) for _ in range(MIDWAY)]
    chance.shuffle(moments)
    for due, later in moments:
        assert not (left := run.killed(due, later)), f"still running: {left}"
    for _ in range(LATE):
        left = run.killed(run.all_judged, chance.uniform(0.0, 1.0))
        assert not left, f"still running: {left}"
    last = run.session()
    last.join()
    assert last.exitcode == 0, run.said.read_text()

    events = run.store.read("r")
    opened = [e.number for e in events if isinstance(e, Selected)]
    assert opened == list(range(1, NODES + 1))
    graph = Graph.fold(events)
    assert not graph.open
    judged = Counter(
        graph.nodes[e.number].proposal.candidate
        for e in events
        if isinstance(e, Evaluated) and e.same_as is None
    )
    assert set(judged.values()) == {1}
    assert len(judged) == NODES - len(TWINS)
    summary = json.loads(run.said.read_text())
    assert summary["nodes"]["total"] == NODES
    assert summary["best"]["confirmed"]
    scratch = tmp_path / "store" / "scratch"
    assert not (scratch.exists() and list(scratch.iterdir()))
