"""A dozen primitive operators that every traced model is lowered to.

Nodes are hash-consed by their `Builder`, so equal subexpressions are one node and dead code is
what the outputs do not reach.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from kernelevolve.programmers.builtin.ir import DType, Size


@dataclass(frozen=True, eq=False)
class Node:
    """A tensor value.

    | op | inputs | attr |
    |---|---|---|
    | input | | name, kind, Python source |
    | const | | a number, or C++ text over the size symbols; shape () |
    | iota | | ; shape (n,) |
    | map | operands of one shape | function of `ir.Call` |
    | expand, reshape | x | |
    | permute | x | order |
    | slice | x | dim, start, step |
    | window | x | dim and a `Window`: positions stay there, taps become the last dimension |
    | reduce | x | kind, dims (removed) |
    | scan | x | kind, dim |
    | lookup | x, integer tensors | per dim of x: ("axis", output dim) or ("data", k, output dims) |
    | contract | a [.., m, k], b [.., k, n] | |
    | concat | tensors | dim |
    | opaque | tensors | Python text with {0}, {1} ..., number of results; `Convolution` |
    | pick | opaque | position in its results |
    """

    op: str
    inputs: tuple[Node, ...]
    shape: tuple[Size, ...]
    dtype: DType
    attr: tuple[Any, ...] = ()

    def __repr__(self) -> str:
        return f"<{self.op} {self.attr} {'x'.join(s.expr for s in self.shape)}>"


@dataclass(frozen=True)
class Window:
    """Tap t of position o is element (o * step + t * dilation - before) / apart of a dimension.

    Zero where that is no element, or no integer.
    """

    step: Size
    dilation: Size
    before: Size
    apart: Size
    inside: bool
    """All of them are elements."""


@dataclass
class Program:
    """Outputs in order, buffers to write back, and how forward reads and returns things."""

    outputs: tuple[Node, ...]
    mutations: tuple[tuple[str, Node], ...] = ()


def numel(shape: Sequence[Size]) -> Size:
    """The product of the extents."""
    total = Size.of(1)
    for extent in shape:
        total = total * extent
    return total


def topological(roots: Sequence[Node]) -> list[Node]:
    """Every node that `roots` reach, inputs before users."""
    seen: dict[Node, None] = {}

    def visit(node: Node) -> None:
        if node not in seen:
            for source in node.inputs:
                visit(source)
            seen[node] = None

    for root in roots:
        visit(root)
    return list(seen)


@dataclass
class Builder:
    """Makes nodes; equal ones once."""

    made: dict[Any, Node] = field(default_factory=dict)

    def node(
        self,
        op: str,
        inputs: Sequence[Node],
        shape: Sequence[Size],
        dtype: str,
        attr: tuple[Any, ...] = (),
    ) -> Node:
        """The node of this description."""
        key = (op, tuple(id(n) for n in inputs), tuple(shape), dtype, attr)
        if key not in self.made:
            self.made[key] = Node(op, tuple(inputs), tuple(shape), cast(DType, dtype), attr)
        return self.made[key]

    def const(self, value: float | int | bool | str, dtype: str) -> Node:
        """A scalar."""
        tag = type(value).__name__
        key = ("const", tag, repr(value), dtype)
        if key not in self.made:
            self.made[key] = Node("const", (), (), cast(DType, dtype), (value,))
        return self.made[key]

    def size(self, size: Size, dtype: str) -> Node:
        """A size as a scalar tensor."""
        return self.const(size.expr if size.constant is None else size.constant, dtype)

    def cast(self, x: Node, dtype: str) -> Node:
        """`x` in another dtype."""
        if x.dtype == dtype:
            return x
        if x.op == "const" and not isinstance(x.attr[0], str):
            kind: Callable[[Any], Any] = float if dtype in FLOATS else int
            if dtype == "bool":
                kind = bool
            if math.isfinite(x.attr[0]) or kind is float:
                return self.const(kind(x.attr[0]), dtype)
        return self.node("map", [x], x.shape, dtype, ("cast",))

    def expand(self, x: Node, shape: Sequence[Size]) -> Node:
        """`x` broadcast to `shape`, aligned at the last dimension."""
        return x if x.shape == tuple(shape) else self.node("expand", [x], shape, x.dtype)

    def reshape(self, x: Node, shape: Sequence[Size]) -> Node:
        """`x` with its elements in row-major order in another shape."""
        if x.shape == tuple(shape):
            return x
        if x.op == "reshape":
            return self.reshape(x.inputs[0], shape)
        return self.node("reshape", [x], shape, x.dtype)

    def permute(self, x: Node, order: Sequence[int]) -> Node:
        """`x` with its dimensions in another order."""
        if list(order) == list(range(len(x.shape))):
            return x
        if x.op == "permute":
            return self.permute(x.inputs[0], [x.attr[i] for i in order])
        return self.node("permute", [x], [x.shape[i] for i in order], x.dtype, tuple(order))

    def map(self, fn: str, inputs: Sequence[Node], dtype: str) -> Node:
        """A scalar function of broadcast operands."""
        shape = broadcast([n.shape for n in inputs])
        simpler = self._simplify(fn, inputs, dtype)
        if simpler is not None:
            return self.expand(simpler, shape)
        if (sunk := self._sink(fn, inputs, shape, dtype)) is not None:
            return sunk
        wide = [self.expand(n, shape) for n in inputs]
        return self.node("map", wide, shape, dtype, (fn,))

    def reduce(self, kind: str, x: Node, dims: Sequence[int], dtype: str | None = None) -> Node:
        """`x` reduced over `dims`, which disappear."""
        dims = sorted(dims)
        if not dims:
            return x
        shape = [s for i, s in enumerate(x.shape) if i not in dims]
        return self.node("reduce", [x], shape, dtype or x.dtype, (kind, tuple(dims)))

    def _sink(
        self, fn: str, inputs: Sequence[Node], shape: tuple[Size, ...], dtype: str
    ) -> Node | None:
        """Compute in a product's own shape and reshape after, so that it can be an epilogue."""
        reshapes = [n for n in inputs if n.op == "reshape" and n.shape == shape]
        product = next((n.inputs[0] for n in reshapes if from_product(n.inputs[0])), None)
        if product is None:
            return None
        moved = [self._in_shape(n, shape, product.shape) for n in inputs]
        if any(m is None for m in moved):
            return None
        return self.reshape(self.map(fn, [m for m in moved if m is not None], dtype), shape)

    def _in_shape(self, x: Node, shape: tuple[Size, ...], wanted: tuple[Size, ...]) -> Node | None:
        """`x`, broadcast to `shape`, as an operand that broadcasts to `wanted`."""
        if x.op == "const":
            return x
        if x.op == "expand":
            x = x.inputs[0]
        source = x.inputs[0] if x.op == "reshape" else x
        if from_product(source):
            return source if source.shape == wanted and x.shape == shape else None
        core = x.shape
        while core and core[0].is_const(1):
            core = core[1:]
        if len(core) <= len(wanted) and core == wanted[len(wanted) - len(core) :]:
            return self.reshape(x, core)
        same = x.shape == shape and x.op == "input"
        if same or (x.shape == shape and source.shape == wanted):
            return self.reshape(x, wanted)
        return None

    def _simplify(self, fn: str, inputs: Sequence[Node], dtype: str) -> Node | None:
        """Constant folding and identities."""
        values = [n.attr[0] if n.op == "const" else None for n in inputs]
        numbers = [v for v in values if isinstance(v, int | float)]
        if len(numbers) == len(inputs) and fn in FOLD:
            return self.const(FOLD[fn](*numbers), dtype)
        if fn in ("mul", "div") and values[-1] == 1 and inputs[0].dtype == dtype:
            return inputs[0]
        if fn in ("add", "sub") and values[-1] == 0 and inputs[0].dtype == dtype:
            return inputs[0]
        if fn == "and" and values[-1] is True:
            return inputs[0]
        if fn == "add" and 1 in values and len(inputs) == 2:
            erf = inputs[1 - values.index(1)]
            if erf.op == "map" and erf.attr == ("erf",):
                return self.map("erf1p", erf.inputs, dtype)
        return None


def from_product(node: Node) -> bool:
    """Tell whether `node` is a product with only pointwise functions of its shape after it."""
    while node.op == "map":
        same = [n for n in node.inputs if n.op in ("contract", "map")]
        found = next((n for n in same if from_product(n)), None)
        if found is None:
            return False
        node = found
    return node.op == "contract"


FLOATS = frozenset({"f32", "f64", "bf16", "f16"})
FOLD: dict[str, Callable[..., Any]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "neg": lambda a: -a,
}


def broadcast(shapes: Sequence[tuple[Size, ...]]) -> tuple[Size, ...]:
    """The shape that all `shapes` broadcast to."""
    rank = max(len(s) for s in shapes)
    padded = [(Size.of(1),) * (rank - len(s)) + s for s in shapes]
    return tuple(
        next((e for e in extents if not e.is_const(1)), extents[0])
        for extents in zip(*padded, strict=True)
    )
