"""Made-up journals of any length: for tests, contracts and measurements of overhead."""

import json
from collections.abc import Sequence
from random import Random

from kernelevolve.core.candidate import Memory, Move, Usage
from kernelevolve.core.detector import Detector
from kernelevolve.core.evaluation import Diagnosis, Evaluation, Stage, Status, Timing
from kernelevolve.core.events import (
    Command,
    Confirmed,
    Evaluated,
    Event,
    Failed,
    Proposed,
    Quarantined,
    RunResumed,
    RunStarted,
    RunStopped,
    Selected,
)
from kernelevolve.core.graph import Graph
from kernelevolve.core.record import digest
from kernelevolve.core.target import TargetSpec
from kernelevolve.core.task import Task, Workload

TASK = Task(
    name="made_up",
    source="HELD_OUT = {'odd': {'n': 77}}\nclass Model: ...\n",
    workloads=(
        Workload(name="default", sizes={"n": 64}),
        Workload(name="odd", sizes={"n": 77}, held_out=True),
    ),
)
"""A task with a held-out workload."""

TARGET = TargetSpec(vendor="cpu", arch="x86_64")
"""Where it would run."""

_BAD = (Status.BUILD_FAILED, Status.WRONG, Status.CRASHED, Status.TIMEOUT, Status.LOST)


def started(at: float = 0.0, config: dict[str, object] | None = None) -> RunStarted:
    """The first event of every run."""
    return RunStarted(at=at, task=TASK, target=TARGET, config=config or {})


def passed(
    score: float, stage: Stage = Stage.BENCHMARK, fraction: float | None = None, samples: int = 3
) -> Evaluation:
    """A verdict on a right kernel; with enough samples as large as a real one."""
    timings = tuple(
        Timing(
            workload=name,
            samples_us=tuple(100.0 / score + 0.01 * n for n in range(samples)),
            baselines_us={
                baseline: tuple(100.0 + 0.01 * n for n in range(samples))
                for baseline in ("eager", "compile")
            },
            speedup=score,
            low=0.98 * score,
            high=1.02 * score,
        )
        for name in ("small", "default", "large")
    )
    diagnosis = Diagnosis(limit="memory", sentence="70 % of the bandwidth", fraction=fraction)
    return Evaluation(
        status=Status.OK, stage=stage, score=score, timings=timings, diagnosis=diagnosis
    )


def refused(status: Status, stage: Stage = Stage.VERIFY) -> Evaluation:
    """A verdict on a kernel that did not pass."""
    return Evaluation(status=status, stage=stage, message=f"{status}: made up")


def proposed(number: int, source: str, at: float = 0.0, files: Sequence[str] = ()) -> Proposed:
    """An answer whose blobs nobody holds."""
    return Proposed(
        at=at,
        number=number,
        candidate=digest(source),
        language="cpp",
        files={path: digest(source, path) for path in files or ("model.py", "kernel.cpp")},
        summary=f"idea {source}",
        plan=json.dumps({"idea": source}),
        usage=Usage(seconds=0.1),
    )


def random_journal(rng: Random, nodes: int, samples: int = 3, noise: bool = True) -> list[Event]:
    """A journal that a search could have written, its open nodes included.

    Args:
        rng: decides everything.
        nodes: how many are selected.
        samples: measured windows per workload and side.
        noise: whether commands, resumes, confirms and quarantines occur.
    """
    events: list[Event] = [started()]
    graph = Graph.fold(events)
    while len(graph) < nodes:
        step = _next(rng, graph, samples, noise)
        for event in step:
            graph.apply(event)
        events += step
    return events


def _next(rng: Random, graph: Graph, samples: int, noise: bool) -> list[Event]:
    at = float(graph.length)
    opened = graph.open
    if noise and rng.random() < 0.1:
        return _noise(rng, graph, at)
    if opened and (len(opened) >= 4 or rng.random() < 0.6):
        return _progress(rng, graph, at, samples)
    return [Selected(at=at, number=graph.next_number, move=_move(rng, graph))]


def _move(rng: Random, graph: Graph) -> Move:
    late = [n.number for n in graph if n.quarantined and rng.random() < 0.1]
    eligible = [n.number for n in graph.scored] + late
    if not eligible or rng.random() < 0.2:
        return Move()
    memory: Memory = rng.choice(("lineage", "siblings", "merge"))
    count = min(2 if memory == "merge" else 1, len(eligible))
    return Move(parents=tuple(rng.sample(eligible, count)), memory=memory)


def _progress(rng: Random, graph: Graph, at: float, samples: int) -> list[Event]:
    node = rng.choice(graph.open)
    number = node.number
    if node.proposal is None:
        if rng.random() < 0.1:
            return [Failed(at=at, number=number, message="no idea")]
        return [proposed(number, f"source {rng.randrange(10 * number)}", at)]
    first = graph.by_candidate.get(node.proposal.candidate, number)
    if first != number:
        verdict = refused(Status.DUPLICATE, Stage.SCREEN)
        return [Evaluated(at=at, number=number, evaluation=verdict, same_as=first)]
    if rng.random() < 0.3:
        return [Evaluated(at=at, number=number, evaluation=refused(rng.choice(_BAD)))]
    verdict = passed(2.0 ** rng.uniform(-2, 3), fraction=rng.random(), samples=samples)
    return [Evaluated(at=at, number=number, evaluation=verdict)]


def _noise(rng: Random, graph: Graph, at: float) -> list[Event]:
    if not len(graph):
        return [Command(at=at, verb="hint", text="use fewer passes")]
    number = rng.randrange(1, len(graph) + 1)
    scored = graph.scored
    kind = rng.choice(("hint", "pin", "ban", "confirm", "quarantine", "resume"))
    if kind == "confirm" and scored:
        verdict = passed(scored[0].score or 1.0, Stage.CONFIRM)
        if rng.random() < 0.3:
            verdict = refused(Status.WRONG, Stage.CONFIRM)
        return [Confirmed(at=at, number=scored[0].number, evaluation=verdict)]
    if kind == "quarantine" and rng.random() < 0.4:
        if rng.random() < 0.5:
            return [Command(at=at, verb="quarantine", number=number, text="looks odd")]
        proof = Quarantined(at=at, number=number, reason="read the clock", detector=Detector.CLOCK)
        return [proof]
    if kind == "resume":
        return [RunStopped(at=at, reason="interrupted"), RunResumed(at=at, config={})]
    verb = rng.choice(("hint", "pin", "ban"))
    return [Command(at=at, verb=verb, number=number, text="try tiles")]
