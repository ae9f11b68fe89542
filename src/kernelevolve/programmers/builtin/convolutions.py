"""Convolutions: a library call, or windows of the input times the weight.

The rows of the product are all positions of the output, its terms the taps and, within each, the
channels of a group; nothing of the windows becomes memory. Where a group has one channel there is
no product, but a sum over taps that fuses like any other value.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from kernelevolve.programmers.builtin.ir import Size
from kernelevolve.programmers.builtin.prims import (
    FLOATS,
    Builder,
    Node,
    Window,
    numel,
)

CALL = "torch.ops.aten.convolution.default"
MOST_TAPS = 64
"""Of a sum that is written out."""
ONE = Size.of(1)


@dataclass(frozen=True)
class Convolution:
    """How windows lie, in each dimension."""

    step: tuple[Size, ...]
    padding: tuple[Size, ...]
    dilation: tuple[Size, ...]
    transposed: bool
    further: tuple[Size, ...]
    """What a transposed one has at its end; part of the output's shape."""
    groups: Size

    @property
    def text(self) -> str:
        """The library's arguments after the tensors."""
        step, padding, dilation, further = (
            f"[{', '.join(map(_python, sizes))}]"
            for sizes in (self.step, self.padding, self.dilation, self.further)
        )
        last = f"{self.transposed}, {further}, {_python(self.groups)}"
        return f"{step}, {padding}, {dilation}, {last}"

    def window(self, dim: int, taps: Size) -> Window:
        """The windows along a dimension; of a transposed one, for taps in reverse order."""
        step, before, dilation = self.step[dim], self.padding[dim], self.dilation[dim]
        if not self.transposed:
            return Window(step, dilation, before, ONE, before.constant == 0)
        reach = dilation * (taps + Size.of(-1))
        return Window(ONE, dilation, reach + before * Size.of(-1), step, False)


def convolution(
    build: Builder,
    shape: Sequence[Size],
    x: Node,
    weight: Node,
    bias: Node | None,
    how: Convolution,
) -> Node:
    """The library's convolution."""
    inputs = [x, weight] if bias is None else [x, weight, bias]
    third = "None" if bias is None else "{2}"
    return build.node(
        "opaque", inputs, shape, x.dtype, (f"{CALL}({{0}}, {{1}}, {third}, {how.text})", 0, how)
    )


def is_convolution(node: Node) -> bool:
    """Tell whether `convolution` made this node."""
    return node.op == "opaque" and node.attr[0].startswith(CALL)


def windowed(product: Node) -> bool:
    """Tell whether a product is a convolution."""
    node = product.inputs[0]
    while node.op in ("reshape", "permute"):
        node = node.inputs[0]
    return node.op == "window"


def primitives(b: Builder, node: Node) -> Node | None:
    """A convolution in other primitives; None for what is none."""
    if not is_convolution(node) or node.dtype not in FLOATS:
        return None
    x, weight, *bias = node.inputs
    how: Convolution = node.attr[2]
    windows = _windows(b, x, weight.shape[2:], node.shape, how)
    alone = windows.shape[2].is_const(1) and not how.groups.is_const(1)
    made = (_sums if alone else _product)(b, windows, weight, node, how)
    for term in bias:
        channels = b.reshape(term, (*term.shape, *[ONE] * (len(node.shape) - 2)))
        made = b.map("add", [made, channels], node.dtype)
    return made


