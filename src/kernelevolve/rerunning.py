"""Repeats a whole run without model or device, from recorded exchanges and evaluations.

Today's selection policy, briefs, prompts and programmer are asked again, in the recorded order;
where what they say differs from the journal, the replay says where and how. What no code of ours
decides is taken over: verdicts of the harness, answers of models, words of a person.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING

from pydantic import ValidationError

from kernelevolve.config import RunConfig
from kernelevolve.core.candidate import Brief, Candidate, Exchange, Move, Proposal, SourceFile
from kernelevolve.core.errors import ProgrammerError
from kernelevolve.core.evaluation import Evaluation, Stage
from kernelevolve.core.events import (
    Command,
    Event,
    Exchanged,
    Failed,
    Proposed,
    RunResumed,
    RunStarted,
    Selected,
    TriedOut,
)
from kernelevolve.core.graph import Graph
from kernelevolve.core.note import Note
from kernelevolve.core.protocols import KnowledgeBase, Programmer, SelectionPolicy, Store
from kernelevolve.search import briefing
from kernelevolve.search.bench import Bench, refused
from kernelevolve.search.journal import Journal

if TYPE_CHECKING:
    from kernelevolve.programmers.llm import transport
    from kernelevolve.programmers.llm.connect import Connections
    from kernelevolve.programmers.llm.transport import Wire

Remember = Callable[[KnowledgeBase], KnowledgeBase]
Reach = Callable[["Connections", Remember], Programmer]
MOST = 20
"""Differences that are listed; the rest is counted."""


class Remembered:
    """A knowledge base as a node met it: what was recalled then, whatever is known today."""

    def __init__(self, today: KnowledgeBase) -> None:
        self._today = today
        self._notes: dict[str, Note] = {}
        self._recalled: list[str] | None = None

    def meet(self, notes: Sequence[Note], recalled: list[str] | None) -> None:
        """Another node's turn."""
        self._notes = {note.ref: note for note in notes}
        self._recalled = recalled

    def recall(
        self, query: str, *, limit: int, target: str = "", language: str = ""
    ) -> Sequence[Note]:
        """See `KnowledgeBase`. The first answer is the recorded one."""
        refs, self._recalled = self._recalled, None
        if refs is None:
            return self._today.recall(query, limit=limit, target=target, language=language)
        return [self._notes[ref] for ref in refs]

    def note(self, ref: str) -> Note:
        """See `KnowledgeBase`."""
        return self._notes[ref] if ref in self._notes else self._today.note(ref)

    def index(self, target: str = "", language: str = "") -> str:
        """See `KnowledgeBase`."""
        return self._today.index(target, language)

    def learn(self, note: Note) -> None:
        """See `KnowledgeBase`. A replay teaches nothing."""

    def retire(self, ref: str, reason: str) -> None:
        """See `KnowledgeBase`. A replay teaches nothing."""


