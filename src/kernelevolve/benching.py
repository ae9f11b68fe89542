"""A suite's tasks, optimised in turn: one run and one row each, and figures over all of them."""

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from statistics import geometric_mean

from pydantic import Field

from kernelevolve import views
from kernelevolve.config import RunConfig
from kernelevolve.core.errors import HarnessError, TaskError, UnknownName
from kernelevolve.core.evaluation import Evaluation
from kernelevolve.core.graph import Graph, Node
from kernelevolve.core.protocols import Store
from kernelevolve.core.record import Record, digest
from kernelevolve.core.target import TargetSpec
from kernelevolve.core.task import Task
from kernelevolve.results import Result

UNFINISHED = (None, "interrupted", "error")
"""Why a run stopped, where the same command is to go on with it."""
FAST = (1.0, 1.5, 2.0)
ELSEWHERE = {"target", "store", "run", "inputs", "baseline"}
"""Fields of `RunConfig` that do not say how a task is searched."""


class Row(Record):
    """How one task ended."""

    task: str
    """Its name."""
    run: str | None = None
    """Name of its run; None where there is none yet."""
    kept: bool = False
    """The run had finished before this command began."""
    correct: bool = False
    """A kernel was confirmed."""
    speedup: float | None = None
    """Over the best baseline."""
    interval: tuple[float, float] | None = None
    """95 % confidence interval of `speedup`."""
    speedup_over: dict[str, float | None] = Field(default_factory=dict)
    """By baseline: `eager`, `compile`."""
    roofline_fraction: float | None = None
    """Of what the device was measured to reach."""
    algebraic: bool = False
    """The gain rests on algebra, which plain PyTorch could use too."""
    fallback: bool = False
    """No kernel was written: the whole task is left to library calls."""
    reason: str = ""
    """Why there is no confirmed kernel."""
    stopped_by: str | None = None
    """Why the run ended."""

    def faster_than(self, factor: float) -> bool:
        """Whether a kernel was written, and its whole interval lies above `factor`."""
        return self.interval is not None and not self.fallback and self.interval[0] > factor


class Standing(Record):
    """A whole suite, or those of its tasks that were wanted."""

    suite: str
    """Registry name."""
    target: str
    """Address of the device."""
    rows: tuple[Row, ...]
    """Every task that was wanted, those that were not reached included."""
    interrupted: bool = False
    """A person stopped it."""

    @property
    def correct(self) -> int:
        """Tasks with a confirmed kernel."""
        return sum(row.correct for row in self.rows)

    @property
    def fallback(self) -> int:
        """Those of them that are left to library calls as a whole."""
        return sum(row.correct and row.fallback for row in self.rows)

    def geomean(self, baseline: str | None = None) -> float | None:
        """Over the tasks with a confirmed kernel; without a name, over the best baseline."""
        found = [r.speedup_over.get(baseline) if baseline else r.speedup for r in self.rows]
        known = [ratio for ratio in found if ratio is not None]
        return geometric_mean(known) if known else None

    def fast(self, factor: float) -> float:
        """Share of all tasks with a kernel confirmed faster than `factor` times the baseline."""
        return sum(row.faster_than(factor) for row in self.rows) / len(self.rows)

    def dump(self) -> views.Json:
        """The object that `--json` prints."""
        return {
            "suite": self.suite,
            "target": self.target,
            "tasks": [row.model_dump(mode="json") for row in self.rows],
            "correct": self.correct,
            "fallback": self.fallback,
            "total": len(self.rows),
            "geomean": {"eager": self.geomean("eager"), "best": self.geomean()},
            "fast_p": {f"{factor:g}": self.fast(factor) for factor in FAST},
            "interrupted": self.interrupted,
        }


@dataclass(frozen=True)
class Bench:
    """One call of `bench`: takes a finished run of the same question, goes on with one, or begins.

    A question is a task with its sizes, a device and every setting that a search depends on.
    """

    suite: str
    """Registry name."""
    target: TargetSpec
    """Where kernels run."""
    store: Store
    """Where runs are looked up."""
    config: RunConfig
    """Settings of every run, without its name."""
    again: bool
    """Whether finished runs are left aside."""
    begin: Callable[[Task, RunConfig], Result]
    """Searches a task."""
    go_on: Callable[[str, RunConfig], Result]
    """Takes up a run."""

    def run(self, tasks: Sequence[Task], observe: Callable[[Row], object]) -> Standing:
        """All of them, or those before an interrupt.

        Raises:
            UsageError: the configuration cannot be used.
            StoreError: a journal cannot be written, or another process writes it.
        """
        rows: list[Row] = []
        for task in tasks:
            rows.append(self._row(task))
            observe(rows[-1])
            if rows[-1].stopped_by == "interrupted":
                break
        reached = len(rows)
        rows += [Row(task=task.name, reason="not reached") for task in tasks[reached:]]
        return Standing(
            suite=self.suite,
            target=self.target.address,
            rows=tuple(rows),
            interrupted=rows[reached - 1].stopped_by == "interrupted",
        )

    def _row(self, task: Task) -> Row:
        question, runs = stem(self.suite, task, self.target, self.config), self.store.runs()
        last = None if self.again else latest(question, runs)
        if last is not None:
            graph = Graph.fold(self.store.read(last))
            if graph.stopped_by not in UNFINISHED:
                return row(last, graph, kept=True)
        name = last or fresh(question, runs)
        config = self.config.model_copy(update={"run": name})
        try:
            result = self.go_on(name, config) if last else self.begin(task, config)
        except KeyboardInterrupt:
            return Row(task=task.name, run=name, reason="interrupted", stopped_by="interrupted")
        except (TaskError, HarnessError) as error:
            return Row(task=task.name, run=name, reason=str(error), stopped_by="error")
        return row(name, result.graph)


