"""Outputs of calls that ran on a device: kept there, and compared there where that is enough.

In the judge. What is compared are the same figures, against the same budgets, as on the host; it
accepts only, and whatever it does not accept the host judges (design/0028).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite, sqrt

import numpy as np

from kernelevolve.evaluation.blocks import BANKS
from kernelevolve.evaluation.device import Shared
from kernelevolve.evaluation.device_kernels import FLOATS, Kernels, Look
from kernelevolve.evaluation.device_runner import DeviceRunner
from kernelevolve.evaluation.expected import LOST, Yardstick, rms_floor
from kernelevolve.evaluation.layout import Array, Layout, Leaf
from kernelevolve.evaluation.near import Errors, Sketch
from kernelevolve.evaluation.outputs import Outputs
from kernelevolve.evaluation.peek import Extent
from kernelevolve.evaluation.rounding import ulp
from kernelevolve.evaluation.verify import MOST_LOST, Budgets, Verifier

MOST_ROWS = 1 << 20


class DeviceOutputs(Outputs):
    """They come to the host when they are asked for there."""

    def __init__(self, runner: DeviceRunner, plain: Layout, banks: int = BANKS) -> None:
        super().__init__(runner, plain, banks)
        self._device, self._keep = runner.device, runner.keep
        self._kept: Shared | None = None
        self._there = False
        """Whether what was read last has not come to the host."""

    def _read(self, extents: Sequence[Extent]) -> bool:
        self._there = self._keep(extents, self._room(self._taken.nbytes).place)
        return self._there

    def _room(self, nbytes: int) -> Shared:
        if self._kept is None or self._kept.nbytes < nbytes:
            self._let_go()
            self._kept = Shared(self._device, max(1, nbytes))
        return self._kept

    def _let_go(self) -> None:
        if self._kept is not None:
            self._kept.close()
        self._kept = None

    @property
    def place(self) -> int | None:
        """Where on the device lies what was read last, row-major; None where it does not."""
        kept = self._kept is not None and self._there and self._are_rows
        return self._kept.place if self._kept is not None and kept else None

    def learn(self, reply: dict[str, object]) -> bool:
        """Take note of a description; whether what was read before covers it."""
        covered = super().learn(reply)
        self._there = self._there and covered
        return covered

    def rows(self) -> Array:
        """What was read last, row-major."""
        if self._there and self._kept is not None:
            self._kept.read(0, self._taken)
            self._there = False
        return super().rows()

    def close(self) -> None:
        """Free the memory."""
        self._let_go()
        super().close()


@dataclass(frozen=True)
class Scale:
    """What budgets are made of, as the device saw the reference's own output."""

    ulps: Array
    rms_floor: float

    @classmethod
    def of(cls, look: Look, base: str, count: int) -> "Scale":
        """Of `count` elements of one type."""
        floor = rms_floor(base, sqrt(look.sizes / max(1, count)), count)
        return cls(ulp(look.scale, base), floor)


@dataclass(frozen=True)
class Glance:
    """Of outputs on the device beside the reference's own for the same inputs."""

    kernels: Kernels
    verifier: Verifier
    yardsticks: Sequence[Yardstick]

    def accepts(self, got: int, want: int) -> bool:
        """Whether all outputs are within their budgets; both are addresses of whole blocks."""
        return all(
            self._accepts(leaf, yardstick, got + leaf.offset, want + leaf.offset)
            for leaf, yardstick in zip(self.verifier.layout.leaves, self.yardsticks, strict=False)
        )

    def _accepts(self, leaf: Leaf, yardstick: Yardstick, got: int, want: int) -> bool:
        width = leaf.shape[-1] if leaf.shape else 1
        height = leaf.elements // max(1, width)
        if leaf.dtype not in FLOATS or not leaf.elements:
            return not self.kernels.differ(got, want, leaf.span)
        if yardstick.strict is not None or height > MOST_ROWS:
            return False
        look = self.kernels.look(leaf.dtype, got, want, height, width)
        if not (np.isfinite(look.largest).all() and isfinite(look.squares + look.sizes)):
            return False
        errors = _errors(look, leaf.elements)
        budgets = Budgets.of(
            Scale.of(look, leaf.dtype, leaf.elements), yardstick, self.verifier.tolerance
        )
        keeps_small = self.verifier.keeps_small(yardstick)
        return budgets.hold(errors) and (
            not keeps_small or self._keeps_small(leaf, errors, want, width)
        )

    def _keeps_small(self, leaf: Leaf, errors: Errors, want: int, width: int) -> bool:
        """Whether few elements are so small that the errors may be a good part of them."""
        limits = errors.largest_at_most / LOST
        if not (errors.sketch.least < limits).any():
            return True
        lost = self.kernels.small(leaf.dtype, want, limits, width)
        return lost <= MOST_LOST * leaf.elements


def _errors(look: Look, count: int) -> Errors:
    rms = sqrt(look.sizes / count)
    nothing = np.empty((0, 0))
    sketch = Sketch(nothing, look.scale, look.least, rms, exact=True)
    return Errors(sketch, look.largest, sqrt(look.squares / count))
