"""What plug-ins implement. Five methods at most; if a sixth is wanted, a record is missing."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, Protocol

from kernelevolve.core.candidate import (
    Brief,
    Candidate,
    Exchange,
    Move,
    Proposal,
    SourceFile,
    Usage,
)
from kernelevolve.core.evaluation import Build, Evaluation, Flag, Stage
from kernelevolve.core.events import Event
from kernelevolve.core.graph import Graph
from kernelevolve.core.job import Admission, Finished, Job, Limits
from kernelevolve.core.note import Note
from kernelevolve.core.target import Clock, TargetSpec
from kernelevolve.core.task import Task

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module


class Target(Protocol):
    """A hardware family."""

    def discover(self) -> Sequence[TargetSpec]:
        """The devices present, with measured peaks where known; empty, never an exception."""
        ...

    def environment(self, spec: TargetSpec) -> Mapping[str, str]:
        """Environment variables that pin a worker to the device."""
        ...

    def clock(self, spec: TargetSpec) -> Clock:
        """How calls are timed here and how the judge bounds that time."""
        ...

    def measure(self, spec: TargetSpec) -> TargetSpec:
        """The same device with its peaks measured, cached per machine; takes seconds."""
        ...

    def profile(
        self, spec: TargetSpec, call: Callable[[], object], inputs: "Sequence[Tensor]"
    ) -> Mapping[str, float]:
        """Counters of one call by their vendor names; empty without a profiler.

        Where kernels are simulated, `simulated_us` among them is the call's time.

        Args:
            spec: the device.
            call: makes the call, once.
            inputs: what it is given.
        """
        ...


class Run(Protocol):
    """Runs one untrusted command to its end; given to `Language.build` by the harness."""

    def __call__(self, command: Sequence[str], folder: Path, limits: Limits) -> Finished:
        """Run `command` in `folder`, which is the only place that it may write."""
        ...


class Language(Protocol):
    """A way to write kernels."""

    requires: Mapping[str, str]
    """Programs and Python modules that a build needs, with the command that installs each."""
    vendors: Sequence[str]
    """Targets that it is written for."""
    preload: Sequence[str]
    """Modules that candidates import, and their runners have imported ahead where they are here."""

    def guide(self, spec: TargetSpec) -> str:
        """What a programmer must know to write it for this device."""
        ...

    def starter(self, task: Task) -> tuple[SourceFile, ...]:
        """A minimal example candidate's files, in the right form."""
        ...

    def screen(self, candidate: Candidate, task: Task) -> Sequence[Flag]:
        """Static tripwires; runs nothing. Reasons, not verdicts."""
        ...

    def build(self, candidate: Candidate, spec: TargetSpec, workdir: Path, run: Run) -> Build:
        """Compile into `workdir`, keyed by content; every command goes through `run`."""
        ...

    def load(self, build: Build, task: Task) -> "type[Module]":
        """The candidate's `ModelNew`; called in the runner, on the device."""
        ...


class Workbench(Protocol):
    """What a programmer may do while it works; metered."""

    async def try_out(self, files: Sequence[SourceFile], stage: Stage) -> Evaluation:
        """Evaluate files up to a stage."""
        ...

    async def run(self, command: Sequence[str], stdin: bytes) -> bytes:
        """Standard output of a command that may execute the task's code, in the sandbox.

        Raises:
            ProgrammerError: it failed or ran too long; the message ends with its last words.
        """
        ...

    def look(self, ref: str) -> str:
        """A past node (`#17`) or a diff of two (`#3..#17`), as text."""
        ...

    def blob(self, ref: str) -> bytes:
        """What the task carries along: captured inputs, an exported program."""
        ...

    def exchanged(self, exchange: Exchange) -> None:
        """Keep what a model was asked and answered, and charge it to the node."""
        ...


