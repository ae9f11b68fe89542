"""AMD GPUs: none is driven here, and the architectures of the sheet are emulated."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kernelevolve.core.protocols import Target
from kernelevolve.core.target import Clock, TargetSpec
from kernelevolve.targets import _sheet
from kernelevolve.targets._environment import environment

if TYPE_CHECKING:
    from torch import Tensor

SHEET = Path(__file__).parent / "sheets" / "amd.toml"
FIXED = {
    "warp": 64,
    "partitions": 4,
    "registers": 4 * 512 * 64,
    "registers_unit": 8 * 64,
    "shared_reserved": 0,
}


class Amd:
    """The sheet's architectures. Nothing of it was run on AMD hardware by its authors."""

    untried = "no device is driven; not run on AMD hardware by us"

    def discover(self) -> Sequence[TargetSpec]:
        """One for each architecture, emulated."""
        return _sheet.emulated("amd", SHEET, FIXED)

    def environment(self, spec: TargetSpec) -> Mapping[str, str]:
        """One thread for each core, and no GPU."""
        return environment(spec)

    def clock(self, spec: TargetSpec) -> Clock:
        """The judge's own; nothing is timed by it."""
        return Clock(kind="wall", resolution_us=1.0, flush_bytes=2 * spec.last_level_cache)

    def measure(self, spec: TargetSpec) -> TargetSpec:
        """The same: there is nothing to measure."""
        return spec

    def profile(
        self, spec: TargetSpec, call: Callable[[], object], inputs: "Sequence[Tensor]"
    ) -> Mapping[str, float]:
        """No counters."""
        return {}


plugin: type[Target] = Amd
