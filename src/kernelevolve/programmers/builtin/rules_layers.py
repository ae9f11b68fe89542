"""How convolutions and batch norms become primitives that weights can be folded in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kernelevolve.programmers.builtin.convolutions import Convolution, convolution
from kernelevolve.programmers.builtin.ir import Size
from kernelevolve.programmers.builtin.prims import Builder, Node
from kernelevolve.programmers.builtin.rules import Rule, tensor
from kernelevolve.programmers.builtin.unify import Type


def _convolution(
    b: Builder,
    t: Type,
    x: Node,
    weight: Node,
    bias: Node | None,
    step: Sequence[Any],
    padding: Sequence[Any],
    dilation: Sequence[Any],
    transposed: bool,
    further: Sequence[Any],
    groups: Any,
) -> Node:
    rank = len(t.shape) - 2
    each = [_extents(values, rank) for values in (step, padding, dilation, further)]
    how = Convolution(each[0], each[1], each[2], transposed, each[3], _extent(groups))
    return convolution(b, t.shape, x, weight, bias, how)


def _extents(values: Sequence[Any], rank: int) -> tuple[Size, ...]:
    """One for each dimension, where one may stand for all."""
    return tuple(_extent(v) for v in (values if len(values) == rank else [*values] * rank))


def _extent(value: Any) -> Size:
    return value if isinstance(value, Size) else Size.of(value)


def _batch_norm(
    b: Builder,
    t: list[Type],
    x: Node,
    weight: Node | None,
    bias: Node | None,
    mean: Node,
    variance: Node,
    momentum: Any,
    eps: Any,
) -> list[Node]:
    """One scale and one shift for each channel, as the library computes it."""
    dtype = t[0].dtype if t[0].dtype in ("f32", "f64") else "f32"

    def m(fn: str, *operands: Node) -> Node:
        return b.map(fn, operands, dtype)

    def channels(values: Node) -> Node:
        return b.reshape(values, (*values.shape, *[Size.of(1)] * (len(x.shape) - 2)))

    deviation = m("sqrt", m("add", b.cast(variance, dtype), tensor(b, eps, dtype)))
    scale = m("div", b.const(1.0, dtype), deviation)
    if weight is not None:
        scale = m("mul", scale, b.cast(weight, dtype))
    shift = m("neg", m("mul", b.cast(mean, dtype), scale))
    if bias is not None:
        shift = m("add", b.cast(bias, dtype), shift)
    y = m("add", m("mul", b.cast(x, dtype), channels(scale)), channels(shift))
    saved = [b.expand(b.const(0.0, p.dtype), p.shape) for p in t[1:]]
    return [b.cast(y, t[0].dtype), *saved]


RULES: dict[str, Rule] = {
    "convolution": _convolution,
    "_native_batch_norm_legit_no_training": _batch_norm,
}
