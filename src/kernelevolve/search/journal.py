"""A run's journal as its writer sees it: the graph is always what the store holds, in its order."""

import json
import logging
import time
from collections.abc import Callable, Container, Mapping, Sequence
from functools import cached_property

from kernelevolve.core.candidate import (
    Brief,
    Candidate,
    Exchange,
    Move,
    Proposal,
    SourceFile,
    Usage,
)
from kernelevolve.core.errors import ProgrammerError, UsageError
from kernelevolve.core.evaluation import Evaluation, Stage, Status
from kernelevolve.core.events import (
    Confirmed,
    Evaluated,
    Event,
    Exchanged,
    Failed,
    Proposed,
    Quarantined,
    RunResumed,
    RunStarted,
    RunStopped,
    Selected,
    TriedOut,
)
from kernelevolve.core.graph import Graph
from kernelevolve.core.lease import HEARTBEAT_SECONDS, Lease
from kernelevolve.core.protocols import Reporter, Store
from kernelevolve.core.target import TargetSpec
from kernelevolve.core.task import Task
from kernelevolve.search.quarantine import proof
from kernelevolve.search.recalling import Past

_log = logging.getLogger(__name__)


class Journal:
    """Appends to the store, then folds whatever the store holds beyond what was folded.

    Our own events take the same way as commands that other processes appended in between, so
    that this graph and that of any later reader are the same at every length.
    """

    def __init__(
        self,
        store: Store,
        run: str,
        reporters: Sequence[Reporter] = (),
        now: Callable[[], float] = time.time,
    ) -> None:
        self.store = store
        self.run = run
        self.now = now
        self.graph = Graph.fold(store.read(run))
        self._reporters = reporters
        self._lease = str(Lease.mine())
        self._written_at: float | None = None

    @cached_property
    def past(self) -> Past:
        """What other runs of the store did before this one began."""
        return Past(self.store, self.run, self.graph)

    def start(
        self,
        task: Task,
        target: TargetSpec,
        config: Mapping[str, object],
        forecast: Usage = Usage(),  # noqa: B008 - a frozen record
    ) -> None:
        """Begin a new run.

        Raises:
            UsageError: the run exists.
            LeaseHeld: another process began it at the same time.
        """
        if self.graph.length:
            raise UsageError(
                f"run {self.run!r} exists: continue it with `kernelevolve resume {self.run}`, "
                "or choose another name with --run"
            )
        event = RunStarted(
            at=self.now(), task=task, target=target, config=dict(config), forecast=forecast
        )
        self.record(event)

    def resume(self, config: Mapping[str, object]) -> None:
        """Take a run up again.

        Raises:
            UsageError: there is no such run.
            LeaseHeld: another live process writes it.
        """
        if not self.graph.length:
            known = ", ".join(self.store.runs()) or "none"
            raise UsageError(f"unknown run {self.run!r}; known: {known}")
        self.record(RunResumed(at=self.now(), config=dict(config)))

    def record(self, *events: Event) -> None:
        """Append events as the run's writer and fold them."""
        self.store.append(self.run, events, self._lease)
        self._written_at = self.now()
        self.follow()

    def follow(self) -> None:
        """Fold what was appended since; as the writer, show now and then that we live."""
        for event in self.store.read(self.run, self.graph.length):
            self.graph.apply(event)
            self._report(event)
        if self._written_at is not None and self.now() - self._written_at > HEARTBEAT_SECONDS:
            self.store.append(self.run, (), self._lease)
            self._written_at = self.now()

    def selected(self, move: Move) -> None:
        """A node is opened for a move."""
        self.record(Selected(at=self.now(), number=self.graph.next_number, move=move))

    def proposed(self, brief: Brief, proposal: Proposal) -> None:
        """A programmer answered.

        The brief is kept without `tried`, which the journal itself tells.
        """
        kept = brief.model_copy(update={"tried": ()})
        candidate = Candidate(language=brief.language, files=proposal.files)
        event = Proposed(
            at=self.now(),
            number=brief.number,
            candidate=candidate.id,
            language=candidate.language,
            files={f.path: self.store.put_blob(f.text.encode()) for f in proposal.files},
            summary=proposal.summary,
            plan=proposal.plan,
            algebraic=proposal.algebraic,
            fallback=proposal.fallback,
            predicted=proposal.predicted,
            brief=self.store.put_blob(kept.model_dump_json().encode()),
            notes=self._notes(proposal),
            usage=proposal.usage,
        )
        self.record(event)

    def exchanged(self, number: int, exchange: Exchange) -> None:
        """A node's programmer asked a model."""
        earlier = self.graph.nodes[number].exchanges
        event = Exchanged(
            at=self.now(),
            number=number,
            role=exchange.role,
            ordinal=sum(e.role == exchange.role for e in earlier),
            model=exchange.model,
            status=exchange.status,
            request=self.store.put_blob(exchange.request),
            response=self.store.put_blob(exchange.response),
            usage=exchange.usage,
        )
        self.record(event)

    def tried_out(
        self, number: int, stage: Stage, candidate: Candidate, evaluation: Evaluation
    ) -> None:
        """A node's programmer had files judged."""
        event = TriedOut(
            at=self.now(),
            number=number,
            stage=stage,
            candidate=candidate.id,
            evaluation=evaluation,
        )
        self.record(event)

    def failed(self, number: int, error: Exception) -> None:
        """A programmer had no answer, or a fault."""
        message = str(error)
        if not isinstance(error, ProgrammerError):
            message = f"{type(error).__name__}: {error}"
            _log.error("node #%d: the programmer has a fault", number, exc_info=error)
        self.record(Failed(at=self.now(), number=number, message=message))

    def evaluated(self, number: int, evaluation: Evaluation) -> None:
        """The harness's verdict on a node."""
        event = Evaluated(at=self.now(), number=number, evaluation=evaluation)
        self.record(event, *self._quarantine(number, evaluation))

    def drop_tainted(self, busy: Container[int]) -> None:
        """End the open nodes that quarantine took since they were opened, untried."""
        for node in self.graph.open:
            if node.quarantined is not None and node.number not in busy:
                message = f"not tried: {node.quarantined}"
                self.record(Failed(at=self.now(), number=node.number, message=message))

    def repeated(self, number: int, first: int) -> None:
        """A node proposed the same source as an earlier one."""
        message = f"the same source as #{first}: propose something else"
        verdict = Evaluation(status=Status.DUPLICATE, stage=Stage.SCREEN, message=message)
        self.record(Evaluated(at=self.now(), number=number, evaluation=verdict, same_as=first))

    def confirmed(self, number: int, evaluation: Evaluation) -> None:
        """The verdict of the final check."""
        event = Confirmed(at=self.now(), number=number, evaluation=evaluation)
        self.record(event, *self._quarantine(number, evaluation))

    def stopped(self, reason: str) -> None:
        """The session ends, and with it the lease."""
        self.record(RunStopped(at=self.now(), reason=reason))

    def candidate(self, number: int) -> Candidate:
        """What a node proposed.

        Raises:
            StoreError: its files are gone.
            UsageError: the node proposed nothing.
        """
        node = self.graph.nodes.get(number)
        if node is None or node.proposal is None:
            raise UsageError(f"run {self.run!r}: node #{number} holds no source")
        return Candidate(language=node.proposal.language, files=self.files(node.proposal))

    def files(self, proposal: Proposed) -> tuple[SourceFile, ...]:
        """The proposed files, read back."""
        return tuple(
            SourceFile(path=path, text=self.store.get_blob(ref).decode())
            for path, ref in proposal.files.items()
        )

    def _notes(self, proposal: Proposal) -> str | None:
        if not proposal.notes:
            return None
        notes = [note.model_dump(mode="json") for note in proposal.notes]
        return self.store.put_blob(json.dumps(notes).encode())

    def _quarantine(self, number: int, verdict: Evaluation) -> list[Quarantined]:
        """Appended in one piece with the verdict, so that no reader sees one without the other."""
        earlier = self.graph.nodes[number].evaluation
        reason = proof(verdict, passed_before=earlier is not None and earlier.ok)
        if reason is None:
            return []
        return [Quarantined(at=self.now(), number=number, reason=reason, detector=verdict.detector)]

    def _report(self, event: Event) -> None:
        for reporter in self._reporters:
            try:
                reporter.report(event, self.graph)
            except Exception:  # noqa: BLE001 - a reporter observes; it must not end a run
                _log.exception("reporter %s failed on %s", type(reporter).__name__, event.kind)
