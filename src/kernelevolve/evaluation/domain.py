"""Which values an input may take, as observed over the pool; how its bytes are read and written."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.random import Generator as Random

from kernelevolve.evaluation.layout import (
    COMPLEX,
    FLOATS,
    ITEM_SIZES,
    Array,
    Layout,
    Leaf,
    Tree,
    owned,
    raw,
    widened,
)
from kernelevolve.evaluation.spread import converted
from kernelevolve.evaluation.traits import Traits

Kind = Literal["real", "levels", "integer", "boolean", "sorted", "fixed"]
MAX_LEVELS = 16
ENOUGH = 1 << 20
"""So many elements tell how far a tensor's values spread."""
FLOAT_SETS = 3
NEAR_ONE = 0.9
CAUTIOUS = Traits()
POSITIVE_SHARE = 1e-3


@dataclass(frozen=True)
class Domain:
    """What was seen of one input; generated values stay within it."""

    kind: Kind
    """`levels` are floats with few values, such as masks; `sorted` are offsets and positions, which
    must ascend; `fixed` is never changed, as are boundaries that are filled up with infinity."""
    low: float = -np.inf
    """Least value allowed."""
    high: float = np.inf
    """Largest value allowed."""
    spread: float = 1.0
    """Standard deviation of the finite values."""
    levels: tuple[float, ...] = ()
    """Observed values of `levels`, or the observed extremes of integers."""
    markers: tuple[int, ...] = ()
    """Integers to which the reference gives a meaning of their own, and which the dtype holds."""
    thresholds: tuple[float, ...] = ()
    """Floats at which the reference changes its mind, and which the dtype and the range hold."""

    def clip(self, values: Array) -> Array:
        """Finite values moved to the nearest allowed one."""
        if self.low == -np.inf and self.high == np.inf:
            return values
        inside: Array = np.clip(values, self.low, self.high)
        return np.where(np.isfinite(values), inside, values)

    @property
    def bounded(self) -> bool:
        """Whether both ends are known."""
        return bool(np.isfinite(self.low) and np.isfinite(self.high))

    def directions(self, random: Random, shape: int | tuple[int, ...]) -> Array:
        """Signs of changes that stay allowed, however large; for domains open to one side."""
        if np.isfinite(self.low) or np.isfinite(self.high):
            return np.full(shape, 1 if np.isfinite(self.low) else -1)
        return random.integers(0, 2, shape) * 2 - 1

    def holds(self, value: float) -> bool:
        """Whether the value is allowed."""
        return self.low <= value <= self.high

    @property
    def signed(self) -> bool:
        """Whether both signs were seen."""
        return self.low < 0 < self.high


def arguments(tree: Tree) -> list[int]:
    """Indices of the tensors that are arguments of `forward`, without cotangents."""
    return sorted(_leaves(dict(tree["dict"])["args"]))


def _leaves(tree: Tree) -> Iterator[int]:
    match tree:
        case {"tensor": int(index)}:
            yield index
        case {"list": items} | {"tuple": items}:
            for item in items:
                yield from _leaves(item)
        case {"dict": items}:
            for _, item in items:
                yield from _leaves(item)


def cotangents(tree: Tree) -> list[int]:
    """Indices of the tensors that are given to the backward pass."""
    return sorted(_leaves(dict(tree["dict"])["cotangents"]))


def observe(
    layout: Layout, contents: Sequence[Array], traits: Traits = CAUTIOUS
) -> dict[int, Domain]:
    """The domain of each argument and cotangent, by its index in the layout."""
    found = {i: _domain(layout.leaves[i], contents, traits) for i in arguments(layout.tree)}
    for index in cotangents(layout.tree):
        found[index] = Domain("real" if layout.leaves[index].dtype in FLOATS else "fixed")
    return found


def overlaps(leaf: Leaf) -> bool:
    """Whether several elements share memory."""
    return leaf.elements * ITEM_SIZES[leaf.dtype] > leaf.span


