"""The search graph: a fold over the journal's events."""

from collections.abc import Iterable, Iterator
from functools import singledispatchmethod

from kernelevolve.core.candidate import Move, Usage
from kernelevolve.core.evaluation import Evaluation, Status
from kernelevolve.core.events import (
    Admitted,
    Command,
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
from kernelevolve.core.job import Admission
from kernelevolve.core.record import Record
from kernelevolve.core.target import TargetSpec
from kernelevolve.core.task import Task


class Node(Record):
    """One numbered attempt."""

    number: int
    """From 1, in the order of selection."""
    move: Move
    """What was asked for; its parents are this node's."""
    exchanges: tuple[Exchanged, ...] = ()
    """What its programmer asked models, in order."""
    proposal: Proposed | None = None
    """The programmer's answer."""
    evaluation: Evaluation | None = None
    """The harness's verdict; of a duplicate, status `duplicate`."""
    confirmation: Evaluation | None = None
    """The verdict of the final check."""
    confirmed_at: float | None = None
    """When that was, seconds since the epoch."""
    failure: str | None = None
    """Why the programmer gave no answer."""
    same_as: int | None = None
    """The node that a duplicate repeats."""
    quarantined: str | None = None
    """Why it no longer counts."""
    quarantined_for: int | None = None
    """The node whose exploit was proven: itself, an ancestor, or one of the same source."""

    @property
    def open(self) -> bool:
        """Whether it was selected and has not ended."""
        return self.evaluation is None and self.failure is None

    @property
    def score(self) -> float | None:
        """Larger is better; None unless OK and not quarantined.

        The final check's word replaces that of the search, so that a lucky measurement counts
        no longer than until it is confirmed, and a refuted kernel not at all.
        """
        if self.evaluation is None or self.quarantined is not None:
            return None
        if self.confirmation is not None and self.confirmation.status is not Status.LOST:
            return self.confirmation.score
        return self.evaluation.score

    @property
    def guilty(self) -> bool:
        """Whether the exploit was proven on this node itself."""
        return self.quarantined_for == self.number

    @property
    def confirmed(self) -> bool:
        """Whether the final check passed."""
        return self.confirmation is not None and self.confirmation.ok and not self.quarantined

    @property
    def status(self) -> str:
        """`open`, `failed`, or the evaluation's status."""
        if self.failure is not None:
            return "failed"
        return "open" if self.evaluation is None else str(self.evaluation.status)


class Graph:
    """All nodes of a run. Changed by `apply` only; everything else reads."""

    def __init__(self) -> None:
        self.length = 0
        """Events folded so far, which is also the journal's length."""
        self.task: Task | None = None
        self.target: TargetSpec | None = None
        self.config: dict[str, object] = {}
        self.admission: Admission | None = None
        self.started_at: float | None = None
        self._earlier_seconds = 0.0
        self._session_at = 0.0
        self._written_at = 0.0
        self.stopped_by: str | None = None
        self.nodes: dict[int, Node] = {}
        self.children: dict[int, list[int]] = {}
        self.by_candidate: dict[str, int] = {}
        self.quarantines: dict[int, Quarantined] = {}
        self.hints: list[str] = []
        self.pinned: set[int] = set()
        self.banned: set[int] = set()
        self.paused = False
        self.stop_wanted = False
        self.usage = Usage()
        self.usage_of: dict[str, Usage] = {}
        """What each role spent on models."""

    @classmethod
    def fold(cls, events: Iterable[Event]) -> "Graph":
        """The graph after `events`."""
        graph = cls()
        for event in events:
            graph.apply(event)
        return graph

    def apply(self, event: Event) -> None:
        """Take one event into account."""
        self._apply(event)
        self.length += 1
        if not isinstance(event, Command):
            self._written_at = event.at

    def __iter__(self) -> Iterator[Node]:
        """Nodes by number."""
        return iter(self.nodes.values())

    def __len__(self) -> int:
        """How many nodes there are, open ones included."""
        return len(self.nodes)

    @property
    def next_number(self) -> int:
        """The number that the next node gets."""
        return len(self.nodes) + 1

    @property
    def open(self) -> list[Node]:
        """Nodes that were selected and have not ended."""
        return [n for n in self if n.open]

    @property
    def scored(self) -> list[Node]:
        """Nodes with a score, best first; equal scores by number."""
        ranked = [
            (-score, n.number)
            for n in self
            if (score := n.score) is not None and n.number not in self.banned
        ]
        return [self.nodes[number] for _, number in sorted(ranked)]

    @property
    def best(self) -> Node | None:
        """What is at least the fastest of all confirmed; before there is one, the best not refuted.

        Confirmed nodes are compared by the lower ends of their intervals: the highest of several
        measured scores is likely to be the luckiest one, too.
        """
        confirmed = [n for n in self if n.confirmed and n.number not in self.banned]
        if confirmed:
            return max(confirmed, key=_at_least)
        return next(iter(self.scored), None)

    def seconds(self, now: float) -> float:
        """Wall-clock time of this session until `now`, and of all sessions before it.

        A session that was killed counts up to the last event that it wrote.
        """
        return self._earlier_seconds + max(0.0, now - self._session_at)

    @property
    def elapsed(self) -> float:
        """Wall-clock seconds that were worked on the run, up to its last event."""
        return self.seconds(self._written_at)

    def ancestors(self, number: int) -> list[Node]:
        """From the root of the first-parent line down to the node's parent."""
        line: list[Node] = []
        while parents := self.nodes[number].move.parents:
            number = parents[0]
            line.append(self.nodes[number])
        return line[::-1]

    def descendants(self, number: int) -> set[int]:
        """Numbers of all nodes that have `number` among their ancestors by any parent."""
        found: set[int] = set()
        waiting = [number]
        while waiting:
            for child in self.children.get(waiting.pop(), ()):
                if child not in found:
                    found.add(child)
                    waiting.append(child)
        return found

    @singledispatchmethod
    def _apply(self, event: object) -> None:
        raise TypeError(f"not an event: {event!r}")

    @_apply.register
    def _(self, event: RunStarted) -> None:
        self.task, self.target, self.config = event.task, event.target, event.config
        self.started_at = self._session_at = event.at

    @_apply.register
    def _(self, event: RunResumed) -> None:
        self.config = event.config
        self._earlier_seconds += max(0.0, self._written_at - self._session_at)
        self._session_at = event.at
        self.stopped_by, self.stop_wanted, self.paused = None, False, False
        for node in [n for n in self.open if n.proposal is None]:
            self._change(node.number, exchanges=())

    @_apply.register
    def _(self, event: Admitted) -> None:
        self.admission = event.admission

    @_apply.register
    def _(self, event: Selected) -> None:
        self.nodes[event.number] = Node(number=event.number, move=event.move)
        for parent in event.move.parents:
            self.children.setdefault(parent, []).append(event.number)
            guilty = self.nodes[parent].quarantined_for
            if guilty is not None:
                self._taint(event.number, guilty, f"descends from #{guilty}")

    @_apply.register
    def _(self, event: Exchanged) -> None:
        node = self.nodes[event.number]
        self._change(event.number, exchanges=(*node.exchanges, event))
        self.usage = self.usage + event.usage
        self.usage_of[event.role] = self.usage_of.get(event.role, Usage()) + event.usage

    @_apply.register
    def _(self, event: TriedOut) -> None:
        self._charge(event.evaluation)

    @_apply.register
    def _(self, event: Proposed) -> None:
        self._change(event.number, proposal=event)
        self.usage = self.usage + event.usage
        first = self.by_candidate.get(event.candidate)
        if event.number in self.quarantines:
            self._condemn_source(event.number)
        elif first in self.quarantines:
            self._taint(event.number, first, f"same source as #{first}")
        elif first is None and self.nodes[event.number].quarantined is None:
            self.by_candidate[event.candidate] = event.number

    @_apply.register
    def _(self, event: Failed) -> None:
        self._change(event.number, failure=event.message)

    @_apply.register
    def _(self, event: Evaluated) -> None:
        self._change(event.number, evaluation=event.evaluation, same_as=event.same_as)
        self._charge(event.evaluation)
        if event.evaluation.status is Status.LOST:
            self._forget_source(event.number)

    @_apply.register
    def _(self, event: Confirmed) -> None:
        self._change(event.number, confirmation=event.evaluation, confirmed_at=event.at)
        self._charge(event.evaluation)

    @_apply.register
    def _(self, event: Quarantined) -> None:
        self._quarantine(event)

    @_apply.register
    def _(self, event: Command) -> None:
        match event.verb:
            case "hint":
                self.hints.append(event.text)
            case "pin" if event.number is not None:
                self.pinned.add(event.number)
            case "ban" if event.number is not None:
                self.banned.add(event.number)
            case "quarantine" if event.number in self.nodes:
                reason = event.text or "a person's decision"
                self._quarantine(Quarantined(at=event.at, number=event.number, reason=reason))
            case "pause":
                self.paused = True
            case "resume":
                self.paused = False
            case "stop":
                self.stop_wanted = True

    @_apply.register
    def _(self, event: RunStopped) -> None:
        self.stopped_by = event.reason

    def _quarantine(self, event: Quarantined) -> None:
        """The node is guilty; what has its source, and what came of either, is tainted."""
        guilty = event.number
        if guilty in self.quarantines:
            return
        self.quarantines[guilty] = event
        self._change(guilty, quarantined=event.reason, quarantined_for=guilty)
        self._condemn_source(guilty)

    def _condemn_source(self, guilty: int) -> None:
        """Whoever proposed or will propose the same source shares the verdict on it."""
        proposal = self.nodes[guilty].proposal
        if proposal is None:
            return
        self.by_candidate[proposal.candidate] = guilty
        for node in list(self):
            if node.proposal and node.proposal.candidate == proposal.candidate:
                self._taint(node.number, guilty, f"same source as #{guilty}")

    def _taint(self, number: int, guilty: int, how: str) -> None:
        """A node and its descendants, save those that are quarantined already.

        A source is not guilty because of its node's parents: proposed again by a node that does
        not come from there, it is evaluated afresh.
        """
        for one in (number, *self.descendants(number)):
            if self.nodes[one].quarantined is None:
                kin = how if one == number else f"descends from #{guilty}"
                reason = f"{kin}: {self.quarantines[guilty].reason}"
                self._change(one, quarantined=reason, quarantined_for=guilty)
                self._forget_source(one)

    def _change(self, number: int, **fields: object) -> None:
        self.nodes[number] = self.nodes[number].model_copy(update=fields)

    def _forget_source(self, number: int) -> None:
        """What judged nothing that counts, so that the same source may be proposed again."""
        proposal = self.nodes[number].proposal
        if number in self.quarantines:
            return
        if proposal and self.by_candidate.get(proposal.candidate) == number:
            del self.by_candidate[proposal.candidate]

    def _charge(self, evaluation: Evaluation) -> None:
        self.usage = self.usage + Usage(device_seconds=evaluation.device_seconds)

    def by_status(self) -> dict[str, int]:
        """How many nodes ended in each way, `open` included."""
        counts: dict[str, int] = {}
        for node in self:
            counts[node.status] = counts.get(node.status, 0) + 1
        return counts


def _at_least(node: Node) -> tuple[float, float]:
    assert node.confirmation is not None
    score, interval = node.confirmation.score or 0.0, node.confirmation.interval
    return (interval[0] if interval else score), score


def is_ok(node: Node) -> bool:
    """Whether a node's evaluation passed and still counts."""
    return (
        node.evaluation is not None and node.evaluation.status is Status.OK and not node.quarantined
    )
