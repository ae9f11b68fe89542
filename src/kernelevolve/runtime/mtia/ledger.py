"""What a call costs on the simulator: its launches, and the operators outside of them."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from kernelevolve.runtime.mtia.launch import KINDS, UNITS, Launch
from kernelevolve.runtime.mtia.machine import Machine

MOST_EVENTS = 1 << 18
"""That a timeline holds of one launch."""
CORES = ("core0", "core1")


@dataclass(frozen=True)
class Launched:
    """One kernel that ran."""

    kernel: str
    machine: Machine
    us: float
    counters: dict[str, float]
    """Cycles and bytes, summed over the chip."""
    events: tuple[tuple[float, float, int, int, int, int], ...] = ()
    """Start and end in cycles, PE, unit, kind and source line."""

    @classmethod
    def of(cls, kernel: str, machine: Machine, launch: Launch, events: Any) -> "Launched":
        """What the simulator left."""
        counters = {f"{name}_busy": launch.busy[i] for i, name in enumerate(UNITS)}
        counters |= {f"{name}_stalled": launch.stalled[i] for i, name in enumerate(UNITS)}
        plain = ("read_bytes", "written_bytes", "dram_bytes")
        rates = ("cache_hits", "cache_misses", "core_hits", "core_misses")
        counters |= {name: getattr(launch, name) for name in (*plain, *rates)}
        counters["pe_cycles"] = launch.cycles * machine.pes
        kept = tuple(
            (e.start, e.end, e.pe, e.unit, e.kind, e.line) for e in events[: launch.recorded]
        )
        return cls(kernel, machine, machine.us(launch.cycles), counters, kept)


@dataclass
class Ledger:
    """Of one recording."""

    tracing: bool = False
    launches: list[Launched] = field(default_factory=list)
    operators: list[tuple[str, float]] = field(default_factory=list)
    """Name and simulated microseconds of each that ran outside of kernels."""
    scratch: dict[int, int] | None = None
    """Addresses of what is kept in SRAM, with bytes; None where everything is."""
    room: int = 0
    """Bytes of SRAM that may be kept in."""

    def first(self) -> bool:
        """Whether nothing was started on the chip yet."""
        return not (self.launches or self.operators)

    def keep(self, tensor: Any) -> None:
        """Something that this call was given or made: it is kept in SRAM while there is room."""
        place = tensor.untyped_storage()
        if self.scratch is not None and place.data_ptr() not in self.scratch:
            held = sum(self.scratch.values())
            if held + place.nbytes() <= self.room:
                self.scratch[place.data_ptr()] = place.nbytes()

    def in_dram(self, tensor: Any) -> bool:
        """Whether it lies in DRAM: weights, and what SRAM has no room for."""
        if self.scratch is None:
            return False
        return tensor.untyped_storage().data_ptr() not in self.scratch

    def add(self, launched: Launched) -> None:
        """A launch that ended."""
        self.launches.append(launched)

    @property
    def us(self) -> float:
        """All together, one after the other."""
        return sum(launched.us for launched in self.launches) + sum(us for _, us in self.operators)

    def counters(self) -> dict[str, float]:
        """Shares of the kernels' time that each engine works and waits, bytes, and hit rates."""
        total: dict[str, float] = {}
        for launched in self.launches:
            for name, value in launched.counters.items():
                total[name] = total.get(name, 0.0) + value
        found = {
            "simulated_us": self.us,
            "launches": float(len(self.launches)),
            "operators_outside": float(len(self.operators)),
        }
        if not self.launches:
            return found
        cycles = total["pe_cycles"] or 1.0
        for unit in UNITS:
            found[f"{unit}_busy"] = total[f"{unit}_busy"] / cycles
            found[f"{unit}_stalled"] = total[f"{unit}_stalled"] / cycles
        found |= {name: total[name] for name in ("read_bytes", "written_bytes", "dram_bytes")}
        for level in ("cache", "core"):
            asked = total[f"{level}_hits"] + total[f"{level}_misses"]
            if asked:
                found[f"{level}_hit_rate"] = total[f"{level}_hits"] / asked
        return found

    def timeline(self) -> str:
        """Chrome's trace format: a process for each PE, a thread for each engine."""
        events: list[dict[str, Any]] = []
        begun = 0.0
        for launched in self.launches:
            us = launched.machine.us
            events += [
                {
                    "name": KINDS[kind],
                    "cat": launched.kernel,
                    "ph": "X",
                    "ts": begun + us(start),
                    "dur": us(end - start),
                    "pid": pe,
                    "tid": unit,
                    "args": {"line": line, "kernel": launched.kernel},
                }
                for start, end, pe, unit, kind, line in launched.events
            ]
            begun += launched.us
        lanes = {(e["pid"], e["tid"]) for e in events}
        names = [
            _name("process_name", pe, 0, f"PE {pe}") for pe in sorted({pe for pe, _ in lanes})
        ] + [_name("thread_name", pe, unit, UNITS[unit]) for pe, unit in sorted(lanes)]
        return json.dumps({"traceEvents": [*names, *events], "displayTimeUnit": "ns"})


def _name(what: str, pe: int, unit: int, name: str) -> dict[str, Any]:
    return {"name": what, "ph": "M", "pid": pe, "tid": unit, "args": {"name": name}}


class Forgetful(Ledger):
    """Where nobody asks what calls cost: every launch is a first one."""

    def add(self, launched: Launched) -> None:
        """Keep nothing."""


current: Ledger = Forgetful()
"""Of this process: what launches are written down in."""


@contextmanager
def recording(*, tracing: bool = False, room: int | None = None) -> Iterator[Ledger]:
    """A ledger of what is launched inside.

    Args:
        tracing: with every engine's work, for a timeline.
        room: bytes of SRAM that inputs and results may take; without it they all do.
    """
    global current
    before = current
    current = Ledger(tracing, scratch=None if room is None else {}, room=room or 0)
    try:
        yield current
    finally:
        current = before