def _domain(leaf: Leaf, contents: Sequence[Array], traits: Traits) -> Domain:
    known = leaf.dtype in FLOATS or leaf.dtype == "bool" or leaf.dtype.lstrip("u").startswith("int")
    if leaf.elements == 0 or overlaps(leaf) or not known:
        return Domain("fixed")
    sets = contents[:FLOAT_SETS] if leaf.dtype in FLOATS else contents
    seen = [read(leaf, content) for content in sets]
    if leaf.dtype == "bool":
        return Domain("boolean", 0, 1, levels=(0.0, 1.0))
    if leaf.dtype in FLOATS:
        found = _real(seen)
        if found.kind == "real" and _all_sorted(seen):
            finite = all(np.isfinite(v).all() for v in seen)
            return Domain("sorted" if finite else "fixed")
        held = tuple(t for t in traits.thresholds if found.holds(t) and _holds(leaf, t))
        return replace(found, thresholds=held)
    low, high = min(int(v.min()) for v in seen), max(int(v.max()) for v in seen)
    if high - low > 1 and _all_sorted(seen):
        return Domain("sorted")
    bounds = np.iinfo(leaf.dtype)
    marked = tuple(m for m in traits.markers if bounds.min <= m <= bounds.max)
    return Domain("integer", low, high, levels=(low, high), markers=marked)


def _holds(leaf: Leaf, value: float) -> bool:
    """Whether a tensor's elements can have exactly this value."""
    one = Leaf(leaf.dtype, (1,), (1,), 0)
    memory = np.zeros(ITEM_SIZES[leaf.dtype], np.uint8)
    write(one, memory, np.array([value]))
    return bool(np.isfinite(value)) and float(read(one, memory)[0]) == value


def _all_sorted(seen: Sequence[Array]) -> bool:
    return all(_sorted(values) for values in seen)


def _sorted(values: Array) -> bool:
    """Offsets and boundaries: changing them one by one would make nonsense of them."""
    if values.ndim == 0 or values.shape[-1] <= 2:
        return False
    earlier, later = values[..., :-1], values[..., 1:]
    return bool((later >= earlier).all() and (later > earlier).any())


def _real(seen: Sequence[Array]) -> Domain:
    finite = [v if np.isfinite(v).all() else v[np.isfinite(v)] for v in map(np.ravel, seen)]
    finite = [v for v in finite if v.size]
    if not finite:
        return Domain("fixed")
    low, high = float(min(v.min() for v in finite)), float(max(v.max() for v in finite))
    drawn = (v[:: max(1, v.size // ENOUGH)] for v in finite)
    spread = float(max(v.std(dtype=np.float64) for v in drawn)) or max(abs(low), abs(high)) or 1.0
    first = finite[0][: 1 << 16]
    if first.size >= 4 * MAX_LEVELS and np.unique(first).size <= MAX_LEVELS:
        levels = np.unique(np.concatenate(finite))
        if 1 < levels.size <= MAX_LEVELS:
            return Domain("levels", low, high, spread, tuple(levels.tolist()))
    return Domain("real", *_bounds(low, high), spread)


def _bounds(low: float, high: float) -> tuple[float, float]:
    """What the observed extremes say about values that were not observed."""
    if low >= 0:
        return (low * POSITIVE_SHARE if low > 0 else 0.0), (1.0 if high <= 1 else np.inf)
    if high <= 0:
        return -np.inf, 0.0
    if low >= -1 and high <= 1 and max(-low, high) > NEAR_ONE:
        return -1.0, 1.0
    return -np.inf, np.inf


def read(leaf: Leaf, content: Array) -> Array:
    """The values of one tensor, a copy; 16-bit floats as float32."""
    return owned(widened(leaf, content), content)


def write(leaf: Leaf, content: Array, values: Array) -> None:
    """Round values to the tensor's dtype and put them where it lies."""
    target = raw(leaf, content)
    with np.errstate(over="ignore", invalid="ignore"):
        target[...] = _brain(values) if leaf.dtype == "bfloat16" else _cast(values, target.dtype)


def _cast(values: Array, dtype: Any) -> Array:
    return values.astype(dtype) if values.dtype.kind != "f" else converted(values, dtype)


def _brain(values: Array) -> Array:
    """Bits of the nearest brain floats, ties to even."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return np.where(np.isnan(values), 0x7FC0, rounded).astype(np.uint16)


def is_real(leaf: Leaf) -> bool:
    """Whether the tensor holds real or complex floats."""
    return leaf.dtype in FLOATS or leaf.dtype in COMPLEX
