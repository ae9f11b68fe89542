"""How far the reference is off: the yardstick that budgets are made of. In the judge."""

from collections.abc import Sequence
from math import sqrt

import numpy as np

from kernelevolve.evaluation.expected import OracleKind, Reference, Yardstick
from kernelevolve.evaluation.layout import Array
from kernelevolve.evaluation.rounding import rows


def measure_yardstick(
    references: Sequence[Reference], runs: Sequence[Array], oracle: OracleKind, factor: float
) -> Yardstick:
    """The error of `runs` (one per reference) against the oracle, times `factor`."""
    total, count, largest, relative = 0.0, 0, 0.0, 0.0
    for reference, run in zip(references, runs, strict=True):
        if reference.oracle is None:
            return Yardstick("exact")
        with np.errstate(invalid="ignore", over="ignore"):
            error = rows(np.abs(run.astype(np.float64) - reference.oracle))
            error = np.where(np.isfinite(error), error, 0.0)
            ratios = error.max(axis=1, initial=0.0) / reference.ulps
        flat = error.ravel()
        total += float(np.dot(flat, flat))
        count += flat.size
        largest = max(largest, float(flat.max(initial=0.0)))
        relative = max(relative, float(ratios.max(initial=0.0)))
    return Yardstick(
        oracle, factor * sqrt(total / max(1, count)), factor * largest, factor * relative
    )
