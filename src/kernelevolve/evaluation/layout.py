"""How tensors lie in shared memory: a JSON tree whose leaves are typed extents of raw bytes."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from kernelevolve.evaluation.spread import converted
from kernelevolve.evaluation.wire import Malformed

Array = NDArray[Any]
Tree = Any
"""`{"tensor": n}`, or `list`, `tuple`, `dict` (pairs) of trees, or `{"value": [type, text]}`."""

ALIGNMENT = 64
PAGE = 4096
MAX_LEAVES = 4096
MAX_DIMENSIONS = 64
MAX_DEPTH = 32
SIDES = 60

ITEM_SIZES = {
    "float64": 8, "float32": 4, "float16": 2, "bfloat16": 2,
    "complex64": 8, "complex128": 16,
    "int64": 8, "int32": 4, "int16": 2, "int8": 1,
    "uint64": 8, "uint32": 4, "uint16": 2, "uint8": 1, "bool": 1,
    "float8_e4m3fn": 1, "float8_e5m2": 1, "float8_e4m3fnuz": 1, "float8_e5m2fnuz": 1,
}  # fmt: skip
FLOATS = ("float64", "float32", "float16", "bfloat16")
COMPLEX = {"complex64": "float32", "complex128": "float64"}


@dataclass(frozen=True)
class Leaf:
    """One tensor's extent within a block of memory."""

    dtype: str
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int

    @property
    def span(self) -> int:
        """Bytes from the first to the last element."""
        if 0 in self.shape:
            return 0
        last = sum((n - 1) * s for n, s in zip(self.shape, self.stride, strict=True))
        return (last + 1) * ITEM_SIZES[self.dtype]

    @property
    def elements(self) -> int:
        """How many."""
        return prod(self.shape)

    def dump(self) -> list[Any]:
        """As JSON."""
        return [self.dtype, list(self.shape), list(self.stride), self.offset]

    @classmethod
    def parse(cls, value: object) -> Self:
        """From JSON that may have any content.

        Raises:
            Malformed: it is not a leaf.
        """
        match value:
            case [str(dtype), list(shape), list(stride), int(offset)]:
                numbers = [*shape, *stride, offset]
                whole = all(type(n) is int and 0 <= n < 1 << 48 for n in numbers)
                small = len(shape) == len(stride) <= MAX_DIMENSIONS
                if whole and small and dtype in ITEM_SIZES:
                    return cls(dtype, tuple(shape), tuple(stride), offset)
        raise Malformed(f"not a tensor's layout: {str(value)[:200]}")

    def describe(self) -> str:
        """`float32[512, 1024]`."""
        return f"{self.dtype}[{', '.join(map(str, self.shape))}]"


