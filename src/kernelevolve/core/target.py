"""One device as data, and the address that names it."""

from typing import Literal

from pydantic import Field

from kernelevolve.core.errors import UsageError
from kernelevolve.core.record import Record


class Bandwidth(Record):
    """Measured copy bandwidth for working sets up to a size."""

    working_set: int
    """Bytes, read and written together."""
    bytes_per_second: float
    """Bytes moved (read plus written) per second."""


class Peaks(Record):
    """What this device was measured to reach, for rooflines and physics floors."""

    bandwidth: tuple[Bandwidth, ...] = ()
    """By working-set size, ascending; the last row is main memory."""
    flops: dict[str, float] = Field(default_factory=dict)
    """Peak operations per second by dtype name (`float32`), a fused multiply-add counted as two."""
    call_overhead_us: float = 0.0
    """Time of an empty call through the language's loader, microseconds."""

    def bandwidth_for(self, working_set: int) -> float:
        """Bytes per second of the smallest measured level that holds `working_set` bytes."""
        if not self.bandwidth:
            return 0.0
        fitting = [row for row in self.bandwidth if row.working_set >= working_set]
        return (fitting or [self.bandwidth[-1]])[0].bytes_per_second


class TargetSpec(Record):
    """One device: `vendor:arch[:index]` and what is known of it."""

    vendor: str
    """Registry name of the target that handles it: `cpu`, `nvidia` …"""
    arch: str
    """Architecture: `x86_64`, `sm_90` …"""
    index: int | None = None
    """Which of several devices of this architecture."""
    name: str = ""
    """What the vendor calls it."""
    cores: tuple[int, ...] = ()
    """Processor numbers that both sides of a timing are pinned to."""
    last_level_cache: int = 0
    """Bytes."""
    memory: int = 0
    """Bytes of device memory."""
    peaks: Peaks = Peaks()
    """Measured on this device; empty until measured."""

    @property
    def address(self) -> str:
        """The text that parses back to this device."""
        index = "" if self.index is None else f":{self.index}"
        return f"{self.vendor}:{self.arch}{index}"

    @property
    def threads(self) -> int:
        """Threads that a kernel may use: one per core of the lane."""
        return max(1, len(self.cores))


class Address(Record):
    """A parsed `vendor[:arch[:index]]`."""

    vendor: str
    """Registry name of the target."""
    arch: str | None = None
    """None accepts any architecture."""
    index: int | None = None
    """None accepts any device."""

    @classmethod
    def parse(cls, text: str) -> "Address":
        """Read `cpu`, `cpu:x86_64` or `nvidia:sm_90:0`.

        Raises:
            UsageError: the text has another form.
        """
        parts = text.split(":")
        if not 1 <= len(parts) <= 3 or not all(parts):
            raise UsageError(
                f"target {text!r}: write vendor[:arch[:index]], for example cpu:x86_64"
            )
        index = parts[2] if len(parts) == 3 else None
        if index is not None and not index.isdigit():
            raise UsageError(f"target {text!r}: the device index must be a number, not {index!r}")
        return cls(
            vendor=parts[0],
            arch=parts[1] if len(parts) > 1 else None,
            index=None if index is None else int(index),
        )

    def matches(self, spec: TargetSpec) -> bool:
        """Whether `spec` is a device that this address names."""
        return (
            self.vendor == spec.vendor
            and self.arch in (None, spec.arch)
            and self.index in (None, spec.index)
        )


class Clock(Record):
    """How calls are timed on a target and how the judge bounds that time."""

    kind: Literal["wall", "events"]
    """`wall`: the judge's own window over a batch of calls. `events`: refined by device events."""
    resolution_us: float
    """Smallest difference that one window can show, microseconds."""
    flush_bytes: int
    """Bytes to touch to evict the caches before a cold measurement."""