def _windows(
    b: Builder, x: Node, taps: Sequence[Size], shape: Sequence[Size], how: Convolution
) -> Node:
    """[batch, group, channel of the group, positions, taps]."""
    batch, channels, *extents = x.shape
    found = b.reshape(x, (batch, how.groups, channels // how.groups, *extents))
    for dim, (position, tap) in enumerate(zip(shape[2:], taps, strict=True)):
        place = dim + 3
        wide = (*found.shape[:place], position, *found.shape[place + 1 :], tap)
        found = b.node("window", [found], wide, x.dtype, (place, how.window(dim, tap)))
    return found


def _product(b: Builder, windows: Node, weight: Node, node: Node, how: Convolution) -> Node:
    batch, groups, channels = windows.shape[:3]
    rank = len(node.shape) - 2
    positions, taps = node.shape[2:], weight.shape[2:]
    order = (1, 0, *range(3, 3 + 2 * rank), 2)
    rows, terms = batch * numel(positions), numel(taps) * channels
    left = b.reshape(b.permute(windows, order), (groups, rows, terms))
    right = _packed(b, weight, (groups, node.shape[1] // groups, terms), channels, how)
    shape = (groups, rows, right.shape[-1])
    made = b.node("contract", [left, right], shape, node.dtype)
    apart = b.reshape(made, (groups, batch, *positions, shape[-1]))
    inner = b.permute(apart, (1, 0, 2 + rank, *range(2, 2 + rank)))
    return b.reshape(inner, node.shape)


def _packed(
    b: Builder, weight: Node, shape: tuple[Size, ...], channels: Size, how: Convolution
) -> Node:
    """The weight as [group, term, output of the group], terms side by side in memory."""
    groups, outputs, _ = shape
    taps = weight.shape[2:]
    tap_dims = tuple(range(3, 3 + len(taps)))
    if how.transposed:
        lead, order, flipped = (groups, channels, outputs), (0, 2, *tap_dims, 1), f".flip{tap_dims}"
    else:
        lead, order, flipped = (groups, outputs, channels), (0, 1, *tap_dims, 2), ""
    text = f"{{0}}.reshape({_list((*lead, *taps))}){flipped}.permute{order}.reshape({_list(shape)})"
    packed = b.node("opaque", [weight], shape, weight.dtype, (f"{text}.contiguous()", 0))
    return b.permute(packed, (0, 2, 1))


def _sums(b: Builder, windows: Node, weight: Node, node: Node, how: Convolution) -> Node:
    """Where every group has one channel: the sum over taps, written out where they are few."""
    batch, groups, _, *rest = windows.shape
    rank, taps = len(node.shape) - 2, weight.shape[2:]
    positions = rest[:rank]
    wide = "f64" if node.dtype == "f64" else "f32"
    outputs = node.shape[1] // groups
    filters = b.reshape(weight, (groups, outputs, *taps))
    for dim in range(2, 2 + rank) if how.transposed else ():
        reverse = (dim, filters.shape[dim] + Size.of(-1), -1)
        filters = b.node("slice", [filters], filters.shape, weight.dtype, reverse)
    counts = [t.constant for t in taps]
    few = [c for c in counts if c is not None]
    if len(few) == len(counts) and numel(taps).values[0] <= MOST_TAPS:
        total = None
        for at in product(*map(range, few)):
            one = b.reshape(_at(b, windows, at), (batch, groups, ONE, *positions))
            by = b.reshape(_at(b, filters, at), (groups, outputs, *[ONE] * rank))
            term = b.map("mul", [b.cast(one, wide), b.cast(by, wide)], wide)
            total = term if total is None else b.map("add", [total, term], wide)
        assert total is not None
    else:
        by = b.reshape(filters, (groups, outputs, *[ONE] * rank, *taps))
        terms = b.map("mul", [b.cast(windows, wide), b.cast(by, wide)], wide)
        total = b.reduce("sum", terms, range(3 + rank, 3 + 2 * rank))
    return b.reshape(b.cast(total, node.dtype), node.shape)


def _at(b: Builder, x: Node, taps: Sequence[int]) -> Node:
    """One tap of the last dimensions, which stay with a length of one."""
    first = len(x.shape) - len(taps)
    for dim, tap in enumerate(taps, first):
        shape = (*x.shape[:dim], ONE, *x.shape[dim + 1 :])
        x = b.node("slice", [x], shape, x.dtype, (dim, Size.of(tap), 1))
    return x


def _list(sizes: Sequence[Size]) -> str:
    return ", ".join(map(_python, sizes))


def _python(size: Size) -> str:
    return size.expr.replace("/", "//")
