"""One device as data, and the address that names it."""

from collections.abc import Iterable, Mapping
from typing import Literal

from pydantic import Field

from kernelevolve.core.errors import UsageError
from kernelevolve.core.record import Record

Fidelity = Literal["measured", "emulated", "simulated", "compiled"]


def said_of(figure: str, fidelity: str | None) -> str:
    """A figure for a person, who must see when it was not measured."""
    return figure if fidelity in (None, "measured") else f"{figure} {fidelity}"


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


class Occupancy(Record):
    """How many blocks of a kernel a multiprocessor holds at once."""

    blocks: int
    """Resident blocks; 0 where not even one fits."""
    share: float
    """Of the warps that there could be, 0 to 1."""
    limit: Literal["registers", "shared memory", "threads", "blocks"]
    """What allows no more."""


class Multiprocessor(Record):
    """What the blocks of a GPU kernel share, as its vendor's manual says."""

    count: int
    """On the device."""
    threads: int
    """That it holds at once."""
    blocks: int
    """That it holds at once."""
    warp: int
    """Threads of a warp."""
    registers: int
    """32-bit registers."""
    partitions: int
    """That the registers are split among; a warp stays in one."""
    registers_unit: int
    """A warp is given registers in multiples of so many."""
    shared: int
    """Bytes of shared memory."""
    shared_block: int
    """Most bytes that one block may have."""
    shared_reserved: int
    """Bytes that each block has for the system."""
    shared_unit: int = 1
    """A block is given shared memory in multiples of so many bytes."""

    def occupancy(self, threads: int, registers: int, shared: int) -> Occupancy:
        """For a kernel.

        Args:
            threads: of a block.
            registers: of a thread.
            shared: bytes of a block, static and dynamic.
        """
        warps = -(-threads // self.warp)
        unit = self.registers_unit
        of_warp = max(unit, -(-registers * self.warp // unit) * unit)
        of_partition = self.registers // self.partitions // of_warp
        of_block = -(-(shared + self.shared_reserved) // self.shared_unit) * self.shared_unit
        room = self.shared // (of_block or 1)
        bounds: dict[Literal["threads", "blocks", "registers", "shared memory"], int] = {
            "threads": self.threads // (warps * self.warp),
            "blocks": self.blocks,
            "registers": of_partition * self.partitions // warps,
            "shared memory": room if shared <= self.shared_block else 0,
        }
        limit = min(bounds, key=lambda name: bounds[name])
        blocks = bounds[limit]
        share = blocks * warps * self.warp / self.threads
        return Occupancy(blocks=blocks, share=share, limit=limit)

    def needs(self, kernels: Iterable[Mapping[str, float]]) -> dict[str, float]:
        """Of several kernels together: the most that one needs of each, the least occupancy.

        Args:
            kernels: `registers`, `shared_bytes`, `block_threads`, and what else is known of each.
        """
        found: dict[str, float] = {}
        for kernel in kernels:
            held = self.occupancy(
                int(kernel["block_threads"]), int(kernel["registers"]), int(kernel["shared_bytes"])
            )
            found = {k: max(v, found.get(k, 0.0)) for k, v in kernel.items()} | {
                "occupancy": min(held.share, found.get("occupancy", 1.0))
            }
        return found


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
    features: tuple[str, ...] = ()
    """Instruction sets that kernels may use, as the system names them: `avx2`, `avx512f` …"""
    cores: tuple[int, ...] = ()
    """Processor numbers that both sides of a timing are pinned to."""
    last_level_cache: int = 0
    """Bytes."""
    memory: int = 0
    """Bytes of device memory."""
    multiprocessor: Multiprocessor | None = None
    """Of a GPU; None elsewhere."""
    fidelity: Fidelity = "measured"
    """What can be said of kernels here: `emulated` where the device itself is not there, and
    `simulated` where a model of it stands for it."""
    peaks: Peaks = Peaks()
    """Measured on this device, or of its model where it is simulated; empty until known."""

    @property
    def address(self) -> str:
        """The text that parses back to this device."""
        index = "" if self.index is None else f":{self.index}"
        return f"{self.vendor}:{self.arch}{index}"

    @property
    def accelerated(self) -> bool:
        """Whether kernels run on a GPU of this machine."""
        return self.multiprocessor is not None and self.fidelity == "measured"

    @property
    def timed(self) -> bool:
        """Whether kernels have a time here: measured on the device, or simulated."""
        return self.fidelity in ("measured", "simulated")

    @property
    def simulated(self) -> bool:
        """Whether times come from a model of the device."""
        return self.fidelity == "simulated"

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
