"""Does the diagnosis earn its keep? Guided moves against random sampling of schedules.

python benchmarks/guided.py [--nodes 20] [--seeds 1 2 3 4 5] [--tasks NAME ...] [--lanes 1]

Both searches of a task and seed share one admission. A search's curve says, node by node, what it
would announce if it ended there: of the three nodes with the highest scores, the one that is best
when measured again. Scores of a search are single measurements, so these measurements are made
afterwards, those of both searches in turns, and count by their medians: luck gains nothing.
"""

import argparse
import json
import tempfile
from statistics import median
from typing import Any

from common import ROOT, in_lanes, write

from kernelevolve import taskfile
from kernelevolve.config import RunConfig
from kernelevolve.core.evaluation import Stage
from kernelevolve.core.graph import Graph
from kernelevolve.core.job import Job
from kernelevolve.core.task import Task
from kernelevolve.search.journal import Journal
from kernelevolve.search.loop import Search
from kernelevolve.stores.memory import Memory
from kernelevolve.wiring import Machine, Parts, policy_of, programmer_of

TASKS = ("gelu_layernorm_residual", "rmsnorm", "groupnorm_swish")
"""Where one decision alone gains over 5 % over the default plan; where none does, both kinds of
search end where they begin."""
WITHIN = 0.95
ROUNDS = 3
FINALISTS = 3


def search(machine: Machine, task: Task, config: RunConfig, store: Memory) -> Journal:
    """One search on an admitted task."""
    journal = Journal(store, config.run or "", ())
    journal.start(task, machine.parts.target, config.model_dump(mode="json"))
    parts = machine.parts
    one = Search(
        journal,
        config,
        policy_of(config),
        programmer_of(config, store),
        machine.harness,
        parts.language.guide(parts.target),
        execute=machine.execute,
    )
    machine.loop.run(one.run(), one.stop)
    return journal


def finalists(graph: Graph) -> list[list[int]]:
    """After each node in order of number: the nodes that would be confirmed, best first."""
    scores = {n.number: n.evaluation.score for n in graph if n.evaluation and n.evaluation.score}
    numbers = [n.number for n in graph]
    return [
        sorted((n for n in numbers[:end] if n in scores), key=lambda n: -scores[n])[:FINALISTS]
        for end in range(1, len(numbers) + 1)
    ]


def remeasure(machine: Machine, task: Task, journals: list[Journal]) -> dict[str, list[float]]:
    """Scores of every finalist's source, measured again in turns."""
    sources = {
        journal.candidate(n).id: journal.candidate(n)
        for journal in journals
        for numbers in finalists(journal.graph)
        for n in numbers
    }
    scores: dict[str, list[float]] = {source: [] for source in sources}
    for number in range(ROUNDS):
        for source, candidate in sources.items():
            job = Job(
                task=task,
                candidate=candidate,
                target=machine.parts.target,
                stage=Stage.BENCHMARK,
                seed=f"again/{number}",
            )
            verdict = machine.evaluate(job)
            if verdict.score is not None:
                scores[source].append(verdict.score)
    return scores


def curve(journal: Journal, scores: dict[str, list[float]]) -> list[float]:
    """What would be announced after each node; 0 while there is nothing."""
    known = {source: median(found) for source, found in scores.items() if found}
    return [
        max((known.get(journal.candidate(n).id, 0.0) for n in numbers), default=0.0)
        for numbers in finalists(journal.graph)
    ]


def nodes_to(curve: list[float], score: float) -> int | None:
    """The first node after which that would be announced."""
    return next((n for n, value in enumerate(curve, 1) if value >= score), None)


def compare(name: str, nodes: int, seed: int, folder: str) -> dict[str, Any]:
    """Both kinds of search on one task and seed: their curves."""
    task = taskfile.read(ROOT / "examples" / f"{name}.py")
    config = RunConfig(nodes=nodes, workers=1, confirm=1, store=folder, seed=seed)
    store, journals = Memory(), dict[str, Journal]()
    with Machine(Parts.of(config), config, store.get_blob) as machine:
        machine.admit(task)
        for kind in ("guided", "random") if seed % 2 else ("random", "guided"):
            update = {"run": kind, "programmer_options": {"guided": kind == "guided"}}
            journals[kind] = search(machine, task, config.model_copy(update=update), store)
        scores = remeasure(machine, task, list(journals.values()))
    curves = {kind: curve(journals[kind], scores) for kind in ("guided", "random")}
    return {"task": name, "seed": seed, "curves": curves}


def judged(run: dict[str, Any]) -> dict[str, Any]:
    """With the best that either search found, and how soon each was close to it.

    Only searches that share an admission, and so the baselines' times, are compared.
    """
    best = max(value for one in run["curves"].values() for value in one)
    nodes = {kind: nodes_to(one, WITHIN * best) for kind, one in run["curves"].items()}
    return run | {"best": best, "nodes": nodes}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=20)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--tasks", nargs="+", default=TASKS)
    parser.add_argument("--lanes", type=int, default=1, help="searches at once, two cores each")
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.alone:
        with tempfile.TemporaryDirectory() as folder:
            found = compare(asked.tasks[0], asked.nodes, asked.seeds[0], folder)
        print(json.dumps(found))
        return
    parts = [
        ["--alone", "--tasks", task, "--seeds", str(seed), "--nodes", str(asked.nodes)]
        for seed in asked.seeds
        for task in asked.tasks
    ]
    runs: list[dict[str, Any]] = []
    for run in in_lanes(parts, asked.lanes):
        runs.append(judged(run))
        print(run["task"], run["seed"], {k: max(v) for k, v in run["curves"].items()}, flush=True)
        runs.sort(key=lambda r: (r["task"], r["seed"]))
        write("guided", {"within": WITHIN, "budget": asked.nodes, "runs": runs})


if __name__ == "__main__":
    main()
