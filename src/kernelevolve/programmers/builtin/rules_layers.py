"""How convolutions and batch norms become primitives that weights can be folded in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kernelevolve.programmers.builtin.ir import Size
from kernelevolve.programmers.builtin.prims import Builder, Node
from kernelevolve.programmers.builtin.rules import Rule, tensor
from kernelevolve.programmers.builtin.unify import Type

CONVOLUTION = "torch.ops.aten.convolution.default"


def convolution(
    build: Builder,
    shape: Sequence[Size],
    x: Node,
    weight: Node,
    bias: Node | None,
    how: str,
    transposed: bool,
    groups: Size,
) -> Node:
    """The library's convolution; `how` is the Python text of what follows the tensors."""
    inputs = [x, weight] if bias is None else [x, weight, bias]
    third = "None" if bias is None else "{2}"
    text = f"{CONVOLUTION}({{0}}, {{1}}, {third}, {how})"
    return build.node("opaque", inputs, shape, x.dtype, (text, 0, how, transposed, groups))


def is_convolution(node: Node) -> bool:
    """Tell whether `convolution` made this node."""
    return node.op == "opaque" and node.attr[0].startswith(CONVOLUTION)


def _convolution(
    b: Builder, t: Type, x: Node, weight: Node, bias: Node | None, *options: Any
) -> Node:
    how = ", ".join(_text(o) for o in options)
    transposed, groups = options[3], options[5]
    groups = groups if isinstance(groups, Size) else Size.of(groups)
    return convolution(b, t.shape, x, weight, bias, how, transposed, groups)


def _text(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(_text(v) for v in value) + "]"
    return value.expr.replace("/", "//") if isinstance(value, Size) else repr(value)


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
