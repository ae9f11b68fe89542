"""NVIDIA GPUs: those of this machine, and architectures of the sheet that are only emulated."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kernelevolve.config import cache_folder
from kernelevolve.core.protocols import Target
from kernelevolve.core.record import digest
from kernelevolve.core.target import Bandwidth, Clock, Multiprocessor, Peaks, TargetSpec
from kernelevolve.targets import _sheet
from kernelevolve.targets._environment import environment

if TYPE_CHECKING:
    from torch import Tensor

SHEETS = Path(__file__).parent / "sheets"
SHEET = SHEETS / "nvidia.toml"
PEAKS_SOURCE = SHEETS / "gpu_peaks.py"
PEAKS_SECONDS = 120.0
FIXED = {"warp": 32, "partitions": 4, "registers_unit": 256}
ALL = {"registers": 65536, "shared_reserved": 1024}
"""What a device tells of itself, where there is none."""
ATTRIBUTES = {
    "count": "MULTIPROCESSOR_COUNT",
    "threads": "MAX_THREADS_PER_MULTIPROCESSOR",
    "blocks": "MAX_BLOCKS_PER_MULTIPROCESSOR",
    "registers": "MAX_REGISTERS_PER_MULTIPROCESSOR",
    "shared": "MAX_SHARED_MEMORY_PER_MULTIPROCESSOR",
    "shared_block": "MAX_SHARED_MEMORY_PER_BLOCK_OPTIN",
    "shared_reserved": "RESERVED_SHARED_MEMORY_PER_BLOCK",
}


class Nvidia:
    """GPUs that the driver knows, by CUDA's own numbers; the sheet's architectures without one."""

    def discover(self) -> Sequence[TargetSpec]:
        """The devices of this machine first; then one for each architecture, emulated."""
        return (*_devices(), *_sheet.emulated("nvidia", SHEET, FIXED | ALL))

    def environment(self, spec: TargetSpec) -> Mapping[str, str]:
        """One thread for each core; the device alone is seen, or none where it is emulated."""
        seen = str(spec.index or 0) if spec.accelerated else ""
        return environment(spec, CUDA_VISIBLE_DEVICES=seen, PYTORCH_NVML_BASED_CUDA_CHECK="1")

    def clock(self, spec: TargetSpec) -> Clock:
        """The judge's own, until nobody works on the device; a flush would touch twice the L2."""
        return Clock(kind="wall", resolution_us=1.0, flush_bytes=2 * spec.last_level_cache)

    def measure(self, spec: TargetSpec) -> TargetSpec:
        """Peaks by copies and products on the device, once; unchanged where it is not here."""
        if not spec.accelerated:
            return spec
        source = PEAKS_SOURCE.read_text()
        kept = cache_folder() / "peaks" / f"{digest(source, spec.name, spec.address)[:16]}.json"
        if not kept.exists():
            command = [
                sys.executable,
                "-c",
                source,
                str(spec.index or 0),
                str(spec.last_level_cache),
            ]
            done = subprocess.run(  # noqa: S603
                command, check=False, capture_output=True, text=True, timeout=PEAKS_SECONDS
            )
            if done.returncode:
                return spec
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_text(done.stdout)
        found = json.loads(kept.read_text())
        return spec.model_copy(update={"peaks": _peaks(found)})

    def profile(
        self, spec: TargetSpec, call: Callable[[], object], inputs: "Sequence[Tensor]"
    ) -> Mapping[str, float]:
        """No counters."""
        return {}


def _peaks(found: Mapping[str, Any]) -> Peaks:
    """A small copy is no slower than a larger one: what it was measured at is its launch."""
    rows: list[Bandwidth] = []
    best = 0.0
    for size, rate in reversed(found["bandwidth"]):
        best = max(best, rate)
        rows.insert(0, Bandwidth(working_set=size, bytes_per_second=best))
    return Peaks(
        bandwidth=tuple(rows), flops=found["flops"], call_overhead_us=found["call_overhead_us"]
    )


def _devices() -> Iterator[TargetSpec]:
    """Nothing, whatever the reason, where the driver does not answer."""
    with suppress(ImportError, RuntimeError, OSError):
        from cuda.bindings import driver

        if int(driver.cuInit(0)[0]):
            return
        for index in range(int(driver.cuDeviceGetCount()[1])):
            yield _device(driver, index)


def _device(driver: Any, index: int) -> TargetSpec:
    device = driver.cuDeviceGet(index)[1]

    def attribute(name: str) -> int:
        which = getattr(driver.CUdevice_attribute, f"CU_DEVICE_ATTRIBUTE_{name}")
        return int(driver.cuDeviceGetAttribute(which, device)[1])

    major = attribute("COMPUTE_CAPABILITY_MAJOR")
    limits = {field: attribute(name) for field, name in ATTRIBUTES.items()}
    return TargetSpec(
        vendor="nvidia",
        arch=f"sm_{major}{attribute('COMPUTE_CAPABILITY_MINOR')}",
        index=index,
        name=driver.cuDeviceGetName(64, device)[1].rstrip(b"\0").decode(),
        cores=tuple(sorted(os.sched_getaffinity(0))),
        last_level_cache=attribute("L2_CACHE_SIZE"),
        memory=int(driver.cuDeviceTotalMem(device)[1]),
        multiprocessor=Multiprocessor(**limits, **FIXED),
    )


plugin: type[Target] = Nvidia
