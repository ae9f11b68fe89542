"""How far the reference is off: the yardstick that budgets are made of. In the judge."""

from collections.abc import Sequence
from math import sqrt
from typing import NamedTuple

import numpy as np

from kernelevolve.evaluation.expected import OracleKind, Reference, Yardstick
from kernelevolve.evaluation.layout import Array
from kernelevolve.evaluation.rounding import rows
from kernelevolve.evaluation.spread import chunks, mapped


class Off(NamedTuple):
    """How far one run is off, where that is a number."""

    squares: float
    """Sum over all elements."""
    rows: Array
    """Largest of each row."""


def _off(got: Array, oracle: Array) -> Off:
    largest = np.zeros(len(oracle))

    def look(part: slice) -> float:
        with np.errstate(invalid="ignore", over="ignore"):
            error = np.abs(got[part].astype(np.float64) - oracle[part])
        error[~np.isfinite(error)] = 0.0
        largest[part] = error.max(axis=1, initial=0.0)
        return float(np.dot(error.ravel(), error.ravel()))

    return Off(sum(mapped(look, chunks(oracle))), largest)


def measure_yardstick(
    references: Sequence[Reference], runs: Sequence[Array], oracle: OracleKind, factor: float
) -> Yardstick:
    """The error of `runs` (one per reference) against the oracle, times `factor`."""
    total, count, largest, relative = 0.0, 0, 0.0, 0.0
    for reference, run in zip(references, runs, strict=True):
        if reference.oracle is None:
            return Yardstick("exact")
        off = _off(rows(run), rows(reference.oracle))
        total += off.squares
        count += run.size
        largest = max(largest, float(off.rows.max(initial=0.0)))
        relative = max(relative, float((off.rows / reference.ulps).max(initial=0.0)))
    return Yardstick(
        oracle, factor * sqrt(total / max(1, count)), factor * largest, factor * relative
    )
