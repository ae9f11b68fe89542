"""Judges a recorded node again, so that nobody has to take a verdict on trust."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from kernelevolve.core.candidate import Candidate
from kernelevolve.core.errors import UsageError
from kernelevolve.core.evaluation import ErrorReport, Evaluation, Stage, Status
from kernelevolve.core.graph import Graph
from kernelevolve.core.job import Job, Limits, Seeds
from kernelevolve.core.protocols import Store
from kernelevolve.core.target import TargetSpec
from kernelevolve.core.task import Task
from kernelevolve.search.journal import Journal

NOT_JUDGED = (Status.DUPLICATE, Status.LOST)
ERROR_RATIO = 2.0
"""Errors agree up to this ratio: how many timed calls are verified depends on how fast they are."""


@dataclass(frozen=True)
class Recording:
    """What a journal says of one node."""

    run: str
    number: int
    task: Task
    candidate: Candidate
    verdicts: Mapping[Stage, Evaluation]
    """By the stage that was asked for: that of the search, and the final check."""

    @classmethod
    def of(cls, run: str, graph: Graph, number: int, store: Store) -> "Recording":
        """Of a node that exists; a duplicate has the verdicts of the node that it repeats.

        Raises:
            UsageError: it was never judged.
            StoreError: its files are gone.
        """
        node = graph.nodes[graph.nodes[number].same_as or number]
        asked = {Stage.BENCHMARK: node.evaluation, Stage.CONFIRM: node.confirmation}
        verdicts = {k: v for k, v in asked.items() if v and v.status not in NOT_JUDGED}
        if graph.task is None or not verdicts:
            raise UsageError(f"run {run}: node #{number} is {node.status}, nothing was judged")
        candidate = Journal(store, run).candidate(node.number)
        return cls(run, number, graph.task, candidate, verdicts)

    def jobs(self, target: TargetSpec, limits: Limits) -> Iterator[tuple[Stage, Job]]:
        """The jobs that led to the verdicts: the same inputs, the same choices."""
        for stage, verdict in self.verdicts.items():
            seeds = Seeds.parse(verdict.seed)
            yield (
                stage,
                Job(
                    task=self.task,
                    candidate=self.candidate,
                    target=target,
                    stage=stage,
                    seed=seeds.choice,
                    pool=seeds.pool,
                    limits=limits,
                ),
            )

    def compared(self, again: Mapping[Stage, Evaluation]) -> dict[str, object]:
        """Both verdicts of every stage, and where they differ in more than time."""
        rows = [
            {
                "stage": stage,
                "differences": differences(recorded, again[stage]),
                "recorded": recorded.model_dump(mode="json"),
                "replayed": again[stage].model_dump(mode="json"),
            }
            for stage, recorded in self.verdicts.items()
        ]
        same = not any(row["differences"] for row in rows)
        return {"run": self.run, "node": self.number, "same": same, "verdicts": rows}


def differences(recorded: Evaluation, again: Evaluation) -> list[str]:
    """In what two verdicts on the same inputs differ, one sentence each; times may."""
    found = [
        f"{name} was {_word(before)}, is now {_word(now)}"
        for name, before, now in (
            ("status", recorded.status, again.status),
            ("detector", recorded.detector, again.detector),
        )
        if before != now
    ]
    old, new = _by_output(recorded), _by_output(again)
    for place in sorted({*old, *new}):
        before, now = old.get(place), new.get(place)
        if before is None or now is None:
            found.append(f"{place}: its error was measured {'then' if before else 'now'} only")
        elif not (_agree(before.rms, now.rms) and _agree(before.maximum, now.maximum)):
            found.append(
                f"{place}: error over budget was {before.rms:.3g} RMS and {before.maximum:.3g} at "
                f"most, is now {now.rms:.3g} and {now.maximum:.3g}"
            )
    return found


def _by_output(evaluation: Evaluation) -> dict[str, ErrorReport]:
    return {f"{e.workload}: {e.output}": e for e in evaluation.errors}


def _agree(before: float, now: float) -> bool:
    """Both within the budget, or of the same size beyond it."""
    low, high = sorted((before, now))
    return high <= 1.0 or high <= ERROR_RATIO * low


def _word(value: object) -> str:
    return "none" if value is None else str(value)
