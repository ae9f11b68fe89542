import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from random import Random

from kernelevolve.core.events import Confirmed, Evaluated, Failed, Selected
from kernelevolve.core.graph import Graph
from kernelevolve.stores.sqlite import Sqlite

ROOT = Path(__file__).parents[2]
NODES = 60
KILLS = 8


def start(folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.search.killed_run", str(folder), str(NODES)], cwd=ROOT
    )


def test_killed_at_random_moments_and_resumed(tmp_path):
    """Each session is killed as soon as it has written some events of its own."""
    rng = Random(0)
    store = Sqlite(tmp_path)
    for _ in range(KILLS):
        enough = len(store.read("run")) + rng.randrange(2, 22)
        child = start(tmp_path)
        while len(store.read("run")) < enough and child.poll() is None:
            time.sleep(rng.random() * 0.002)
        child.kill()
        child.wait()
    assert start(tmp_path).wait() == 0

    events = store.read("run")
    store.close()
    graph = Graph.fold(events)
    assert [e.number for e in events if isinstance(e, Selected)] == list(range(1, NODES + 1))
    ends = Counter(e.number for e in events if isinstance(e, (Evaluated, Failed)))
    assert ends == Counter(range(1, NODES + 1))
    assert not (tmp_path / "evaluated_again").exists()
    assert graph.stopped_by == "nodes"
    assert graph.best.confirmed
    assert any(isinstance(e, Confirmed) for e in events)
