"""Kernels of earlier runs for tasks like this one, as something to start from.

What a run recalls follows from its seed and from what the store held before it began, so that it
is the same whenever a node is briefed again; the brief, which is kept, holds it.
"""

import logging
from collections.abc import Sequence
from functools import cached_property
from random import Random

from kernelevolve.config import RunConfig
from kernelevolve.core.candidate import Move, Recalled, SourceFile
from kernelevolve.core.errors import StoreError
from kernelevolve.core.events import Event, Proposed, RunStarted
from kernelevolve.core.graph import Graph, Node
from kernelevolve.core.likeness import likeness
from kernelevolve.core.protocols import Store
from kernelevolve.core.task import Task
from kernelevolve.search.confirm import improvement

_log = logging.getLogger(__name__)

USUAL = 0.5
"""Chance for programmers that ask models; what others make of a kernel is not known."""
LEAST = 0.4
"""Tasks that are less alike have nothing to tell each other."""
MOST = 3
"""Of the most alike tasks one is drawn, the likelier the more alike."""


class Past:
    """The finished runs of a store as one run sees them."""

    def __init__(self, store: Store, run: str, graph: Graph) -> None:
        """Look at nothing yet.

        Args:
            store: of all runs.
            run: that recalls.
            graph: of that run, which has begun.
        """
        self._store = store
        self._run = run
        self._graph = graph

    def recalled(self, move: Move, seed: str, config: RunConfig) -> tuple[Recalled, ...]:
        """One earlier kernel where a move starts afresh and chance says so; else nothing."""
        usual = USUAL if config.model else 0.0
        chance = usual if config.recall is None else config.recall
        rng = Random(f"{seed}/recall")
        if move.memory != "fresh" or rng.random() >= chance or not self._alike:
            return ()
        return tuple(rng.choices(self._alike, [one.likeness for one in self._alike]))

    @cached_property
    def _alike(self) -> list[Recalled]:
        """The best kernel of each of the most alike tasks."""
        runs = [run for run in self._store.runs() if run != self._run]
        found = [one for run in runs for one in self._of(run)]
        found.sort(key=lambda one: (-one.likeness, -one.score, one.run))
        by_task: dict[tuple[str, float], Recalled] = {}
        for one in found:
            by_task.setdefault((one.task, one.likeness), one)
        return list(by_task.values())[:MOST]

    def _of(self, run: str) -> list[Recalled]:
        try:
            events = self._store.read(run)
            best = self._best(events) if events else None
            return [self._recalled(run, *best)] if best else []
        except StoreError as error:
            _log.warning("run %s is not recalled: %s", run, error)
            return []

    def _best(self, events: Sequence[Event]) -> tuple[Task, Node, Proposed] | None:
        """What a run had confirmed when ours began, if it had ended and can be of use here."""
        own, start = self._graph, events[0]
        if own.task is None or own.target is None or not isinstance(start, RunStarted):
            return None
        if start.target.vendor != own.target.vendor or likeness(own.task, start.task) < LEAST:
            return None
        if _shows_secrets(start.task, own.task):
            return None
        then = Graph.fold(e for e in events if e.at < (own.started_at or 0.0))
        best = improvement(then) if then.stopped_by else None
        proposal = best.proposal if best else None
        if best is None or proposal is None or Graph.fold(events).nodes[best.number].quarantined:
            return None
        usable = proposal.language == own.config.get("language") and not proposal.fallback
        return (start.task, best, proposal) if usable else None

    def _recalled(self, run: str, task: Task, node: Node, proposal: Proposed) -> Recalled:
        own = self._graph.task
        assert own is not None
        return Recalled(
            run=run,
            node=node.number,
            task=task.name,
            statement=task.statement,
            likeness=round(likeness(own, task), 3),
            files=tuple(
                SourceFile(path=path, text=self._store.get_blob(ref).decode())
                for path, ref in proposal.files.items()
            ),
            summary=proposal.summary,
            score=node.score or 0.0,
        )


def _shows_secrets(other: Task, own: Task) -> bool:
    """Whether a kernel for the other task was made with sizes in view that are held out here."""
    secret = [w.sizes for w in own.workloads if w.held_out]
    return any(w.sizes in secret for w in other.shown)
