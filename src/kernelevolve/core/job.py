"""A request to the harness."""

from typing import Literal, NamedTuple

from pydantic import Field

from kernelevolve.core.candidate import Candidate
from kernelevolve.core.detector import Detector
from kernelevolve.core.evaluation import Stage
from kernelevolve.core.record import Record
from kernelevolve.core.target import Fidelity, TargetSpec
from kernelevolve.core.task import Task


class Limits(Record):
    """What a build or a run may use before its whole process tree is killed."""

    build_seconds: float = 60.0
    """Wall-clock limit of a build."""
    run_seconds: float = 30.0
    """Wall-clock limit of one command to a runner."""
    memory_bytes: int = 8 << 30
    """Address space of a runner beyond what its parent has."""
    processes: int = 64
    """Processes and threads of a runner."""
    file_bytes: int = 256 << 20
    """Largest file that a runner may write."""


class Finished(Record):
    """How a command in the sandbox ended."""

    code: int
    """Exit code; negative for a signal, 124 where the time limit killed it."""
    output: str
    """Standard output and error, head and tail."""


class Seeds(NamedTuple):
    """From what the secrets of one evaluation were drawn; its text is `Evaluation.seed`."""

    pool: str
    """Names the sets of secret inputs; opaque, and without a slash. Empty where none was used."""
    choice: str
    """Decides which of them are verified, and in which order they lie."""

    @classmethod
    def parse(cls, text: str) -> "Seeds":
        """From an evaluation's seed; what judged no inputs has one only, and so may a confirm."""
        pool, _, choice = text.rpartition("/")
        return cls(pool, choice)

    def __str__(self) -> str:
        """As `Evaluation.seed` keeps it; a confirm without a pool draws everything from one."""
        return self.choice if self.pool in ("", self.choice) else f"{self.pool}/{self.choice}"


class Job(Record):
    """What to evaluate, on which device, how far."""

    task: Task
    """The reference and its workloads."""
    candidate: Candidate
    """What to judge."""
    target: TargetSpec
    """Where."""
    stage: Stage = Stage.BENCHMARK
    """The last stage wanted; `confirm` draws new inputs and adds the held-out workloads."""
    seed: str
    """The choice of verified calls derives from it, and without a pool a confirm's inputs too."""
    pool: str = ""
    """Seed of the pool of secret inputs, for a replay and for confirms that share a new one; empty
    for the harness's own secret."""
    audit: Literal["normal", "high"] = "normal"
    """`high` verifies more sets and every timed window; the harness raises it for flags."""
    limits: Limits = Field(default_factory=Limits)
    """For builds and runs."""
    baseline: str | None = None
    """Python text of the user's own baseline (`ModelNew` or `Model`), timed beside the others."""
    without: frozenset[Detector] = frozenset()
    """Detectors that are switched off, for `redteam --ablate` only: no search sets it."""


class Finding(Record):
    """One observation about a task or a machine."""

    code: str
    """Short stable name, for scripts."""
    message: str
    """What was found, where, and what to do."""
    fatal: bool = False
    """Whether the task cannot be searched."""


class Admission(Record):
    """Whether a task is worth searching, and what was measured to find out."""

    admitted: bool
    """False when any finding is fatal."""
    findings: tuple[Finding, ...] = ()
    """Everything that a user should know, fatal ones first."""
    memory_bytes: int = 0
    """Estimated peak of judging one candidate at the largest workload."""
    fidelity: Fidelity = "measured"
    """Of its times."""
    baselines_us: dict[str, dict[str, float]] = Field(default_factory=dict)
    """Workload to baseline (`eager`, `compile` …) to median microseconds per call."""
    floor_us: dict[str, float] = Field(default_factory=dict)
    """Workload to the least time that measured peaks allow, microseconds."""
    seed: str = ""
    """Seed of the pool of secret inputs, for a replay."""