@dataclass
class Rerun:
    """A recorded run, asked again."""

    store: Store
    run: str
    policy: SelectionPolicy
    guide: str
    """What briefs say of the language today."""
    reach: Reach | None = None
    """Makes the programmer that asks models; None takes answers over."""
    check_prompts: bool = False
    """Whether requests must be those of the recording, byte by byte; not those of nodes that gave
    no answer, whose notes are not kept."""
    differences: list[str] = field(default_factory=list, init=False)
    checked: dict[str, int] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self._events = list(self.store.read(self.run))
        self._journal = Journal(self.store, self.run)
        self._journal.graph = self._graph = Graph()
        self._config = RunConfig()
        self._moves: list[Move] = []
        self._briefs: dict[int, Brief] = {}
        self._recorded = self._recorded_briefs()
        self._tape: list[Exchanged] = []
        self._programmer: Programmer | None = None
        self._library: Remembered | None = None
        self._played: transport.Played | None = None

    def compared(self) -> dict[str, object]:
        """Walk the journal to its end, and say what was asked again and where it differed."""
        for event in self._events:
            self._check(event)
            self._graph.apply(event)
            self._brief(event)
        return {
            "run": self.run,
            "events": len(self._events),
            "same": not self.differences,
            "checked": self.checked,
            "differences": self.differences[:MOST],
            "more": max(0, len(self.differences) - MOST),
        }

    def _check(self, event: Event) -> None:
        if self._moves and not isinstance(event, Selected | Command):
            self._differs(f"the policy wants {len(self._moves)} nodes more at event {self._at}")
            self._moves = []
        match event:
            case RunStarted() | RunResumed():
                self._config = RunConfig.model_validate(event.config)
            case Selected():
                self._check_move(event)
            case Proposed() | Failed():
                self._check_answer(event)

    @property
    def _at(self) -> int:
        return self._graph.length + 1

    def _check_move(self, event: Selected) -> None:
        if not self._moves:
            workers = self._config.workers - len(self._graph.open)
            free = min(workers, self._config.nodes - len(self._graph))
            rng = Random(f"{self._config.seed}/{self._graph.length}")
            self._moves = list(self.policy.select(self._graph, free, rng)[: max(0, free)])
        move = self._moves.pop(0) if self._moves else None
        self._count("moves")
        if move != event.move:
            self._differs(f"#{event.number}: the policy now asks for {move}, not {event.move}")

    def _recorded_briefs(self) -> dict[int, Brief]:
        found: dict[int, Brief] = {}
        for event in self._events:
            if isinstance(event, Proposed) and event.brief:
                try:
                    text = self.store.get_blob(event.brief)
                    found[event.number] = Brief.model_validate_json(text)
                except ValidationError:
                    self._differs(f"#{event.number}: its brief is of another version")
        return found

    def _brief(self, event: Event) -> None:
        """Compose briefs where they were composed; of nodes without an answer, at their start."""
        if isinstance(event, Selected) and event.number not in self._recorded:
            self._briefs[event.number] = self._composed(event.number)
        for number, recorded in self._recorded.items():
            if recorded.length == self._graph.length and number in self._graph.nodes:
                self._briefs[number] = self._composed(number)
                self._count("briefs")

    def _composed(self, number: int) -> Brief:
        return briefing.brief(self._journal, number, self._config, self.guide)

    def _check_answer(self, event: Proposed | Failed) -> None:
        number = event.number
        self._check_brief(number)
        self._tape = list(self._graph.nodes[number].exchanges)
        if not self._tape or self.reach is None:
            return
        self._count("answers")
        said = self._asked(number, event)
        for name, (recorded, today) in _compared(event, said).items():
            if recorded != today:
                self._differs(f"#{number}: {name} was {recorded!r}, is now {today!r}")
        if self._tape:
            self._differs(f"#{number}: {len(self._tape)} recorded requests are not made any more")

    def _check_brief(self, number: int) -> None:
        recorded, now = self._recorded.get(number), self._briefs.get(number)
        if now is None:
            self._briefs[number] = self._composed(number)
        elif recorded is not None:
            kept = now.model_copy(update={"tried": ()})
            if kept != recorded:
                place = _place(recorded.model_dump_json(), kept.model_dump_json())
                self._differs(f"#{number}: the brief differs {place}")

    def _asked(self, number: int, event: Proposed | Failed) -> Proposal | str:
        desk = Played(self, number, list(self._tries(number)))
        programmer = self._connected()
        if self._library is not None:
            self._library.meet(*self._recalled(event))
        if self._played is not None:
            self._played.check = self.check_prompts and isinstance(event, Proposed)
        try:
            return asyncio.run(programmer.propose(self._briefs[number], desk))
        except ProgrammerError as error:
            return str(error)

    def _tries(self, number: int) -> Sequence[TriedOut]:
        return [e for e in self._events if isinstance(e, TriedOut) and e.number == number]

    def _connected(self) -> Programmer:
        from kernelevolve.programmers.llm import connect, transport

        if self._programmer is None:
            assert self.reach is not None
            self._played = transport.Played(self._next_wire)
            base_url, prices = self._config.base_url, self._config.prices
            reached = connect.Connections(base_url, prices=prices, transport=self._played)
            self._programmer = self.reach(reached, self._remember)
        return self._programmer

    def _remember(self, today: KnowledgeBase) -> KnowledgeBase:
        self._library = Remembered(today)
        return self._library

    def _recalled(self, event: Proposed | Failed) -> tuple[list[Note], list[str] | None]:
        """The notes that a node was shown, and which of them the search had found."""
        plan = _parsed(event.plan) if isinstance(event, Proposed) else None
        refs = plan.get("recalled") if isinstance(plan, dict) else None
        if refs is None or not isinstance(event, Proposed) or event.notes is None:
            return [], refs
        held = json.loads(self.store.get_blob(event.notes))
        return [Note.model_validate(note) for note in held], refs

    def _next_wire(self) -> Wire:
        from kernelevolve.programmers.llm.transport import Wire

        if not self._tape:
            raise ProgrammerError("a request that the recording does not hold")
        event = self._tape.pop(0)
        self._count("requests")
        request, response = (self.store.get_blob(ref) for ref in (event.request, event.response))
        return Wire(request, response, event.status)

    def _differs(self, sentence: str) -> None:
        self.differences.append(sentence)

    def _count(self, what: str) -> None:
        self.checked[what] = self.checked.get(what, 0) + 1


