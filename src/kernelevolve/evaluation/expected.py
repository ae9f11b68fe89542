"""What the reference gives for one set of inputs, and how far it is off itself. In the judge."""

from dataclasses import dataclass, replace
from functools import cached_property
from math import isfinite, sqrt
from typing import Literal

import numpy as np

from kernelevolve.evaluation.layout import COMPLEX, FLOATS, Array, Leaf
from kernelevolve.evaluation.near import Errors, Sketch, square_sum
from kernelevolve.evaluation.rounding import EPSILON, TINY, row_scale, rows, ulp
from kernelevolve.evaluation.spread import chunks, flat_chunks, mapped

OracleKind = Literal["float64", "float32", "exact"]
NORMAL = {"float64": 2.3e-308, "float32": 1.2e-38, "float16": 1e-6, "bfloat16": 1.2e-38}
"""Smaller values may be flushed to zero."""
MANY = 64
"""So many elements, and luck with the rounding of some evens out."""
LOST = 0.25
"""An element that is wrong by more than this share of itself is lost."""


@dataclass
class Reference:
    """What one output of the reference is, for one set of inputs."""

    leaf: Leaf
    native: Array
    """As the reference returned it; floats of 16 bits widened."""
    oracle: Array | None
    """Float64, or native values that stand for it; None where these are compared exactly."""
    alternative: Array | None = None
    """For integers: what the oracle chose, where it differs."""

    @cached_property
    def ulps(self) -> Array:
        """Unit in the last place at each row's scale."""
        assert self.oracle is not None
        return ulp(row_scale(rows(self.oracle)), self.base)

    @cached_property
    def rms_floor(self) -> float:
        """RMS of one unit in the last place at the elements' own sizes; two where they are few."""
        assert self.oracle is not None
        flat = self.oracle.ravel()
        total = sum(mapped(lambda part: square_sum(flat[part]), flat_chunks(flat)))
        if not isfinite(total):
            flat = flat[np.isfinite(flat)].astype(np.float64)
            total = square_sum(flat)
        rms = sqrt(total / max(1, flat.size))
        return rms_floor(self.base, rms, flat.size)

    @cached_property
    def sketch(self) -> Sketch | None:
        """The oracle in float32, where outputs are of no more precision than that."""
        assert self.oracle is not None
        return None if self.base == "float64" else Sketch.of(self.oracle)

    def near(self, values: Array) -> Errors | None:
        """How far outputs are off at most, where float32 tells."""
        return None if self.sketch is None else self.sketch.errors(values)

    @cached_property
    def lost(self) -> int:
        """How many elements the reference itself loses."""
        assert self.oracle is not None
        oracle, native = self.oracle.ravel(), self.native.ravel()

        def look(part: slice) -> int:
            return self.lost_in(error_of(native[part], oracle[part], native[part]), oracle[part])

        return sum(mapped(look, chunks(oracle[:, None])))

    def lost_in(self, error: Array, oracle: Array) -> int:
        """How many elements are wrong by a good part of what they are."""
        size = np.abs(oracle)
        return int(np.count_nonzero((error > LOST * size) & (size > NORMAL[self.base])))

    @property
    def base(self) -> str:
        """The float type that its elements are counted in."""
        return COMPLEX.get(self.leaf.dtype, self.leaf.dtype)


@dataclass
class Yardstick:
    """The reference's own error in one output, over the pool, and the budget made of it."""

    oracle: OracleKind
    rms: float = 0.0
    maximum: float = 0.0
    relative: float = float("inf")
    """The largest error in units of its row's ulp, where rows differ much in scale."""
    usual: bool = False
    """Of the task's own inputs: many sets, on which luck with rounding evens out."""
    strict: float | None = None
    """RMS budget without the task's permission to compute in less precision."""

    def wider(self, other: "Yardstick") -> "Yardstick":
        """The larger of two in every respect."""
        return replace(
            self,
            rms=max(self.rms, other.rms),
            maximum=max(self.maximum, other.maximum),
            relative=max(self.relative, other.relative),
        )


def rms_floor(base: str, rms: float, count: int) -> float:
    """Of one unit in the last place at elements of this RMS; two where they are few."""
    return max(EPSILON[base] * rms, TINY[base]) * (1 if count >= MANY else 2)


def error_of(got: Array, oracle: Array, native: Array) -> Array:
    """Absolute error; infinite where finite and non-finite values do not agree."""
    with np.errstate(invalid="ignore", over="ignore"):
        error = np.asarray(np.subtract(got, oracle, dtype=np.float64))
    np.abs(error, out=error)
    if np.isfinite(error.sum()):
        return error
    same = (got == native) | (np.isnan(got) & np.isnan(native))
    error = np.where(same & ~np.isfinite(native), 0.0, error)
    return np.where(np.isnan(error), np.inf, error)


def is_float(leaf: Leaf) -> bool:
    """Whether a budget applies, rather than equality."""
    return leaf.dtype in FLOATS or leaf.dtype in COMPLEX