class Programmer(Protocol):
    """Who writes candidates."""

    async def study(self, task: Task, target: TargetSpec, bench: Workbench) -> None:
        """Look at the task of the briefs to come, while the harness still admits it.

        Called once in a session, and cancelled where the task is not admitted. What it cannot do
        is no news yet: `propose` meets the same and says so.
        """
        ...

    def forecast(self, task: Task, target: TargetSpec, nodes: int) -> Usage:
        """About what so many answers cost, said before a run starts; nothing without a model."""
        ...

    async def propose(self, brief: Brief, bench: Workbench) -> Proposal:
        """Answer a brief.

        Raises:
            ProgrammerLost: nor will the next one be answered; the run stops.
            ProgrammerError: no answer could be made; the node ends as failed.
        """
        ...


class Harness(Protocol):
    """Evaluates jobs, several at a time."""

    slots: int
    """Jobs that it works on at once."""

    async def admit(self, task: Task, spec: TargetSpec, baseline: str | None) -> Admission:
        """Load the task, run its reference and baselines, and say whether it can be searched."""
        ...

    async def evaluate(self, job: Job) -> Evaluation:
        """The verdict. Never raises for a bad candidate."""
        ...

    async def close(self) -> None:
        """Stop every process that it started."""
        ...


class SelectionPolicy(Protocol):
    """Decides what to try next. A pure function of the graph and a random generator."""

    def select(self, graph: Graph, free: int, rng: Random) -> Sequence[Move]:
        """Between zero and `free` moves; zero means: wait for open nodes to end."""
        ...


class KnowledgeBase(Protocol):
    """Notes that programmers search, walk and add to."""

    def recall(
        self, query: str, *, limit: int, target: str = "", language: str = ""
    ) -> Sequence[Note]:
        """The notes that fit a diagnosis or a message best, best first.

        Args:
            query: any text; several kilobytes of a compiler's output will do.
            limit: at most so many.
            target: leaves out what is about other devices.
            language: leaves out what is about other languages.
        """
        ...

    def note(self, ref: str) -> Note:
        """One note.

        Raises:
            UnknownName: there is none of that name, or it was retired.
        """
        ...

    def index(self, target: str = "", language: str = "") -> str:
        """The tree: one line per folder with the names and titles of its notes.

        Args:
            target: leaves out what is about other devices.
            language: leaves out what is about other languages.
        """
        ...

    def learn(self, note: Note) -> None:
        """Keep a skill that a run taught; it replaces what was learnt under the same name.

        Raises:
            UsageError: it is no skill, it was retired, or there is no folder to write to.
        """
        ...

    def retire(self, ref: str, reason: str) -> None:
        """Have a note found no more, because what it says turned out wrong.

        Raises:
            UnknownName: there is none of that name.
            UsageError: there is no folder to write to.
        """
        ...


class Store(Protocol):
    """Keeps journals and blobs."""

    def append(self, run: str, events: Sequence[Event], lease: str | None = None) -> None:
        """Add events atomically. Without a lease, commands only.

        The first append with a lease takes it, every later one (an empty one too) shows that
        its holder lives, and `RunStopped` gives it up.

        Raises:
            LeaseHeld: another live process holds this run's lease.
            StoreError: it cannot be written.
        """
        ...

    def read(self, run: str, after: int = 0) -> Sequence[Event]:
        """Events in the store's own order, without the first `after`; empty for an unknown run."""
        ...

    def runs(self) -> Sequence[str]:
        """Names of all runs, oldest first."""
        ...

    def put_blob(self, data: bytes) -> str:
        """Keep bytes under their content hash."""
        ...

    def get_blob(self, ref: str) -> bytes:
        """The bytes.

        Raises:
            StoreError: there is no such blob.
        """
        ...


class Reporter(Protocol):
    """Observes a run; cannot influence it."""

    def report(self, event: Event, graph: Graph) -> None:
        """Called after each event, with the graph that includes it."""
        ...


class Suite(Protocol):
    """A collection of tasks to measure on."""

    def tasks(self, vendor: str) -> Sequence[Task]:
        """Its tasks, in the order in which they run, at sizes for targets of this vendor.

        Reads files, runs nothing, and is the same at every call. Names are unique.
        """
        ...


Plugin = type[Any]
"""What the last line of a plug-in's module assigns to `plugin`."""
