"""Does the diagnosis earn its keep? Guided moves against random sampling of schedules.

python benchmarks/guided.py [--nodes 20] [--seeds 5] [--tasks NAME ...]

All searches of a task share one admission. A search's curve says, node by node, what it would
announce if it ended there: of the three nodes with the highest scores, the one that is best when
measured again. Scores of a search are single measurements, so these measurements are made
afterwards, all of a task in turns, and count by their medians: luck in the search gains nothing.
"""

import argparse
import tempfile
from statistics import median

from common import ROOT, write

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

TASKS = ("gelu_layernorm_residual", "matmul_bias_gelu")
WITHIN = 0.95
ROUNDS = 5
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


def compare(name: str, nodes: int, seeds: int, folder: str) -> list[dict[str, object]]:
    """Both kinds of search on one task, over the seeds, in changing order."""
    task = taskfile.read(ROOT / "examples" / f"{name}.py")
    config = RunConfig(nodes=nodes, workers=1, confirm=1, store=folder)
    store, journals = Memory(), dict[tuple[int, str], Journal]()
    with Machine(Parts.of(config), config, store.get_blob) as machine:
        machine.admit(task)
        for seed in range(1, seeds + 1):
            for kind in ("guided", "random") if seed % 2 else ("random", "guided"):
                options = {"guided": kind == "guided"}
                update = {"seed": seed, "run": f"{kind}-{seed}", "programmer_options": options}
                journals[seed, kind] = search(
                    machine, task, config.model_copy(update=update), store
                )
        scores = remeasure(machine, task, list(journals.values()))
    curves = {key: curve(journal, scores) for key, journal in journals.items()}
    best = max(value for one in curves.values() for value in one)
    return [
        {
            "task": name,
            "seed": seed,
            "best": best,
            "curves": {kind: curves[seed, kind] for kind in ("guided", "random")},
            "nodes": {
                kind: nodes_to(curves[seed, kind], WITHIN * best) for kind in ("guided", "random")
            },
        }
        for seed in range(1, seeds + 1)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--tasks", nargs="+", default=TASKS)
    asked = parser.parse_args()
    rows = []
    for task in asked.tasks:
        with tempfile.TemporaryDirectory() as folder:
            found = compare(task, asked.nodes, asked.seeds, folder)
        rows += found
        for row in found:
            print(task, row["seed"], f"{row['best']:.2f}", row["nodes"], flush=True)
        write("guided", {"within": WITHIN, "budget": asked.nodes, "runs": rows})


if __name__ == "__main__":
    main()