def chosen(suite: str, tasks: Sequence[Task], only: Collection[str]) -> Sequence[Task]:
    """The tasks of these names, in the suite's order; all where none is named.

    Raises:
        UnknownName: the suite has no such task; the message lists near ones.
    """
    known = [task.name for task in tasks]
    for name in only:
        if name not in known:
            near = get_close_matches(name, known, cutoff=0.4)
            listed = f"near: {', '.join(near)}" if near else f"known: {', '.join(known)}"
            raise UnknownName(f"unknown case {name!r} of suite {suite}; {listed}")
    return [task for task in tasks if not only or task.name in only]


def stem(suite: str, task: Task, target: TargetSpec, config: RunConfig) -> str:
    """Begins the names of all runs that answer the same question: task, device and settings."""
    settings = config.model_dump_json(exclude=ELSEWHERE)
    key = digest(suite, task.id, target.address, target.name, settings)
    return f"{suite}-{task.name}-{key[:8]}"


def latest(stem: str, runs: Sequence[str]) -> str | None:
    """The last of the runs of this stem, or None."""
    return max(_alike(stem, runs), key=lambda run: _ordinal(stem, run), default=None)


def fresh(stem: str, runs: Sequence[str]) -> str:
    """A name for one more run of this stem."""
    last = latest(stem, runs)
    return stem if last is None else f"{stem}-{_ordinal(stem, last) + 1}"


def _alike(stem: str, runs: Sequence[str]) -> list[str]:
    return [run for run in runs if re.fullmatch(rf"{re.escape(stem)}(-\d+)?", run)]


def _ordinal(stem: str, run: str) -> int:
    return int(run.removeprefix(stem).removeprefix("-") or 1)


def row(run: str, graph: Graph, *, kept: bool = False) -> Row:
    """What a run came to that has stopped."""
    name = graph.task.name if graph.task else run
    told = Row(task=name, run=run, kept=kept, stopped_by=graph.stopped_by)
    best = views.announced(graph)
    if best is None or not best.confirmed or best.confirmation is None:
        return told.model_copy(update={"reason": _why_none(graph)})
    return told.model_copy(update=_figures(best, best.confirmation))


def _figures(node: Node, verdict: Evaluation) -> dict[str, object]:
    proposal = node.proposal
    baselines = sorted({name for t in verdict.timings for name in t.baselines_us})
    return {
        "correct": True,
        "speedup": verdict.score,
        "interval": verdict.interval,
        "speedup_over": {name: verdict.geomean(name) for name in baselines},
        "roofline_fraction": verdict.diagnosis.fraction if verdict.diagnosis else None,
        "algebraic": proposal.algebraic if proposal else False,
        "fallback": proposal.fallback if proposal else False,
    }


def _why_none(graph: Graph) -> str:
    refuted = [n for n in graph if n.confirmation is not None and not n.confirmed]
    if refuted:
        return f"#{refuted[-1].number} was not confirmed: {_said(refuted[-1].confirmation)}"
    if graph.stopped_by == "interrupted":
        return f"interrupted after {len(graph)} attempts"
    passing = sum(1 for node in graph if node.score is not None)
    if passing:
        return f"{passing} of {len(graph)} attempts were correct, none was confirmed"
    if not len(graph) and graph.stopped_by == "minutes":
        return "no attempt: preparing the task took all of --minutes; give it more"
    statuses = ", ".join(f"{count} {name}" for name, count in sorted(graph.by_status().items()))
    return f"no correct kernel in {len(graph)} attempts ({statuses or 'none was made'})"


def _said(verdict: Evaluation | None) -> str:
    if verdict is None:
        return ""
    first = verdict.message.strip().partition("\n")[0]
    return f"{verdict.status}, {first}" if first else str(verdict.status)