@dataclass
class Played:
    """The workbench of one node as it was: what was tried out answers as it did."""

    rerun: Rerun
    number: int
    tries: list[TriedOut]

    async def try_out(self, files: Sequence[SourceFile], stage: Stage) -> Evaluation:
        """See `Workbench`."""
        if not self.tries:
            return refused(stage)
        event = self.tries.pop(0)
        candidate = Candidate(language=self.rerun._config.language, files=tuple(files))
        if (candidate.id, stage) != (event.candidate, event.stage):
            self.rerun._differs(f"#{self.number}: something else is tried out than was")
        return event.evaluation

    async def run(self, command: Sequence[str], stdin: bytes) -> bytes:
        """See `Workbench`."""
        raise ProgrammerError("a replay runs no commands")

    def look(self, ref: str) -> str:
        """See `Workbench`."""
        return Bench(self.rerun._journal, self.number, "", _never).look(ref)

    def blob(self, ref: str) -> bytes:
        """See `Workbench`."""
        return self.rerun.store.get_blob(ref)

    def exchanged(self, exchange: Exchange) -> None:
        """See `Workbench`. What was asked is compared on the wire."""


async def _never(candidate: Candidate, stage: Stage) -> Evaluation:
    raise ProgrammerError("a replay judges nothing")


def _compared(event: Proposed | Failed, said: Proposal | str) -> dict[str, tuple[object, object]]:
    """What must be the same, as recorded and now."""
    if isinstance(event, Failed) or isinstance(said, str):
        before = event.message if isinstance(event, Failed) else "an answer"
        return {"the failure": (before, said if isinstance(said, str) else "an answer")}
    candidate = Candidate(language=event.language, files=said.files)
    return {
        "the candidate": (event.candidate, candidate.id),
        "the summary": (event.summary, said.summary),
        "the prediction": (event.predicted, said.predicted),
        "the plan": (_parsed(event.plan), _parsed(said.plan)),
    }


def _parsed(plan: str | None) -> object:
    try:
        return json.loads(plan or "null")
    except ValueError:
        return plan


def _place(before: str, now: str) -> str:
    at = next((i for i, (a, b) in enumerate(zip(before, now, strict=False)) if a != b), 0)
    start = max(0, at - 20)
    return f"at {before[start : at + 40]!r}, now {now[start : at + 40]!r}"
