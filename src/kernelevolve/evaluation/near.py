"""Float32 arithmetic that shows quickly that outputs are close to the oracle. In the judge.

With every rounding of its own added, the errors that it finds are upper bounds. Where these are
not enough, float64 decides.
"""

from dataclasses import dataclass
from math import sqrt
from typing import Self

import numpy as np

from kernelevolve.evaluation.layout import Array
from kernelevolve.evaluation.rounding import each_row, rows
from kernelevolve.evaluation.spread import CHUNK, chunks, converted, mapped

HALF_ULP = 2.0**-24
"""A float32 is off by at most this share of what it was rounded from."""
SUMMED = 1.0 + 1e-3
"""Sums of a chunk of squares are off by less than this."""
SUBTRACTED = 1.0 + 2.0**-22
SQUARED = 1.2e-19
"""Squares of smaller numbers are lost in float32."""
DENORMAL = 2.0**-149


@dataclass(frozen=True)
class Sketch:
    """An oracle in float32, row by row."""

    values: Array
    largest: Array
    """Largest magnitude of each row."""
    least: Array
    """Smallest magnitude of each row."""
    rms: float
    exact: bool
    """Whether the oracle is these values, rather than rounded to them."""

    @classmethod
    def of(cls, oracle: Array) -> Self | None:
        """None where float32 does not hold the oracle, or has nothing to say."""
        with np.errstate(over="ignore"):
            values = _single(rows(oracle))
        if not values.size:
            return None
        largest, least = np.empty(len(values)), np.empty(len(values))

        def look(part: slice) -> tuple[float, bool]:
            size = np.abs(values[part])
            largest[part], least[part] = each_row(np.maximum, size), each_row(np.minimum, size)
            return square_sum(size), np.array_equal(values[part], rows(oracle)[part])

        seen = mapped(look, chunks(values))
        total, exact = sum(squares for squares, _ in seen), all(same for _, same in seen)
        if not np.isfinite(total):
            return None
        return cls(values, largest, least, SUMMED * sqrt(total / values.size) + SQUARED, exact)

    def errors(self, got: Array) -> "Errors | None":
        """Of outputs against the oracle; None where some are not finite."""
        found = np.empty(len(self.values))
        got = rows(got)

        def look(part: slice) -> float:
            with np.errstate(over="ignore", invalid="ignore"):
                error = np.subtract(got[part], self.values[part], dtype=np.float32)
            np.abs(error, out=error)
            found[part] = each_row(np.maximum, error)
            return square_sum(error)

        total = sum(mapped(look, chunks(self.values)))
        if not np.isfinite(total):
            return None
        return Errors(self, found, sqrt(total / self.values.size))


@dataclass(frozen=True)
class Errors:
    """Of outputs, as float32 sees them, and what they are at most."""

    sketch: Sketch
    largest: Array
    """Of each row."""
    rms: float

    @property
    def largest_at_most(self) -> Array:
        """Of each row."""
        rounded: Array | float = 0.0
        if not self.sketch.exact:
            rounded = HALF_ULP * self.sketch.largest + DENORMAL
        return SUBTRACTED * self.largest + rounded

    @property
    def rms_at_most(self) -> float:
        """Of all elements."""
        rounded = 0.0 if self.sketch.exact else HALF_ULP * self.sketch.rms + DENORMAL
        return SUMMED * self.rms + SQUARED + rounded

    def lost(self, share: float) -> int:
        """How many elements may be off by more than this share of themselves."""
        limits = self.largest_at_most / share
        values = self.sketch.values

        def look(part: slice) -> int:
            if not (self.sketch.least[part] < limits[part]).any():
                return 0
            return int((np.abs(values[part]) < limits[part, None]).sum())

        return sum(mapped(look, chunks(values)))


def _single(values: Array) -> Array:
    return values if values.dtype == np.float32 else converted(values, np.float32)


def square_sum(values: Array) -> float:
    """Not finite where an element is not, or is too large for float32."""
    flat = values.ravel()
    parts = (flat[begin : begin + CHUNK] for begin in range(0, flat.size, CHUNK))
    with np.errstate(over="ignore", invalid="ignore"):
        return sum(float(np.dot(part, part)) for part in parts)
