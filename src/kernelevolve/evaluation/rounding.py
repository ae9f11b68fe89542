"""Rows, their scales and units in the last place. In the judge."""

import numpy as np

from kernelevolve.evaluation.layout import Array
from kernelevolve.evaluation.spread import chunks, mapped

EPSILON = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}
TINY = {"float64": 5e-324, "float32": 1.4e-45, "float16": 6e-8, "bfloat16": 9.2e-41}

NARROW = 64


def rows(array: Array) -> Array:
    """As a matrix whose rows share a scale: along the last dimension."""
    width = array.shape[-1] if array.ndim else 1
    return array.reshape(-1, width) if array.size else array.reshape(0, 1)


def each_row(ufunc: np.ufunc, matrix: Array) -> Array:
    """`ufunc.reduce` over each row: column by column where rows are short, which is much faster."""
    if matrix.shape[1] > NARROW or not matrix.size:
        return np.asarray(ufunc.reduce(matrix, axis=1))
    found = matrix[:, 0].copy()
    for column in matrix.T[1:]:
        ufunc(found, column, out=found)
    return found


def ulp(scale: Array, dtype: str) -> Array:
    """Unit in the last place at a magnitude."""
    exponent = np.frexp(scale)[1] - 1
    found: Array = np.maximum(np.ldexp(EPSILON[dtype], exponent), TINY[dtype])
    return np.where(scale > 0, found, TINY[dtype])


def row_scale(oracle: Array) -> Array:
    """The largest finite magnitude of each row."""
    if not oracle.size:
        return np.zeros(len(oracle))
    scale = np.empty(len(oracle))

    def look(part: slice) -> None:
        most, least = each_row(np.maximum, oracle[part]), each_row(np.minimum, oracle[part])
        scale[part] = np.maximum(most, -least)

    mapped(look, chunks(oracle))
    if np.isfinite(scale).all():
        return scale
    finite = np.where(np.isfinite(oracle), oracle, 0.0)
    return row_scale(finite)
