"""NVIDIA GPUs that are not here: what is compiled for them, and emulated on this processor."""

import os
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kernelevolve.core.protocols import Target
from kernelevolve.core.target import Clock, Multiprocessor, TargetSpec

SHEET = Path(__file__).parent / "sheets" / "nvidia.toml"


class Nvidia:
    """Architectures of the sheet, emulated. A GPU of this machine is not used yet."""

    def discover(self) -> Sequence[TargetSpec]:
        """One device for each architecture, with this machine's cores and memory."""
        sheet = tomllib.loads(SHEET.read_text())
        return tuple(_emulated(arch, row) for arch, row in sheet.items())

    def environment(self, spec: TargetSpec) -> Mapping[str, str]:
        """As on a processor: one thread for each core, and no GPU seen."""
        threads = str(spec.threads)
        return {
            "OMP_NUM_THREADS": threads,
            "MKL_NUM_THREADS": threads,
            "OMP_WAIT_POLICY": "passive",
            "CUDA_VISIBLE_DEVICES": "",
        }

    def clock(self, spec: TargetSpec) -> Clock:
        """None that tells anything of the device; a flush would touch twice the L2."""
        return Clock(kind="wall", resolution_us=0.1, flush_bytes=2 * spec.last_level_cache)

    def measure(self, spec: TargetSpec) -> TargetSpec:
        """Unchanged: what is not here has no measured peaks."""
        return spec

    def profile(self, spec: TargetSpec, call: Callable[[], object]) -> Mapping[str, float]:
        """No counters."""
        return {}


def _emulated(arch: str, row: Mapping[str, Any]) -> TargetSpec:
    device = {"name", "last_level_cache", "memory"}
    limits = {k: v for k, v in row.items() if k not in device}
    fixed = {"warp": 32, "registers": 65536, "partitions": 4}
    fixed |= {"registers_unit": 256, "shared_reserved": 1024}
    return TargetSpec(
        vendor="nvidia",
        arch=arch,
        cores=tuple(sorted(os.sched_getaffinity(0))),
        multiprocessor=Multiprocessor(**limits, **fixed),
        fidelity="emulated",
        **{k: row[k] for k in device},
    )


plugin: type[Target] = Nvidia