@dataclass(frozen=True)
class Layout:
    """A tree and the extents of its leaves."""

    tree: Tree
    leaves: tuple[Leaf, ...]

    @cached_property
    def nbytes(self) -> int:
        """Bytes of one block that holds all leaves, in whole pages."""
        end = max((leaf.offset + leaf.span for leaf in self.leaves), default=0)
        return max(PAGE, -(-end // PAGE) * PAGE)

    def dump(self) -> dict[str, Any]:
        """As JSON."""
        return {"tree": self.tree, "leaves": [leaf.dump() for leaf in self.leaves]}

    @classmethod
    def parse(cls, value: object) -> Self:
        """From JSON that may have any content.

        Raises:
            Malformed: it is not a layout.
        """
        if not isinstance(value, dict) or not isinstance(value.get("leaves"), list):
            raise Malformed("not a layout")
        if len(value["leaves"]) > MAX_LEAVES:
            raise Malformed(f"more than {MAX_LEAVES} tensors")
        leaves = tuple(Leaf.parse(leaf) for leaf in value["leaves"])
        _check_tree(value.get("tree"), len(leaves), 0)
        return cls(value["tree"], leaves)


def _check_tree(tree: object, leaves: int, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise Malformed("a tree that is too deep")
    match tree:
        case {"tensor": int(index)} if 0 <= index < leaves:
            return
        case {"value": [str(), _]}:
            return
        case {"list": list(items)} | {"tuple": list(items)}:
            for item in items:
                _check_tree(item, leaves, depth + 1)
        case {"dict": list(items)}:
            for pair in items:
                if not isinstance(pair, list) or len(pair) != 2:
                    raise Malformed("a dict's items must be pairs")
                _check_tree(pair[1], leaves, depth + 1)
        case _:
            raise Malformed(f"not a tree: {str(tree)[:200]}")


Spec = tuple[str, tuple[int, ...], tuple[int, ...]]
"""Dtype, shape and strides of a tensor."""


def guarded(specs: Sequence[Spec], sides: int) -> tuple[Leaf, ...]:
    """Leaves on pages of their own, with an unused page before and behind each.

    Args:
        specs: what lies there.
        sides: bit by bit, whether a leaf touches the page behind it, or the page before it.
    """
    leaves, page = [], PAGE
    for number, (dtype, shape, stride) in enumerate(specs):
        span = Leaf(dtype, shape, stride, 0).span
        room = -(-span // PAGE) * PAGE
        behind = sides >> number % SIDES & 1
        slack = room - -(-span // ALIGNMENT) * ALIGNMENT
        leaves.append(Leaf(dtype, shape, stride, page + slack * behind))
        page += room + PAGE
    return tuple(leaves)


def unused_pages(leaves: Sequence[Leaf], nbytes: int) -> list[tuple[int, int]]:
    """Offset and size of the whole pages of a block that hold no leaf."""
    found, end = [], 0
    for leaf in sorted((leaf for leaf in leaves if leaf.span), key=lambda leaf: leaf.offset):
        begin = leaf.offset // PAGE * PAGE
        if begin > end:
            found.append((end, begin - end))
        end = max(end, -(-(leaf.offset + leaf.span) // PAGE) * PAGE)
    return [*found, (end, nbytes - end)] if nbytes > end else found


def packed(specs: Sequence[Spec]) -> tuple[Leaf, ...]:
    """Leaves one after the other, aligned; large ones begin on a page."""
    leaves, offset = [], 0
    for dtype, shape, stride in specs:
        leaf = Leaf(dtype, shape, stride, 0)
        unit = PAGE if leaf.span >= PAGE else ALIGNMENT
        offset = -(-offset // unit) * unit
        leaves.append(Leaf(dtype, shape, stride, offset))
        offset += leaf.span
    return tuple(leaves)


def contiguous(shape: Sequence[int]) -> tuple[int, ...]:
    """Row-major strides in elements."""
    strides = []
    step = 1
    for size in reversed(shape):
        strides.append(step)
        step *= max(size, 1)
    return tuple(reversed(strides))


def paths(tree: Tree) -> dict[int, str]:
    """Index of each leaf to its path in the returned tree: `output`, `output[0]`, `output['a']`."""
    found: dict[int, str] = {}

    def walk(node: Tree, path: str) -> None:
        match node:
            case {"tensor": index}:
                found[index] = path
            case {"list": items} | {"tuple": items}:
                for number, item in enumerate(items):
                    walk(item, f"{path}[{number}]")
            case {"dict": items}:
                for key, item in items:
                    walk(item, f"{path}[{key!r}]")

    walk(tree, "output")
    return found


def describe(tree: Tree) -> str:
    """The shape of a tree in words: `tuple of 2 (tensor, tensor)`."""
    match tree:
        case {"tensor": _}:
            return "tensor"
        case {"list": items}:
            return f"[{', '.join(map(describe, items))}]"
        case {"tuple": items}:
            return f"({', '.join(map(describe, items))})"
        case {"dict": items}:
            return "{" + ", ".join(f"{k!r}: {describe(v)}" for k, v in items) + "}"
        case {"value": [kind, text]}:
            return f"{kind} {text}"
        case _:
            return "?"


NUMPY = {"bfloat16": np.uint16} | {n: np.uint8 for n in ITEM_SIZES if n.startswith("float8")}


def raw(leaf: Leaf, block: Array) -> Array:
    """The leaf's elements in a block of bytes; 16-bit brain floats and 8-bit floats as bits."""
    dtype = np.dtype(NUMPY.get(leaf.dtype, leaf.dtype))
    strides = tuple(s * dtype.itemsize for s in leaf.stride)
    return np.ndarray(leaf.shape, dtype, block.data, leaf.offset, strides)


def widened(leaf: Leaf, block: Array) -> Array:
    """Floats of 16 bits as float32, which is far quicker to work with; complex numbers as pairs."""
    values = raw(leaf, block)
    if leaf.dtype == "float16":
        return converted(values, np.float32)
    if leaf.dtype == "bfloat16":
        return (values.astype(np.uint32) << 16).view(np.float32)
    if leaf.dtype in COMPLEX:
        return np.ascontiguousarray(values).view(COMPLEX[leaf.dtype])
    return values


def owned(values: Array, block: Array) -> Array:
    """Values in memory of their own, whatever becomes of the block that they were read from."""
    return values.copy() if np.may_share_memory(values, block) else values
