"""What the hardware allows: floors, and the diagnosis of what binds a kernel."""

from dataclasses import dataclass
from typing import Any

from kernelevolve.core.evaluation import Build, Diagnosis
from kernelevolve.core.target import TargetSpec

FAR = 0.3
"""Below this share of the nearest limit something else binds (design/0028)."""
LOW = 0.5
"""Share of a multiprocessor's threads below which a memory's delay may not be hidden."""
READ_ONLY_GAIN = 2.0
"""Reading alone can be faster than the copy whose bandwidth was measured."""


@dataclass(frozen=True)
class Work:
    """What one call of the reference must at least do."""

    inputs: int = 0
    state: int = 0
    outputs: int = 0
    held: int = 0
    """Inputs and state with what is never read."""
    output_elements: int = 0
    peak: int = 0
    flops: int = 0
    elements: int = 0
    partial: bool = False
    """It may read only part of its inputs: it slices, gathers or looks up."""
    dtype: str = "float32"

    @classmethod
    def parse(cls, reply: dict[str, Any]) -> "Work":
        """From the reference runner's estimate."""
        return cls(**{k: v for k, v in reply.items() if k in cls.__dataclass_fields__})

    @property
    def bytes_moved(self) -> int:
        """Inputs, state and outputs, each once."""
        return self.inputs + self.state + self.outputs

    @property
    def operations(self) -> int:
        """Floating-point operations: contractions, and one per element of all else."""
        return self.flops + self.elements


@dataclass(frozen=True)
class Floor:
    """Least times by limit, microseconds."""

    memory: float
    compute: float
    overhead: float

    @property
    def us(self) -> float:
        """The binding one."""
        return max(self.memory, self.compute, self.overhead)


def floor_of(work: Work, spec: TargetSpec) -> Floor:
    """What the measured peaks allow."""
    bandwidth = spec.peaks.bandwidth_for(work.bytes_moved)
    peak = spec.peaks.flops.get(work.dtype) or spec.peaks.flops.get("float32", 0.0)
    return Floor(
        memory=work.bytes_moved / bandwidth * 1e6 if bandwidth else 0.0,
        compute=work.operations / peak * 1e6 if peak else 0.0,
        overhead=spec.peaks.call_overhead_us,
    )


def impossible(work: Work, spec: TargetSpec, us: float) -> str:
    """Why a time cannot be true; empty where it can."""
    needed = work.outputs if work.partial else work.bytes_moved
    bandwidth = READ_ONLY_GAIN * spec.peaks.bandwidth_for(needed)
    if not bandwidth or us >= needed / bandwidth * 1e6:
        return ""
    return (
        f"{_bytes(needed)} in {us:.3g} µs would be {needed / us * 1e-3:.3g} GB/s; the fastest "
        f"memory here that holds so much reaches {bandwidth * 1e-9:.3g} GB/s"
    )


def diagnose(work: Work, spec: TargetSpec, us: float, build: Build) -> Diagnosis:
    """Which limit binds, by how much, in one sentence."""
    floor = floor_of(work, spec)
    in_cache = 0 < work.bytes_moved <= spec.last_level_cache
    bandwidth = work.bytes_moved / us * 1e6
    rate = work.operations / us * 1e6
    common = {
        "bandwidth": bandwidth,
        "operations": rate,
        "bytes_moved": work.bytes_moved,
        "operation_count": work.operations,
        "floor_us": floor.us,
        "remarks": build.remarks,
        "resources": build.resources,
    }
    held = held_back(build)
    moved = f"reads and writes {_bytes(work.bytes_moved)} in {us:.4g} µs"
    if not floor.us:
        sentence = f"{moved}; this machine's peaks are not measured"
        return Diagnosis(limit="unknown", sentence=sentence + held, **common)
    fraction = min(1.0, floor.us / us)
    if floor.us == floor.overhead:
        sentence = f"{us:.4g} µs a call, of which {floor.overhead:.3g} µs are the call itself"
        return Diagnosis(limit="overhead", sentence=sentence + held, fraction=fraction, **common)
    if floor.us == floor.compute:
        peak = work.operations / floor.compute * 1e6
        sentence = (
            f"{work.operations * 1e-6:.4g} million operations in {us:.4g} µs: "
            f"{rate * 1e-9:.3g} GFLOP/s, {fraction:.0%} of this machine's {peak * 1e-9:.3g}: "
            f"{_binding('arithmetic', fraction)}"
        )
        return Diagnosis(limit="compute", sentence=sentence + held, fraction=fraction, **common)
    peak = work.bytes_moved / floor.memory * 1e6
    level = "cache" if in_cache else "memory"
    sentence = (
        f"{moved}: {bandwidth * 1e-9:.3g} GB/s, {fraction:.0%} of this machine's "
        f"{peak * 1e-9:.3g} GB/s at that size: {_binding(level, fraction)}"
    )
    return Diagnosis(limit=level, sentence=sentence + held, fraction=fraction, **common)


def _binding(limit: str, fraction: float) -> str:
    """What keeps a kernel that reaches this share of its nearest limit."""
    if fraction >= FAR:
        return f"bound by {limit}"
    return (
        f"not bound by {limit} but by latency (dependent loads, waits, too little in flight), "
        "by accesses that move more than they need, or by needless work"
    )


def held_back(build: Build) -> str:
    """What of a GPU kernel's resources may keep it from its limit; empty where nothing does."""
    needs, found = build.resources, ""
    if spilled := needs.get("spill_bytes"):
        found += f"; {spilled:.0f} bytes of registers are spilled to memory"
    if needs.get("occupancy", 1.0) < LOW:
        found += (
            f"; {needs.get('registers', 0):.0f} registers a thread and "
            f"{needs.get('shared_bytes', 0):.0f} bytes of shared memory a block fill "
            f"{needs['occupancy']:.0%} of a multiprocessor"
        )
    return found


def _bytes(count: int) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count} bytes"
