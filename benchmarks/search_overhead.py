"""What the search itself costs: selections, briefs and journal at 1,000 nodes, resume, import.

python benchmarks/search_overhead.py

The journal is made up, its events as large as real ones: 3 workloads, 20 samples of the kernel
and of both baselines each, two files of 6 kB per candidate. Import is timed in fresh processes.
"""

import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

from common import write

from kernelevolve import registry
from kernelevolve.core.candidate import Move, Proposal, SourceFile, Usage
from kernelevolve.core.events import Event, Proposed
from kernelevolve.core.graph import Graph
from kernelevolve.core.lease import Lease
from kernelevolve.search.briefing import brief
from kernelevolve.search.journal import Journal
from kernelevolve.stores.sqlite import FILE, Sqlite
from kernelevolve.testing.journals import passed, random_journal

NODES = 1000
SAMPLES = 20
REPEATS = 30
FILE_BYTES = 6000
LIMITS_MS = {"select": 5.0, "resume: read and fold": 2000.0, "import kernelevolve": 300.0}
"""What the project promises."""

Samples = dict[str, list[float]]


def timed_ms(
    work: Callable[[], object],
    repeats: int = REPEATS,
    clock: Callable[[], float] = time.perf_counter,
) -> list[float]:
    found = []
    for _ in range(repeats):
        begin = clock()
        work()
        found.append(round(1e3 * (clock() - begin), 4))
    return found


def fill(store: Sqlite) -> None:
    """A run of NODES whose candidates' files are there."""
    rng = random.Random(1)
    made = random_journal(rng, NODES, SAMPLES, noise=False)
    store.append("run", [with_files(event, store, rng) for event in made], str(Lease.mine()))


def with_files(event: Event, store: Sqlite, rng: random.Random) -> Event:
    if not isinstance(event, Proposed):
        return event
    refs = {path: store.put_blob(source(rng)) for path in event.files}
    return event.model_copy(update={"files": refs})


def source(rng: random.Random) -> bytes:
    return "".join(f"x{n} = {rng.random()};\n" for n in range(FILE_BYTES // 28)).encode()


def selections(graph: Graph, clock: Callable[[], float]) -> Samples:
    found = {}
    for name in registry.names("policy"):
        policy = registry.load("policy", name)()
        rng = random.Random(0)
        found[f"select, {name}"] = timed_ms(partial(policy.select, graph, 2, rng), clock=clock)
    return found


def one_node_more(store: Sqlite) -> Samples:
    """What a further node costs beside its programmer and its harness."""
    journal = Journal(store, "copy")
    journal.record(*store.read("run"))
    parent = journal.graph.scored[0].number
    move = Move(parents=(parent,), memory="lineage")
    verdict = passed(1.5, samples=SAMPLES)
    found: Samples = {}
    rng = random.Random(2)
    for _ in range(REPEATS):
        number = journal.graph.next_number
        answer = Proposal(files=(SourceFile(path="model.py", text=source(rng).decode()),))
        told = partial(brief, journal, number, "cpp", "guide " * 1500, 0)
        steps = {
            "journal a selection": partial(journal.selected, move),
            "compose a brief": told,
            "journal a proposal": lambda told=told, answer=answer: journal.proposed(
                told(), answer, Usage()
            ),
            "journal a verdict": partial(journal.evaluated, number, verdict),
        }
        for name, step in steps.items():
            found.setdefault(name, []).extend(timed_ms(step, 1))
    return found


def resumes(folder: Path) -> Samples:
    """Opening the store, reading and folding the run: what `resume` does before its first move."""

    def resume() -> None:
        store = Sqlite(folder)
        journal = Journal(store, "run")
        assert len(journal.graph) == NODES
        store.close()

    return {"resume: read and fold": timed_ms(resume, 10)}


def imports() -> Samples:
    """`import kernelevolve` in fresh processes, less what an empty interpreter takes."""

    def start(code: str) -> float:
        return timed_ms(lambda: subprocess.run([sys.executable, "-c", code], check=True), 1)[0]

    pairs = [(start("import kernelevolve"), start("pass")) for _ in range(10)]
    return {"import kernelevolve": [round(full - empty, 4) for full, empty in pairs]}


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        store = Sqlite(folder)
        fill(store)
        graph = Graph.fold(store.read("run"))
        found = selections(graph, time.perf_counter)
        cpu = selections(graph, time.thread_time)
        found |= one_node_more(store) | resumes(folder) | imports()
        store.close()
        size = (folder / FILE).stat().st_size
    write(
        "search_overhead",
        {
            "nodes": NODES,
            "events": graph.length,
            "by_status": graph.by_status(),
            "store_bytes": size,
            "limits_ms": LIMITS_MS,
            "samples_ms": found,
            "cpu_ms": cpu,
        },
    )
    for name, samples in found.items():
        print(f"{name}: median {median(samples):.2f} ms, worst {max(samples):.2f} ms")


if __name__ == "__main__":
    main()
