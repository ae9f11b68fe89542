"""The processor of this machine: discovery, measured peaks, its clock."""

import json
import os
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kernelevolve.config import cache_folder
from kernelevolve.core.protocols import Target
from kernelevolve.core.record import digest
from kernelevolve.core.target import Bandwidth, Clock, Peaks, TargetSpec
from kernelevolve.targets._environment import environment

if TYPE_CHECKING:
    from torch import Tensor

PEAKS_SOURCE = Path(__file__).parent / "sheets" / "cpu_peaks.cpp"
PEAKS_FLAGS = ("-O3", "-march=native", "-fopenmp", "-mprefer-vector-width=512")
CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
DEFAULT_LAST_LEVEL = 32 << 20


class Cpu:
    """Any processor that Linux describes."""

    def discover(self) -> Sequence[TargetSpec]:
        """One device: every processor that this process may use."""
        return (
            TargetSpec(
                vendor="cpu",
                arch=platform.machine(),
                name=_model_name(),
                features=_features(),
                cores=tuple(sorted(os.sched_getaffinity(0))),
                last_level_cache=_last_level_cache(),
                memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            ),
        )

    def environment(self, spec: TargetSpec) -> Mapping[str, str]:
        """Thread counts that match the lane's cores, waiting threads that do not spin, no GPUs.

        A process that has seen a GPU cannot be forked and compile, which needs no GPU here.
        """
        return environment(spec)

    def clock(self, spec: TargetSpec) -> Clock:
        """The judge's wall clock over a batch; a flush touches twice the last-level cache."""
        return Clock(kind="wall", resolution_us=0.1, flush_bytes=2 * spec.last_level_cache)

    def measure(self, spec: TargetSpec) -> TargetSpec:
        """Peaks by a compiled probe pinned to the device's cores; unchanged without g++."""
        if shutil.which("g++") is None:
            return spec
        source = PEAKS_SOURCE.read_text()
        key = digest(source, spec.name, repr(spec.cores), repr(PEAKS_FLAGS), platform.node())[:16]
        kept = cache_folder() / "peaks" / f"{key}.json"
        if not kept.exists():
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_text(_probe(source, spec.cores))
        found = json.loads(kept.read_text())
        rows = tuple(Bandwidth(working_set=b, bytes_per_second=r) for b, r in found["bandwidth"])
        flops = {name: found[name] for name in ("float32", "float64")}
        peaks = Peaks(bandwidth=rows, flops=flops | _narrow_types(flops))
        return spec.model_copy(update={"peaks": peaks})

    def profile(
        self, spec: TargetSpec, call: Callable[[], object], inputs: "Sequence[Tensor]"
    ) -> Mapping[str, float]:
        """No counters: they are not available without privileges on most machines."""
        return {}


def _probe(source: str, cores: Sequence[int]) -> str:
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "peaks"
        (Path(folder) / "peaks.cpp").write_text(source)
        command = ["g++", *PEAKS_FLAGS, "-o", str(program), "peaks.cpp"]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)  # noqa: S603
        pinned = ["taskset", "-c", ",".join(map(str, cores))] if shutil.which("taskset") else []
        done = subprocess.run(  # noqa: S603
            [*pinned, str(program), str(len(cores))], check=True, capture_output=True, text=True
        )
    return done.stdout


def _narrow_types(flops: Mapping[str, float]) -> dict[str, float]:
    """Sixteen-bit types run at the float32 rate here, unless the unit for matrices is used."""
    return {"bfloat16": flops["float32"], "float16": flops["float32"]}


FEATURES = re.compile(r"avx2|avx512\w+|avx_vnni|fma|f16c|amx\w+|asimd\w*|sve\w*|bf16|i8mm")
"""What of a processor's flags a kernel's author wants to know."""


def _features() -> tuple[str, ...]:
    """Vector instruction sets, in alphabetical order."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return ()
    found = re.search(r"^(?:flags|Features)\s*:(.*)$", text, re.M)
    return tuple(sorted(f for f in found[1].split() if FEATURES.fullmatch(f))) if found else ()


def _model_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _last_level_cache() -> int:
    sizes = [_size(path.read_text().strip()) for path in CACHES.glob("index*/size")]
    return max(sizes, default=DEFAULT_LAST_LEVEL)


def _size(text: str) -> int:
    units = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
    return int(text[:-1]) * units[text[-1]] if text[-1] in units else int(text)


plugin: type[Target] = Cpu
