"""The search: select, brief, propose, evaluate, record; several attempts at once."""

import asyncio
from dataclasses import dataclass
from random import Random

from kernelevolve.config import RunConfig
from kernelevolve.core.errors import ProgrammerLost
from kernelevolve.core.graph import Graph
from kernelevolve.core.protocols import Harness, Programmer, SelectionPolicy
from kernelevolve.search import briefing, confirm, termination
from kernelevolve.search.bench import Bench, Execute, execute_nothing
from kernelevolve.search.flight import Flight
from kernelevolve.search.journal import Journal
from kernelevolve.search.judge import FinalCheck, Judge


@dataclass
class Search:
    """One session of a run whose journal was started or resumed."""

    journal: Journal
    config: RunConfig
    policy: SelectionPolicy
    programmer: Programmer
    harness: Harness
    guide: str
    baseline: str | None = None
    execute: Execute = execute_nothing
    poll_seconds: float = 0.25

    def __post_init__(self) -> None:
        self.graph: Graph = self.journal.graph
        self._judge = Judge(self.harness, self.graph, self.config.limits, self.baseline)
        self._flight = Flight()
        self._stopping: str | None = None
        self._leaving = False
        self._session: asyncio.Task[object] | None = None

    def stop(self, reason: str = "interrupted") -> None:
        """Abandon open nodes, confirm the best and return; called again, return at once.

        Call it in the search's own event loop. Abandoned nodes stay open for a later resume.
        """
        if self._stopping is None:
            self._stopping = reason
            self._flight.stop()
        elif self._session is not None and not self._leaving:
            self._leaving = self._session.cancel()

    async def run(self) -> Graph:
        """Search until there is a reason to end, confirm the best, and return the graph.

        Raises:
            HarnessError: our own machinery failed; the run can be resumed.
            StoreError: the journal can no longer be written.
        """
        self._session = asyncio.current_task()
        reason = "error"
        try:
            reason = await self._search()
        except asyncio.CancelledError:
            reason = self._stopping or "interrupted"
            if not self._leaving or self._session is None or self._session.uncancel():
                raise
        finally:
            self._flight.abandon()
            self.journal.stopped(reason)
        return self.graph

    async def _search(self) -> str:
        while True:
            reason = await self._explore()
            await self._confirm()
            if reason not in termination.REVISABLE or self._reason() is not None:
                return reason

    async def _explore(self) -> str:
        """Run attempts until there is a reason to end and every opened node has ended."""
        while self._stopping is None:
            self.journal.drop_tainted(self._flight)
            reason = self._reason()
            waiting = reason is None and self.graph.paused
            if reason is None and not waiting:
                self._select()
            self._dispatch()
            if not self._flight and not waiting:
                return reason or "exhausted"
            await self._flight.wait(self.poll_seconds)
            self.journal.follow()
        await asyncio.gather(*self._flight.abandon(), return_exceptions=True)
        return self._stopping

    def _reason(self) -> str | None:
        return self._stopping or termination.reason(self.graph, self.config, self.journal.now())

    def _select(self) -> None:
        workers = self.config.workers - len(self.graph.open)
        free = min(workers, self.config.nodes - len(self.graph))
        if free > 0:
            rng = Random(f"{self.config.seed}/{self.graph.length}")
            for move in self.policy.select(self.graph, free, rng)[:free]:
                self.journal.selected(move)

    def _dispatch(self) -> None:
        idle = [n.number for n in self.graph.open if n.number not in self._flight]
        for number in idle[: max(0, self.config.workers - len(self._flight))]:
            self._flight.launch(number, self._attempt(number))

    async def _attempt(self, number: int) -> None:
        """Take one node from where the journal left it to its end."""
        if self.graph.nodes[number].proposal is not None or await self._propose(number):
            await self._evaluate(number)

    async def _propose(self, number: int) -> bool:
        """Whether the programmer had an answer."""
        config = self.config
        brief = briefing.brief(self.journal, number, config, self.guide)
        bench = Bench(self.journal, number, config.language, self._judge, self.execute)
        try:
            proposal = await self.programmer.propose(brief, bench)
        except ProgrammerLost as error:
            self.journal.failed(number, error)
            self._stopping = self._stopping or "programmer"
            return False
        except Exception as error:  # noqa: BLE001 - a fault in one answer must not end the run
            self.journal.failed(number, error)
            return False
        self.journal.proposed(brief, proposal)
        return True

    async def _evaluate(self, number: int) -> None:
        candidate = self.journal.candidate(number)
        first = self.graph.by_candidate.get(candidate.id, number)
        if first != number:
            self.journal.repeated(number, first)
        elif self.graph.nodes[number].quarantined is None:
            self.journal.evaluated(number, await self._judge.measure(candidate))

    async def _confirm(self) -> None:
        """Check the best until enough have passed; after an interrupt, until one has."""
        tried: set[int] = set()
        check = self._judge.final_check()
        while due := confirm.due(self.graph, 1 if self._stopping else self.config.confirm, tried):
            for node in due:
                tried.add(node.number)
                self._flight.launch(node.number, self._check(node.number, check))
            while self._flight and not (self._stopping and confirm.passed(self.graph)):
                await self._flight.wait(self.poll_seconds)
                self.journal.follow()
        self._flight.abandon()

    async def _check(self, number: int, check: FinalCheck) -> None:
        self.journal.confirmed(number, await check(self.journal.candidate(number)))
