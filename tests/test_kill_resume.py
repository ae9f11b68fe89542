"""A run that is killed at any moment goes on from its journal, and leaves nothing behind."""

import json
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from kernelevolve.core.events import Evaluated, Selected
from kernelevolve.core.graph import Graph
from kernelevolve.stores.sqlite import Sqlite

pytestmark = [pytest.mark.needs_gxx, pytest.mark.needs_sandbox, pytest.mark.long]

KILLS = 20
NODES = 14
SHORT = ("--nodes", str(NODES), "--confirm", "1")
GONE_SECONDS = 20.0
TASK = """
import torch

WORKLOADS = {"small": {"rows": 32}, "tall": {"rows": 65}}
HELD_OUT = {"odd": {"rows": 7}}

class Model(torch.nn.Module):
    def forward(self, x):
        return torch.softmax(x * 1.5, dim=-1)

def get_inputs(rows=32):
    return [torch.randn(rows, 48)]

def get_init_inputs():
    return []
"""


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


def command(store: Path, *words: str) -> list[str]:
    run = "import sys; from kernelevolve.cli.main import run; run()"
    return [sys.executable, "-c", run, *words, "--store", str(store), "--json"]


def killed_after(seconds: float, words: list[str]) -> set[tuple[int, str]]:
    """Start, watch the tree grow, kill the main process; what of the tree is left."""
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + seconds
    seen: set[tuple[int, str]] = set()
    while time.monotonic() < deadline and process.poll() is None:
        seen |= descendants(process.pid)
        time.sleep(0.01)
    seen |= descendants(process.pid)
    process.send_signal(signal.SIGKILL)
    process.wait()
    return left_over(seen)


@pytest.mark.timeout(600)
def test_killed_at_twenty_moments_a_run_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    chance = random.Random()
    task, store = tmp_path / "task.py", tmp_path / "store"
    task.write_text(TASK)
    first = command(store, "optimize", str(task), "--run", "r", *SHORT)
    again = command(store, "resume", "r")
    begun = False
    for _ in range(KILLS):
        left = killed_after(chance.uniform(0.3, 7.0), again if begun else first)
        assert not left, f"still running: {left}"
        begun = begun or (store.exists() and "r" in Sqlite(store).runs())
    done = subprocess.run(again if begun else first, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

    events = Sqlite(store).read("r")
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
    summary = json.loads(done.stdout)
    assert summary["nodes"]["total"] == NODES
    assert summary["best"]["confirmed"]
    scratch = store / "scratch"
    assert not (scratch.exists() and list(scratch.iterdir()))
