"""Kernels as source text, and what passes between the search and a programmer."""

from functools import cached_property
from typing import Literal

from pydantic import Field, field_validator

from kernelevolve.core.evaluation import Evaluation
from kernelevolve.core.note import Note
from kernelevolve.core.record import Record, digest
from kernelevolve.core.target import TargetSpec
from kernelevolve.core.task import Task

Memory = Literal["fresh", "lineage", "siblings", "merge"]


class SourceFile(Record):
    """One file of a candidate."""

    path: str
    """Relative, inside the candidate's folder."""
    text: str
    """Its content."""

    @field_validator("path")
    @classmethod
    def _inside(cls, path: str) -> str:
        if not path or path.startswith("/") or ".." in path.split("/") or "\0" in path:
            raise ValueError(f"{path!r} is not a relative path inside the candidate's folder")
        return path


class Candidate(Record):
    """Source files of one kernel, named by their content hash."""

    language: str
    """Registry name of the language."""
    files: tuple[SourceFile, ...]
    """`model.py` defines `ModelNew`; native sources lie beside it."""

    @cached_property
    def id(self) -> str:
        """Content hash over language, paths and texts."""
        ordered = sorted(self.files, key=lambda f: f.path)
        return digest(self.language, *(part for f in ordered for part in (f.path, f.text)))

    def text(self, path: str) -> str | None:
        """The content of one file, or None where there is no such file."""
        return next((f.text for f in self.files if f.path == path), None)


class Move(Record):
    """What a selection policy asks for."""

    parents: tuple[int, ...] = ()
    """Node numbers; empty for a fresh start, two or more for a merge."""
    memory: Memory = "fresh"
    """What of the graph the brief shows."""
    island: int = 0
    """Sub-population, for policies that keep several."""


class Usage(Record):
    """What an answer cost."""

    seconds: float = 0.0
    """Wall-clock time."""
    device_seconds: float = 0.0
    """Time under an exclusive device lease."""
    tokens: int = 0
    """Model tokens, in and out."""
    dollars: float = 0.0
    """Price of the tokens."""
    requests: int = 0
    """Requests to models that were answered."""

    def __add__(self, other: "Usage") -> "Usage":
        """Field by field."""
        return Usage(
            seconds=self.seconds + other.seconds,
            device_seconds=self.device_seconds + other.device_seconds,
            tokens=self.tokens + other.tokens,
            dollars=self.dollars + other.dollars,
            requests=self.requests + other.requests,
        )


class Exchange(Record):
    """One request to a model and what came back, as they went over the wire."""

    role: str
    """Who asked: `programmer`, `memory` or `search`."""
    model: str
    """As the run named it, for example `openai:gpt-5`."""
    status: int
    """Of HTTP; 0 where no answer came."""
    request: bytes
    """Body of the request; headers, which hold keys, are not kept."""
    response: bytes
    """Body of the answer."""
    usage: Usage = Usage()
    """What it cost."""


class Allowance(Record):
    """What is left of a budget; None is without limit."""

    tokens: int | None = None
    """Model tokens, in and out."""
    dollars: float | None = None
    """Price of the tokens."""
    requests: int | None = None
    """Requests to models."""

    @property
    def spent(self) -> bool:
        """Whether nothing is left of something."""
        return any(v is not None and v <= 0 for v in (self.tokens, self.dollars, self.requests))


class Yield(Record):
    """What a model's answers came to in this run."""

    model: str
    """As the run named it."""
    nodes: int = 0
    """Nodes that it was asked for and that have ended."""
    gain: float = 0.0
    """Sum over those of the logarithm of score over parent's score, where that is above 0."""
    dollars: float = 0.0
    """What its answers cost."""
    tokens: int = 0
    """Tokens of its answers and their prompts."""


class Attempt(Record):
    """One earlier node as a brief shows it."""

    number: int
    """Node number."""
    files: tuple[SourceFile, ...]
    """Its source."""
    plan: str | None
    """The programmer's own notes that came with it (a schedule, for the built-in programmer)."""
    summary: str
    """What its programmer said it does."""
    predicted: float | None = None
    """The score that its programmer expected."""
    evaluation: Evaluation
    """The harness's verdict; held-out workloads are taken out."""


class Tried(Record):
    """A plan that a run already holds."""

    plan: str
    """The programmer's own notes."""
    summary: str = ""
    """What its programmer said it does."""
    score: float | None = None
    """What it measured; None where it was not timed or does not count."""


class Recalled(Record):
    """The best kernel of an earlier run for a task like this one, as text to start from."""

    run: str
    """Name of the run."""
    node: int
    """The node in it, which its final check passed."""
    task: str
    """Name of the task that it was written for."""
    statement: str = ""
    """What that task says of itself."""
    likeness: float
    """Of the two tasks, 0 to 1."""
    files: tuple[SourceFile, ...]
    """Its source."""
    summary: str
    """What its programmer said it does."""
    score: float
    """That it was confirmed with, over the baselines of its own task."""


class Brief(Record):
    """All that a programmer is told."""

    task: Task
    """What to compute, without its held-out workloads."""
    target: TargetSpec
    """Where it will run."""
    language: str
    """What to write it in."""
    guide: str
    """What a programmer must know of that language on that target."""
    move: Move
    """What the policy asked for."""
    parents: tuple[Attempt, ...] = ()
    """The move's parents, in its order."""
    history: tuple[Attempt, ...] = ()
    """Ancestors, siblings or both, as the move's memory says; oldest first."""
    recalled: tuple[Recalled, ...] = ()
    """Of earlier runs; only for moves that start afresh, and only now and then."""
    tried: tuple[Tried, ...] = ()
    """Plans that this run already holds, so that none is proposed twice; whatever the memory."""
    hints: tuple[str, ...] = ()
    """What a person asked for while the run goes on."""
    baselines_us: dict[str, dict[str, float]] = Field(default_factory=dict)
    """Workload that is shown to baseline to median microseconds per call: what is to be beaten."""
    floor_us: dict[str, float] = Field(default_factory=dict)
    """The same workloads' least time by measured peaks, microseconds."""
    allowances: dict[str, Allowance] = Field(default_factory=dict)
    """By role what may still be spent on models; the whole run's under the empty name."""
    yields: tuple[Yield, ...] = ()
    """What each model's answers came to so far."""
    number: int
    """The node that the answer becomes."""
    seed: str
    """Makes an answer that uses chance repeatable."""


class Proposal(Record):
    """All that a programmer answers."""

    files: tuple[SourceFile, ...] = Field(min_length=1)
    """The candidate's files."""
    summary: str = ""
    """One line: what it does and why that should help."""
    plan: str | None = None
    """The programmer's own notes (JSON text), given back in later briefs."""
    algebraic: bool = False
    """The gain rests on an algebraic rewrite of the reference, and is reported apart."""
    fallback: bool = False
    """The whole task is left to library calls; nothing was written for it."""
    predicted: float | None = None
    """The score that it expects."""
    notes: tuple[Note, ...] = ()
    """Notes of the knowledge base that it was written with."""
    usage: Usage = Usage()
    """What the answer cost."""
