"""The journal's vocabulary. What happened is appended; nothing is ever changed."""

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from kernelevolve.core.candidate import Move, Usage
from kernelevolve.core.detector import Detector
from kernelevolve.core.evaluation import Evaluation, Stage
from kernelevolve.core.job import Admission
from kernelevolve.core.record import Record
from kernelevolve.core.target import TargetSpec
from kernelevolve.core.task import Task


class _Event(Record):
    at: float
    """Seconds since the epoch."""


class RunStarted(_Event):
    """The first event of every run."""

    kind: Literal["run_started"] = "run_started"
    task: Task
    """What is optimised."""
    target: TargetSpec
    """Where."""
    config: dict[str, object]
    """The whole `RunConfig`, as JSON values."""
    forecast: Usage = Usage()
    """About what its models will cost, if it runs to its last node."""


class RunResumed(_Event):
    """A process took the run up again."""

    kind: Literal["run_resumed"] = "run_resumed"
    config: dict[str, object]
    """The configuration from here on."""


class Admitted(_Event):
    """The task was loaded and its baselines were measured, in this process."""

    kind: Literal["admitted"] = "admitted"
    admission: Admission
    """What was found."""


class Selected(_Event):
    """A node was opened. Journaled before the move is dispatched."""

    kind: Literal["selected"] = "selected"
    number: int
    """The new node's number."""
    move: Move
    """What the policy asked for."""


class Proposed(_Event):
    """A programmer answered."""

    kind: Literal["proposed"] = "proposed"
    number: int
    """The node."""
    candidate: str
    """Content hash of the candidate."""
    language: str
    """Registry name."""
    files: dict[str, str]
    """Path to blob."""
    summary: str = ""
    """What its programmer said it does."""
    plan: str | None = None
    """The programmer's own notes."""
    algebraic: bool = False
    """The gain rests on algebra."""
    fallback: bool = False
    """Left to library calls as a whole."""
    predicted: float | None = None
    """The score that its programmer expected."""
    brief: str | None = None
    """Blob of the brief."""
    notes: str | None = None
    """Blob of the notes that its programmer was shown, as a JSON list."""
    usage: Usage = Usage()
    """What the answer cost."""


class Exchanged(_Event):
    """A model was asked and answered, or did not; what it cost is spent from here on."""

    kind: Literal["exchanged"] = "exchanged"
    number: int
    """The node."""
    role: str
    """Who asked: `programmer`, `memory` or `search`."""
    ordinal: int
    """Of the role's requests for this node, from 0."""
    model: str
    """As the run named it."""
    status: int
    """Of HTTP; 0 where no answer came."""
    request: str
    """Blob of the request's body."""
    response: str
    """Blob of the answer's body."""
    usage: Usage
    """What it cost."""


class TriedOut(_Event):
    """A programmer had its workbench judge files before it answered."""

    kind: Literal["tried_out"] = "tried_out"
    number: int
    """The node."""
    stage: Stage
    """How far they should go."""
    candidate: str
    """Content hash of the files."""
    evaluation: Evaluation
    """The verdict as the programmer saw it."""


class Failed(_Event):
    """A programmer could not answer; the node ends without a candidate."""

    kind: Literal["failed"] = "failed"
    number: int
    """The node."""
    message: str
    """Why."""


class Evaluated(_Event):
    """The harness answered."""

    kind: Literal["evaluated"] = "evaluated"
    number: int
    """The node."""
    evaluation: Evaluation
    """The verdict."""
    same_as: int | None = None
    """The node whose identical source was evaluated, for a duplicate."""


class Confirmed(_Event):
    """The final check of one of the best nodes, whatever it found."""

    kind: Literal["confirmed"] = "confirmed"
    number: int
    """The node."""
    evaluation: Evaluation
    """Stage `confirm`."""


class Quarantined(_Event):
    """A proven exploit: the node, those of the same source and all descendants no longer count."""

    kind: Literal["quarantined"] = "quarantined"
    number: int
    """The guilty node."""
    reason: str
    """What was proven, in a sentence."""
    detector: Detector | None = None
    """The check that proved it; None where a person said so."""


class Command(_Event):
    """A person's or a program's wish, from any process."""

    kind: Literal["command"] = "command"
    verb: Literal["hint", "pin", "ban", "quarantine", "pause", "resume", "stop"]
    """What to do."""
    number: int | None = None
    """The node that `pin`, `ban` and `quarantine` mean."""
    text: str = ""
    """What a `hint` says, or why a node is put into quarantine."""


class RunStopped(_Event):
    """The writer's last event: it gives up its lease. A later resume may still follow."""

    kind: Literal["run_stopped"] = "run_stopped"
    reason: str
    """`nodes`, `minutes`, `plateau`, `goal`, `roofline`, `tokens`, `dollars`, `requests`,
    `device_minutes`, `programmer`, `interrupted`, `exhausted`, `command`, `error`."""


Event = Annotated[
    RunStarted
    | RunResumed
    | Admitted
    | Selected
    | Exchanged
    | TriedOut
    | Proposed
    | Failed
    | Evaluated
    | Confirmed
    | Quarantined
    | Command
    | RunStopped,
    Field(discriminator="kind"),
]

EVENT: TypeAdapter[Event] = TypeAdapter(Event)
"""Parses and writes one event as JSON."""
