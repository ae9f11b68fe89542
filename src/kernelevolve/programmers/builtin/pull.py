"""One element of a tensor as a scalar expression over loop axes, views folded into indices.

Pulling starts at a root's element and stops at materialised nodes. Where a reshape cuts through an
axis, the axis is split and pulling starts again; where an index is not affine, or a node cannot be
computed inside the region, `Cut` names the node that has to become memory first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from kernelevolve.programmers.builtin.ir import (
    Axis,
    Call,
    Const,
    Expr,
    Index,
    Jump,
    Load,
    Position,
    Reduction,
    Ref,
    Size,
    Term,
    axes_of,
    children,
)
from kernelevolve.programmers.builtin.prims import Node
from kernelevolve.programmers.builtin.windows import number, within

Where: TypeAlias = tuple[Index, ...]
ZERO = Index(Size.of(0))
ONE = Size.of(1)
PROBE = "probe"
"""The axis along a table that is searched, which no loop runs over."""


class Cut(Exception):
    """This node has to be materialised."""

    def __init__(self, node: Node) -> None:
        super().__init__(repr(node))
        self.node = node


class Split(Exception):
    """This axis has to become two; the inner one has extent `inner`."""

    def __init__(self, axis: str, inner: Size) -> None:
        super().__init__(axis)
        self.axis, self.inner = axis, inner


def plus(a: Index, b: Index) -> Index:
    """The sum of two indices."""
    terms = {t.axis: t for t in a.terms}
    for t in b.terms:
        old = terms.get(t.axis)
        terms[t.axis] = Term(t.axis, old.stride + t.stride) if old else t
    return Index(a.offset + b.offset, tuple(terms.values()), a.jumps + b.jumps)


def times(a: Index, stride: Size) -> Index:
    """An index times a stride."""
    if stride.constant == 1:
        return a
    return Index(
        a.offset * stride,
        tuple(Term(t.axis, t.stride * stride) for t in a.terms),
        tuple(Jump(j.where, j.stride * stride) for j in a.jumps),
    )


def flat(where: Where, shape: Sequence[Size]) -> Index:
    """The row-major element number of a position."""
    total, stride = ZERO, ONE
    for at, extent in zip(reversed(where), reversed(shape), strict=True):
        total = plus(total, times(at, stride))
        stride = stride * extent
    return total


def key_of(where: Where) -> Any:
    """A hashable form in which equal positions are equal."""
    return tuple(
        (
            w.offset,
            tuple(sorted((t.axis, t.stride.values) for t in w.terms if not t.stride.is_const(0))),
            tuple((j.where, j.stride) for j in w.jumps),
        )
        for w in where
    )


@dataclass
class Axes:
    """The loop axes of a region; splits are remembered from one attempt to the next."""

    splits: dict[str, Size] = field(default_factory=dict)
    sizes: dict[str, Size] = field(default_factory=dict)
    frozen: frozenset[str] = frozenset()

    def make(self, name: str, size: Size) -> tuple[Index, list[Axis]]:
        """An index that runs over `size`, and its axes, outermost first."""
        if size.is_const(1):
            return ZERO, []
        if name in self.splits:
            inner = self.splits[name]
            high, outer_axes = self.make(f"{name}o", size // inner)
            low, inner_axes = self.make(f"{name}i", inner)
            return plus(times(high, inner), low), outer_axes + inner_axes
        self.sizes[name] = size
        return Index(Size.of(0), (Term(name, ONE),)), [Axis(name, size)]


def digits(linear: Index, shape: Sequence[Size], axes: Axes, node: Node) -> Where:
    """Split an element number into positions in `shape`.

    Raises:
        Split: an axis has to be cut first.
        Cut: it is not affine; `node` has to be materialised.
    """
    if len(shape) == 1:
        return (linear,)
    if linear.jumps or not linear.offset.is_const(0):
        raise Cut(node)
    strides = [ONE]
    for extent in reversed(shape[1:]):
        strides.insert(0, strides[0] * extent)
    found = [ZERO] * len(shape)
    for term in linear.terms:
        place = _place(term, axes.sizes[term.axis], shape, strides, node)
        step = Term(term.axis, term.stride // strides[place])
        found[place] = plus(found[place], Index(Size.of(0), (step,)))
    return tuple(found)


def _place(
    term: Term, extent: Size, shape: Sequence[Size], strides: Sequence[Size], node: Node
) -> int:
    """Which digit a term belongs to."""
    for place in reversed(range(len(shape))):
        end = strides[place] * shape[place]
        inside = _less(term.stride, end) or term.stride == strides[place]
        if shape[place].is_const(1) or not inside:
            continue
        if not strides[place].divides(term.stride):
            raise Cut(node)
        if _less_equal(term.stride * extent, end) or place == 0:
            return place
        inner = shape[place] if term.stride == strides[place] else end // term.stride
        if not term.stride.divides(end) or not inner.divides(extent):
            raise Cut(node)
        raise Split(term.axis, inner)
    raise Cut(node)


def _compare(a: Size, b: Size, test: Callable[[int, int], bool]) -> bool:
    count = max(len(a.values), len(b.values))
    left, right = (s.values * count if len(s.values) == 1 else s.values for s in (a, b))
    return all(test(x, y) for x, y in zip(left, right, strict=True))


def _less(a: Size, b: Size) -> bool:
    return _compare(a, b, lambda x, y: x < y)


def _less_equal(a: Size, b: Size) -> bool:
    return _compare(a, b, lambda x, y: x <= y)


def reshaped(where: Where, source: Node, target: Node, axes: Axes) -> Where:
    """The position in `source` of a position in its reshape `target`."""
    result: list[Index] = []
    i, j = len(source.shape), len(target.shape)
    while i > 0 or j > 0:
        low, high = i, j
        inner, outer = ONE, ONE
        while low == i or high == j or inner != outer:
            behind = outer != inner and _less_equal(outer, inner)
            if low > 0 and (low == i or high == 0 or not behind):
                low -= 1
                inner = inner * source.shape[low]
            elif high > 0:
                high -= 1
                outer = outer * target.shape[high]
            else:
                break
        if inner != outer:
            raise Cut(source)
        linear = flat(where[high:j], target.shape[high:j])
        group = source.shape[low:i]
        result = list(digits(linear, group, axes, source) if group else ()) + result
        i, j = low, high
    return tuple(result)


@dataclass
class Puller:
    """Pulls elements inside one region."""

    axes: Axes
    leaves: Mapping[Node, str]
    """Materialised nodes and their buffers."""
    root: Node
    outer: frozenset[str] | None = None
    """Axes outside all reductions; known once the first reduction is met."""
    inner: tuple[Axis, ...] = ()
    """The root's axes; those not in `outer` are shared with reductions of the same extents."""
    reductions: list[tuple[Reduction, tuple[Axis, ...]]] = field(default_factory=list)
    contract: tuple[Node, Where] | None = None
    nodes: set[Node] = field(default_factory=set)
    memo: dict[Any, Expr] = field(default_factory=dict)
    within: list[Node] = field(default_factory=list)
    """Reductions whose bodies are being pulled."""
    may_contract: bool = False
    numbers: dict[Node, int] = field(default_factory=dict)
    inside: Expr | None = None
    """What holds where there is an element: the windows that are being looked through."""

    def pull(self, node: Node, where: Where) -> Expr:
        """The element of `node` at `where`."""
        key = (node, key_of(where), self.inside)
        if key not in self.memo:
            self.memo[key] = self._pull(node, where)
        return self.memo[key]

    def _pull(self, node: Node, where: Where) -> Expr:
        if node.op == "const":
            return Const(node.dtype, node.attr[0])
        if node in self.leaves and (node is not self.root or node.op == "input"):
            return self._load(node, flat(where, node.shape))
        self.nodes.add(node)
        rule = getattr(self, f"_{node.op}", None)
        if rule is None:
            raise Cut(node)
        result: Expr = rule(node, where)
        return result

    def _load(self, node: Node, index: Index) -> Load:
        return Load(node.dtype, self.leaves[node], index, self.inside)

    def _map(self, node: Node, where: Where) -> Expr:
        args = tuple(self.pull(x, where) for x in node.inputs)
        return Call(node.dtype, node.attr[0], args)

    def _expand(self, node: Node, where: Where) -> Expr:
        source = node.inputs[0]
        tail = where[len(where) - len(source.shape) :]
        at = tuple(ZERO if s.is_const(1) else w for s, w in zip(source.shape, tail, strict=True))
        return self.pull(source, at)

    def _permute(self, node: Node, where: Where) -> Expr:
        at = [ZERO] * len(where)
        for position, dim in enumerate(node.attr):
            at[dim] = where[position]
        return self.pull(node.inputs[0], tuple(at))

    def _reshape(self, node: Node, where: Where) -> Expr:
        source = node.inputs[0]
        if source in self.leaves and source is not self.root:
            return self._load(source, flat(where, node.shape))
        return self.pull(source, reshaped(where, source, node, self.axes))

    def _slice(self, node: Node, where: Where) -> Expr:
        dim, begin, step = node.attr
        moved = plus(times(where[dim], Size.of(step)), Index(begin))
        return self.pull(node.inputs[0], (*where[:dim], moved, *where[dim + 1 :]))

    def _window(self, node: Node, where: Where) -> Expr:
        (dim, window), (source,) = node.attr, node.inputs
        at = plus(times(where[dim], window.step), times(where[-1], window.dilation))
        at = plus(at, Index(window.before * Size.of(-1)))
        inside = within(at, window, source.shape[dim])
        if not window.apart.is_const(1):
            element = Call("i32", "div", (Position("i32", at), number(window.apart)))
            at = Index(Size.of(0), (), (Jump(element, ONE),))
        outer = self.inside
        if inside is not None and outer is not None:
            self.inside = Call("bool", "and", (outer, inside))
        elif inside is not None:
            self.inside = inside
        value = self.pull(source, (*where[:dim], at, *where[dim + 1 : -1]))
        self.inside = outer
        if inside is None or isinstance(value, Load):
            return value
        return Call(value.dtype, "where", (inside, value, Const(value.dtype, 0)))

    def _iota(self, node: Node, where: Where) -> Expr:
        return Position(node.dtype, where[0])

    def _lookup(self, node: Node, where: Where) -> Expr:
        at: list[Index] = []
        for how in node.attr:
            if how[0] == "axis":
                at.append(where[how[1]])
            else:
                data = node.inputs[1 + how[1]]
                expr = self.pull(data, tuple(where[d] for d in how[2]))
                at.append(Index(Size.of(0), (), (Jump(expr, ONE),)))
        return self.pull(node.inputs[0], tuple(at))

    def _search(self, node: Node, where: Where) -> Expr:
        table, values = node.inputs
        size = table.shape[-1]
        self.axes.sizes[PROBE] = size
        probe = Index(Size.of(0), (Term(PROBE, ONE),))
        try:
            found = self.pull(table, (*where[: len(table.shape) - 1], probe))
        except Split as split:
            raise (Cut(table) if split.axis == PROBE else split) from split
        if not isinstance(found, Load) or any(PROBE in axes_of(c) for c in children(found)):
            raise Cut(table)
        terms = tuple(t for t in found.index.terms if t.axis != PROBE)
        first = replace(found, index=replace(found.index, terms=terms))
        lengths = tuple(number(s, "i64") for s in (found.index.stride(PROBE), size))
        return Call("i64", node.attr[0], (self.pull(values, where), first, *lengths))

    def _contract(self, node: Node, where: Where) -> Expr:
        if not self.may_contract or (self.contract and self.contract[0] is not node):
            raise Cut(node)
        if self.inside is not None:
            raise Cut(node)
        self.contract = (node, where)
        return Ref(node.dtype, "acc")

    def _reduce(self, node: Node, where: Where) -> Expr:
        used = frozenset(t.axis for w in where for t in w.terms)
        if self.inside is not None or any(w.jumps for w in where):
            raise Cut(node)
        if all(node.inputs[0].shape[dim].is_const(1) for dim in node.attr[1]):
            return self._only(node, where)
        if self.outer is None and not self.within:
            self.outer = used
        if used != self.outer:
            raise Cut(self._cheaper_cut(node, used))
        kind, dims = node.attr
        source = node.inputs[0]
        position, axes = self._over(node, where, dims)
        self.within.append(node)
        body = self.pull(source, position)
        self.within.pop()
        reduction = Reduction(f"r{len(self.reductions)}", kind, body, node.dtype)
        self.reductions.append((reduction, axes))
        return Ref(node.dtype, reduction.name)

    def _only(self, node: Node, where: Where) -> Expr:
        """A reduction over one element."""
        (kind, dims), (source,) = node.attr, node.inputs
        if kind.startswith("arg"):
            return Const(node.dtype, 0)
        rest = iter(where)
        at = tuple(ZERO if d in dims else next(rest) for d in range(len(source.shape)))
        value = self.pull(source, at)
        return value if value.dtype == node.dtype else Call(node.dtype, "cast", (value,))

    def _cheaper_cut(self, node: Node, used: frozenset[str]) -> Node:
        """Inside another reduction's body, its operand is smaller memory than many results."""
        if not self.within or not used:
            return node
        operand = self.within[-1].inputs[0]
        volume = [_volume(n) for n in (operand, node.inputs[0])]
        view = operand.op in ("reshape", "expand", "permute")
        return operand if volume[0] * 4 <= volume[1] and not view else node

    def _over(
        self, node: Node, where: Where, dims: tuple[int, ...]
    ) -> tuple[Where, tuple[Axis, ...]]:
        """The position in the reduced tensor, with axes over the reduced dimensions."""
        source = node.inputs[0]
        outer = self.outer or frozenset()
        remaining = tuple(a for a in self.inner if a.name not in outer)
        rest, position, axes = iter(where), [], []
        made = []
        for dim, extent in enumerate(source.shape):
            if dim not in dims:
                position.append(next(rest))
                continue
            at, fresh = self.axes.make(f"{self._name(node)}d{dim}", extent)
            made.append((dim, at))
            position.append(at)
            axes += fresh
        for same in (remaining, *(over for _, over in self.reductions)):
            if [a.size for a in axes] == [a.size for a in same]:
                renamed = {a.name: b.name for a, b in zip(axes, same, strict=True)}
                for dim, at in made:
                    terms = tuple(Term(renamed[t.axis], t.stride) for t in at.terms)
                    position[dim] = Index(at.offset, terms)
                return tuple(position), same
        return tuple(position), tuple(axes)

    def _name(self, node: Node) -> str:
        return f"k{self.numbers.setdefault(node, len(self.numbers))}"


def _volume(node: Node) -> int:
    return math.prod(extent.values[0] for extent in node.shape)
