"""The verdict on one candidate: status, timings, diagnosis."""

from enum import StrEnum
from statistics import geometric_mean, median
from typing import Literal, Self

from pydantic import Field, model_validator

from kernelevolve.core.detector import Detector
from kernelevolve.core.record import Record
from kernelevolve.core.target import Fidelity


class Stage(StrEnum):
    """How far a job goes; each includes those before it."""

    SCREEN = "screen"
    BUILD = "build"
    VERIFY = "verify"
    TUNE = "tune"
    BENCHMARK = "benchmark"
    PROFILE = "profile"
    CONFIRM = "confirm"


TIMED = (Stage.BENCHMARK, Stage.PROFILE, Stage.CONFIRM)


class Status(StrEnum):
    """How an evaluation ended."""

    OK = "ok"
    INVALID = "invalid"
    """Not a candidate: no `ModelNew`, a syntax error, a forbidden flag."""
    BUILD_FAILED = "build_failed"
    INCOMPATIBLE_STATE = "incompatible_state"
    """The reference's parameters do not fit."""
    WRONG = "wrong"
    CRASHED = "crashed"
    """An exception or a signal."""
    TIMEOUT = "timeout"
    OUT_OF_MEMORY = "out_of_memory"
    IMPOSSIBLE = "impossible"
    """Faster than the hardware allows."""
    REJECTED = "rejected"
    """Broke a rule of the harness: changed inputs, worked outside the clock, aliased outputs."""
    DUPLICATE = "duplicate"
    """Identical source was evaluated before."""
    LOST = "lost"
    """Our own machinery failed; the only status that is retried."""


class Timing(Record):
    """One workload's steady time, with the samples behind it."""

    workload: str
    """Its name."""
    held_out: bool = False
    """Measured on a workload that no programmer saw."""
    samples_us: tuple[float, ...]
    """Per-call time of each window, microseconds."""
    baselines_us: dict[str, tuple[float, ...]]
    """The same for each baseline: `eager`, `compile` …"""
    speedup: float
    """Best baseline's time over the candidate's; `low` in a final check that cannot tell better."""
    low: float
    """Lower end of the 95 % confidence interval of `speedup`."""
    high: float
    """Upper end of it."""
    setup_us: float = 0.0
    """Load of weights and `prepare()`, microseconds."""
    first_call_us: float = 0.0
    """The first call in its process, microseconds."""
    memory_bytes: int = 0
    """Peak growth of resident memory over the calls."""
    warm: bool = True
    """The ring of inputs fits the last-level cache."""
    load: float = 0.0
    """One-minute load average of the machine during the measurement."""
    device_us: float = 0.0
    """Per call by a GPU's own events, microseconds: the runner's word, for people; 0 elsewhere."""
    health: dict[str, float] = Field(default_factory=dict)
    """Of a GPU when it was measured: `clock_mhz`, `memory_clock_mhz`, `temperature_c`, `power_w`,
    `throttled` (1 where heat, power or a fault held its clocks down) and `processes` on it."""

    @property
    def median_us(self) -> float:
        """Median of the samples, microseconds."""
        return median(self.samples_us)

    @property
    def baseline_us(self) -> float:
        """Median of the fastest baseline, microseconds."""
        return min(median(samples) for samples in self.baselines_us.values())

    def speedup_over(self, baseline: str) -> float | None:
        """Speed-up over one baseline, or None where it was not measured."""
        samples = self.baselines_us.get(baseline)
        return self.speedup * median(samples) / self.baseline_us if samples else None


class ErrorReport(Record):
    """How far one output is from the float64 oracle, relative to its budget."""

    workload: str
    """Its name."""
    output: str
    """Path of the output in the returned tree."""
    rms: float
    """RMS error over its budget; at most 1 is accepted."""
    maximum: float
    """Largest error over its budget; at most 1 is accepted."""
    oracle: Literal["float64", "float32", "exact"] = "float64"
    """What it was compared against."""


class Flag(Record):
    """A static finding: a reason to look closer, never a verdict."""

    rule: str
    """Short name of the rule."""
    reason: str
    """What was found and why it matters."""
    where: str = ""
    """`file:line`."""


