"""Arithmetic over large arrays, part by part, on all of the judge's cores."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

Array = NDArray[Any]
CHUNK = 1 << 16
"""Elements whose arithmetic stays in a processor's cache."""
SIDE_BY_SIDE = 64
"""So many chunks take longer than it takes to hand them to threads."""
Found = TypeVar("Found")


def chunks(matrix: Array) -> list[slice]:
    """Whole rows, about a chunk each."""
    step = max(1, CHUNK // max(1, matrix.shape[1]))
    return [slice(begin, begin + step) for begin in range(0, len(matrix), step)]


def flat_chunks(values: Array) -> list[slice]:
    """Of the elements in a row."""
    return [slice(begin, begin + CHUNK) for begin in range(0, values.size, CHUNK)]


def mapped(function: Callable[[slice], Found], parts: Sequence[slice]) -> list[Found]:
    """What a function gives for each part, in order; many parts are shared by the judge's cores.

    The function may not call this itself.
    """
    if len(parts) < SIDE_BY_SIDE:
        return [function(part) for part in parts]
    return list(_threads().map(function, parts, chunksize=1))


def converted(values: Array, dtype: DTypeLike) -> Array:
    """The same values in another type, in memory of their own."""
    found = np.empty(values.shape, dtype)
    if not values.flags.c_contiguous:
        found[...] = values
        return found
    source, target = values.reshape(-1), found.reshape(-1)

    def convert(part: slice) -> None:
        with np.errstate(over="ignore", invalid="ignore"):
            target[part] = source[part]

    mapped(convert, flat_chunks(source))
    return found


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(len(os.sched_getaffinity(0)))
