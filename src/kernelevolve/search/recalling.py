"""Kernels of earlier runs for tasks like this one, as something to start from.

What a run recalls follows from its seed and from what the store held before it began, so that it
is the same whenever a node is briefed again; the brief, which is kept, holds it.
"""

import logging
from collections.abc import Sequence
from functools import cached_property
from random import Random

from kernelevolve.config import RunConfig
from kernelevolve.core.candidate import Brief, Recalled
from kernelevolve.core.errors import StoreError
from kernelevolve.core.events import Event, Proposed, RunStarted
from kernelevolve.core.graph import Graph, Node
from kernelevolve.core.likeness import likeness
from kernelevolve.core.task import Task
from kernelevolve.search.confirm import improvement
from kernelevolve.search.journal import Journal

_log = logging.getLogger(__name__)

USUAL = 0.5
"""Chance for programmers that ask models; what others make of a kernel is not known."""
LEAST = 0.4
"""Tasks that are less alike have nothing to tell each other."""
MOST = 3
"""Of the most alike tasks one is drawn, the likelier the more alike."""


class Past:
    """The finished runs of a store as one run sees them."""

    def __init__(self, journal: Journal, config: RunConfig) -> None:
        """Look at nothing yet.

        Args:
            journal: of the run that recalls.
            config: its language, and its chance that a node which starts afresh is told.
        """
        self._journal = journal
        self._language = config.language
        usual = USUAL if config.model else 0.0
        self._chance = usual if config.recall is None else config.recall

    def told(self, brief: Brief) -> Brief:
        """The brief, with an earlier kernel where its move starts afresh and chance says so."""
        rng = Random(f"{brief.seed}/recall")
        if brief.move.memory != "fresh" or rng.random() >= self._chance or not self._alike:
            return brief
        chosen = rng.choices(self._alike, [one.likeness for one in self._alike])[0]
        return brief.model_copy(update={"recalled": (chosen,)})

    @cached_property
    def _alike(self) -> list[Recalled]:
        """The best kernel of each of the most alike tasks."""
        runs = [run for run in self._journal.store.runs() if run != self._journal.run]
        found = [one for run in runs for one in self._of(run)]
        found.sort(key=lambda one: (-one.likeness, -one.score, one.run))
        by_task: dict[tuple[str, float], Recalled] = {}
        for one in found:
            by_task.setdefault((one.task, one.likeness), one)
        return list(by_task.values())[:MOST]

    def _of(self, run: str) -> list[Recalled]:
        try:
            events = self._journal.store.read(run)
            best = self._best(events) if events else None
            return [self._recalled(run, *best)] if best else []
        except StoreError as error:
            _log.warning("run %s is not recalled: %s", run, error)
            return []

    def _best(self, events: Sequence[Event]) -> tuple[Task, Node, Proposed] | None:
        """What a run had confirmed when ours began, if it had ended and can be of use here."""
        own, start = self._journal.graph, events[0]
        if own.task is None or own.target is None or not isinstance(start, RunStarted):
            return None
        if start.target.vendor != own.target.vendor or likeness(own.task, start.task) < LEAST:
            return None
        if _shows_secrets(start.task, own.task):
            return None
        then = Graph.fold(e for e in events if e.at < (own.started_at or 0.0))
        best = improvement(then) if then.stopped_by else None
        if (
            best is None
            or best.proposal is None
            or Graph.fold(events).nodes[best.number].quarantined
        ):
            return None
        usable = best.proposal.language == self._language and not best.proposal.fallback
        return (start.task, best, best.proposal) if usable else None

    def _recalled(self, run: str, task: Task, node: Node, proposal: Proposed) -> Recalled:
        own = self._journal.graph.task
        assert own is not None
        return Recalled(
            run=run,
            node=node.number,
            task=task.name,
            statement=task.statement,
            likeness=round(likeness(own, task), 3),
            files=self._journal.files(proposal),
            summary=proposal.summary,
            score=node.score or 0.0,
        )


def _shows_secrets(other: Task, own: Task) -> bool:
    """Whether a kernel for the other task was made with sizes in view that are held out here."""
    secret = [w.sizes for w in own.workloads if w.held_out]
    return any(w.sizes in secret for w in other.shown)