class Build(Record):
    """What a language made of a candidate."""

    ok: bool
    """Whether it can be loaded."""
    message: str = ""
    """Compiler errors, head and tail."""
    folder: str = ""
    """Where the sources and the built libraries lie."""
    commands: tuple[tuple[str, ...], ...] = ()
    """Compiler calls that made its libraries from the sources, for sanitizers to repeat."""
    remarks: tuple[str, ...] = ()
    """What the compiler says it could not do, with file and line."""
    resources: dict[str, float] = Field(default_factory=dict)
    """Registers, spills, code bytes … by name."""
    seconds: float = 0.0
    """Wall-clock time; near zero when an earlier build was found."""


class Diagnosis(Record):
    """What limits a kernel, by how much, and the evidence."""

    limit: Literal["memory", "cache", "compute", "overhead", "unknown"]
    """The binding limit."""
    sentence: str
    """It in one sentence with figures."""
    fraction: float | None = None
    """Achieved share of that limit, 0 to 1 (the roofline fraction)."""
    bandwidth: float = 0.0
    """Achieved bytes per second, counting each input and output once."""
    operations: float = 0.0
    """Achieved floating-point operations per second."""
    bytes_moved: int = 0
    """Bytes of inputs, parameters and outputs, each once."""
    operation_count: int = 0
    """Floating-point operations of the reference."""
    floor_us: float = 0.0
    """The least time that measured peaks allow, microseconds."""
    remarks: tuple[str, ...] = ()
    """The compiler's missed optimisations, with file and line."""
    resources: dict[str, float] = Field(default_factory=dict)
    """From the build and the profiler."""


class Evaluation(Record):
    """The harness's answer to one job."""

    status: Status
    """How it ended."""
    stage: Stage
    """The last stage that was entered."""
    message: str = ""
    """What went wrong and what to change; empty when OK."""
    detector: Detector | None = None
    """The check that it did not pass; None when OK or lost."""
    fidelity: Fidelity = "measured"
    """How far the figures can be trusted to be the hardware's."""
    score: float | None = None
    """Geometric mean over the shown workloads of best baseline over candidate time."""
    timings: tuple[Timing, ...] = ()
    """One per workload."""
    errors: tuple[ErrorReport, ...] = ()
    """The largest per workload and output."""
    diagnosis: Diagnosis | None = None
    """What limits it."""
    flags: tuple[Flag, ...] = ()
    """Static findings, and facts that a reader must know (`seeded`, `widened tolerance`)."""
    remarks: tuple[str, ...] = ()
    """Warnings about the measurement itself."""
    stages_ms: dict[str, float] = Field(default_factory=dict)
    """Where the job's time went, milliseconds."""
    seed: str = ""
    """Seeds of the secret inputs and choices (`Seeds`), for a replay."""
    device_seconds: float = 0.0
    """Time under an exclusive lease."""

    @model_validator(mode="after")
    def _score_goes_with_ok(self) -> Self:
        timed = self.status is Status.OK and self.stage in TIMED
        scored = timed and self.fidelity in ("measured", "simulated")
        if scored != (self.score is not None):
            raise ValueError(f"{self.status}/{self.stage} with score {self.score}")
        return self

    @property
    def ok(self) -> bool:
        """Whether it passed every stage asked for."""
        return self.status is Status.OK

    def geomean(self, baseline: str) -> float | None:
        """Speed-up over one baseline, over the shown workloads; None where unmeasured."""
        ratios = [t.speedup_over(baseline) for t in self.timings if not t.held_out]
        known = [r for r in ratios if r is not None]
        return geometric_mean(known) if known and len(known) == len(ratios) else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Geometric means of the workloads' interval ends, which bound the score's interval."""
        shown = [t for t in self.timings if not t.held_out]
        if not shown:
            return None
        return geometric_mean(t.low for t in shown), geometric_mean(t.high for t in shown)

    def without_held_out(self) -> "Evaluation":
        """What a programmer may see of it."""
        hidden = {t.workload for t in self.timings if t.held_out}
        return self.model_copy(
            update={
                "timings": tuple(t for t in self.timings if not t.held_out),
                "errors": tuple(e for e in self.errors if e.workload not in hidden),
            }
        )
