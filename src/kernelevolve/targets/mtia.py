"""MTIA chips: none of them is here, and a simulator stands for each."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from kernelevolve.core.protocols import Target
from kernelevolve.core.target import Bandwidth, Clock, Peaks, TargetSpec
from kernelevolve.runtime.mtia.machine import Machine, machines
from kernelevolve.targets._environment import environment

if TYPE_CHECKING:
    from torch import Tensor


class Mtia:
    """The machines of the simulator's sheet."""

    def discover(self) -> Sequence[TargetSpec]:
        """Every chip, simulated."""
        return tuple(_spec(machine) for machine in machines().values())

    def environment(self, spec: TargetSpec) -> Mapping[str, str]:
        """One thread for each core; the simulator itself uses one, and no GPU is seen."""
        return environment(spec)

    def clock(self, spec: TargetSpec) -> Clock:
        """The judge's own, which bounds how long a simulation runs; times are the simulator's."""
        return Clock(kind="wall", resolution_us=1.0, flush_bytes=2 * spec.last_level_cache)

    def measure(self, spec: TargetSpec) -> TargetSpec:
        """The same: its peaks are the sheet's."""
        return spec

    def profile(
        self, spec: TargetSpec, call: Callable[[], object], inputs: "Sequence[Tensor]"
    ) -> Mapping[str, float]:
        """Simulated microseconds of a call, shares of the engines' time, bytes and hit rates."""
        from kernelevolve.runtime.mtia.operators import priced

        with priced(machines()[spec.arch], list(inputs)) as found:
            call()
        return found.counters()


def _spec(machine: Machine) -> TargetSpec:
    rows = (
        Bandwidth(working_set=machine.sram_bytes, bytes_per_second=machine["sram_tb_s"] * 1e12),
        Bandwidth(
            working_set=int(machine["dram_gb"] * 1e9),
            bytes_per_second=machine["dram_gb_s"] * 1e9,
        ),
    )
    types = ("float32", "float16", "bfloat16", "int8")
    peaks = Peaks(
        bandwidth=rows,
        flops={dtype: machine.flops(dtype) for dtype in types},
        call_overhead_us=machine.launch_us(first=True),
    )
    return TargetSpec(
        vendor="mtia",
        arch=machine.arch,
        name=machine.name,
        cores=tuple(sorted(os.sched_getaffinity(0))),
        last_level_cache=machine.sram_bytes,
        memory=int(machine["dram_gb"] * 1e9),
        fidelity="simulated",
        peaks=peaks,
    )


plugin: type[Target] = Mtia
