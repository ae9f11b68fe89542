"""A scripted programmer and harness, and a run made of them."""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random

from kernelevolve.config import RunConfig
from kernelevolve.core.candidate import Brief, Proposal, SourceFile, Usage
from kernelevolve.core.errors import UsageError
from kernelevolve.core.evaluation import Evaluation, Stage, Status
from kernelevolve.core.job import Admission, Job
from kernelevolve.core.protocols import Store, Workbench
from kernelevolve.policies.mcts import MCTS
from kernelevolve.search.journal import Journal
from kernelevolve.search.loop import Search
from kernelevolve.stores.memory import Memory
from kernelevolve.testing.journals import TARGET, TASK, passed, refused

Write = Callable[[Brief], str]
Judge = Callable[[str, Stage], Evaluation]


def numbered(brief: Brief) -> str:
    """A source of its own for every node."""
    return f"source {brief.number}"


def random_score(source: str, stage: Stage) -> Evaluation:
    """Some fail; the others' scores depend on the source alone."""
    rng = Random(source)
    if rng.random() < 0.3:
        return refused(Status.WRONG)
    return passed(2.0 ** rng.uniform(-1, 2), stage)


@dataclass
class Writer:
    """Answers with `write`; keeps what it was told."""

    write: Write = numbered
    gate: asyncio.Event | None = None
    briefs: list[Brief] = field(default_factory=list)
    benches: list[Workbench] = field(default_factory=list)
    at_work: int = 0
    most_at_work: int = 0

    async def study(self, task: object, target: object, bench: object) -> None: ...

    def forecast(self, task: object, target: object, nodes: int) -> Usage:
        return Usage()

    async def propose(self, brief: Brief, bench: Workbench) -> Proposal:
        self.briefs.append(brief)
        self.benches.append(bench)
        self.at_work += 1
        self.most_at_work = max(self.most_at_work, self.at_work)
        try:
            await (self.gate.wait() if self.gate else asyncio.sleep(0))
        finally:
            self.at_work -= 1
        text = self.write(brief)
        return Proposal(files=(SourceFile(path="model.py", text=text),), plan=text)


TWICE = 2


@dataclass
class Device:
    """Judges with `judge`; counts what it was asked."""

    judge: Judge = random_score
    gate: asyncio.Event | None = None
    slots: int = 2
    jobs: list[Job] = field(default_factory=list)
    asked: Counter[tuple[str, Stage]] = field(default_factory=Counter)
    on_evaluate: Callable[[Job], None] = lambda job: None
    at_work: int = 0
    most_at_work: int = 0

    async def admit(self, task: object, spec: object, baseline: object) -> Admission:
        return Admission(admitted=True)

    async def evaluate(self, job: Job) -> Evaluation:
        source = job.candidate.files[0].text
        self.jobs.append(job)
        self.asked[source, job.stage] += 1
        self.on_evaluate(job)
        self.at_work += 1
        self.most_at_work = max(self.most_at_work, self.at_work)
        try:
            await (self.gate.wait() if self.gate else asyncio.sleep(0))
        finally:
            self.at_work -= 1
        return self.judge(source, job.stage)

    async def close(self) -> None: ...

    def measured(self) -> set[int]:
        """How often sources were measured: once, or twice where that seemed to be a record."""
        return {n for (_, stage), n in self.asked.items() if stage is Stage.BENCHMARK}

    def sources(self, stage: Stage) -> set[str]:
        return {source for source, at in self.asked if at is stage}


class Clock:
    """Stands still unless it is told otherwise."""

    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time


def session(
    store: Store | None = None,
    writer: Writer | None = None,
    device: Device | None = None,
    *,
    policy: object | None = None,
    reporters: Sequence[object] = (),
    now: Callable[[], float] | None = None,
    **config: object,
) -> Search:
    """A session of the run `run`: resumed where the store holds it, else started."""
    settings = RunConfig.model_validate({"language": "cpp", "workers": 3, "nodes": 20, **config})
    journal = Journal(store or Memory(), "run", reporters, now or Clock())
    begin = settings.model_dump(mode="json")
    try:
        journal.resume(begin)
    except UsageError:
        journal.start(TASK, TARGET, begin)
    return Search(
        journal,
        settings,
        policy or MCTS(),
        writer or Writer(),
        device or Device(),
        guide="write C++",
        poll_seconds=0.01,
    )


def run(search: Search):
    return asyncio.run(search.run())
