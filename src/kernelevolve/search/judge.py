"""Asks the harness for verdicts: with secret seeds, within its slots, lost ones again."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from functools import partial

from kernelevolve.core.candidate import Candidate
from kernelevolve.core.evaluation import Evaluation, Stage, Status
from kernelevolve.core.graph import Graph
from kernelevolve.core.job import Job, Limits
from kernelevolve.core.protocols import Harness

FinalCheck = Callable[[Candidate], Awaitable[Evaluation]]
LOST_RETRIES = 2
"""An evaluation that our own machinery lost is repeated this often."""


class Judge:
    """The harness as the search of one run uses it."""

    def __init__(self, harness: Harness, graph: Graph, limits: Limits, baseline: str | None):
        self._harness = harness
        self._graph = graph
        self._limits = limits
        self._baseline = baseline
        self._slots = asyncio.Semaphore(max(1, harness.slots))

    async def measure(self, candidate: Candidate) -> Evaluation:
        """The verdict that a search goes on: whoever seems to beat the best must do so twice.

        The better of many noisy measurements is the luckier one; of two measurements of a
        would-be record the worse is kept, and one that fails counts.
        """
        first = await self(candidate, Stage.BENCHMARK)
        best = max((n.score or 0.0 for n in self._graph.scored), default=0.0)
        if first.score is None or first.score <= best:
            return first
        second = await self(candidate, Stage.BENCHMARK)
        if second.status is Status.LOST:
            return first
        worse = min(first, second, key=lambda e: e.score or 0.0)
        spent = first.device_seconds + second.device_seconds
        return worse.model_copy(update={"device_seconds": spent})

    def final_check(self) -> FinalCheck:
        """The verdict on one candidate after another, all of which exist by now.

        They share a pool of secret inputs that is new; which of them each one sees is its own.
        """
        return partial(self, stage=Stage.CONFIRM, pool=secrets.token_hex(8))

    async def __call__(self, candidate: Candidate, stage: Stage, pool: str = "") -> Evaluation:
        """The verdict, with the seed that a replay needs."""
        for _ in range(1 + LOST_RETRIES):
            job = self._job(candidate, stage, pool)
            async with self._slots:
                evaluation = await self._harness.evaluate(job)
            if evaluation.status is not Status.LOST:
                break
        return evaluation.model_copy(update={"seed": evaluation.seed or job.seed})

    def _job(self, candidate: Candidate, stage: Stage, pool: str) -> Job:
        if self._graph.task is None or self._graph.target is None:
            raise ValueError("a run's journal begins with RunStarted")
        return Job(
            task=self._graph.task,
            candidate=candidate,
            target=self._graph.target,
            stage=stage,
            seed=secrets.token_hex(16),
            pool=pool,
            limits=self._limits,
            baseline=self._baseline,
        )
