"""How pointwise, creating and viewing ATen operators become primitives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from kernelevolve.programmers.builtin.ir import Size
from kernelevolve.programmers.builtin.prims import FLOATS, Builder, Node, numel
from kernelevolve.programmers.builtin.unify import Type

Rule: TypeAlias = Callable[..., Node | list[Node]]
RULES: dict[str, Rule] = {}

UNARY = {
    "neg": "neg", "abs": "abs", "exp": "exp", "exp2": "exp2", "expm1": "expm1", "log": "log",
    "log2": "log2", "log1p": "log1p", "sqrt": "sqrt", "rsqrt": "rsqrt", "tanh": "tanh",
    "sigmoid": "sigmoid", "erf": "erf", "sin": "sin", "cos": "cos", "floor": "floor",
    "ceil": "ceil", "round": "round", "trunc": "trunc", "sign": "sign",
    "bitwise_not": "not", "logical_not": "not",
}  # fmt: skip
ARITHMETIC = {"mul": "mul", "maximum": "max", "minimum": "min"}
BOOLEAN = {"add": "or", "mul": "and", "max": "or", "min": "and"}
"""What arithmetic is between truth values."""
COMPARE = {"lt": "lt", "le": "le", "gt": "gt", "ge": "ge", "eq": "eq", "ne": "ne"}
LOGIC = {"logical_and": "and", "logical_or": "or", "logical_xor": "xor",
         "bitwise_and": "and", "bitwise_or": "or", "bitwise_xor": "xor"}  # fmt: skip
SAME = ("clone", "alias", "detach", "contiguous", "lift_fresh_copy", "detach_copy", "dropout")
RESHAPE = ("view", "reshape", "_unsafe_view", "unsqueeze", "squeeze", "flatten")
RANK = ("bool", "u8", "i8", "i16", "i32", "i64", "f16", "bf16", "f32", "f64")


class NoRule(Exception):
    """This operator, with these arguments, is left to the library."""


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Register the lowering of these ATen operators."""

    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, function))
        return function

    return register


def tensor(b: Builder, value: Any, dtype: str) -> Node:
    """An operand in `dtype`: a node, a number or a size."""
    if isinstance(value, Node):
        return b.cast(value, dtype)
    if isinstance(value, Size):
        return b.size(value, dtype)
    return b.const(value if isinstance(value, str) or dtype in FLOATS else value, dtype)


def promoted(a: Any, c: Any) -> str:
    """The dtype in which two operands are compared."""
    kinds = [v.dtype for v in (a, c) if isinstance(v, Node)]
    if any(isinstance(v, float) for v in (a, c)) and all(k not in FLOATS for k in kinds):
        kinds.append("f32")
    return max(kinds, key=RANK.index)


def _register_maps() -> None:
    for name, fn in UNARY.items():
        RULES[name] = lambda b, t, x, fn=fn: b.map(fn, [b.cast(x, t.dtype)], t.dtype)
    for name, fn in ARITHMETIC.items():
        RULES[name] = lambda b, t, x, y, fn=fn: b.map(
            BOOLEAN[fn] if t.dtype == "bool" else fn,
            [tensor(b, x, t.dtype), tensor(b, y, t.dtype)],
            t.dtype,
        )
    for name, fn in COMPARE.items():
        RULES[name] = lambda b, t, x, y, fn=fn: b.map(
            fn, [tensor(b, v, promoted(x, y)) for v in (x, y)], "bool"
        )
    for name, fn in LOGIC.items():
        RULES[name] = lambda b, t, x, y, fn=fn: b.map(
            fn, [tensor(b, x, t.dtype), tensor(b, y, t.dtype)], t.dtype
        )
    for name in SAME:
        RULES[name] = lambda b, t, x, *rest, **options: x
    for name in RESHAPE:
        RULES[name] = lambda b, t, x, *rest, **options: b.reshape(x, t.shape)


_register_maps()


@rule("add", "sub")
def _add(b: Builder, t: Type, x: Any, y: Any, alpha: Any = 1, fn: str = "add") -> Node:
    scaled = tensor(b, y, t.dtype)
    if t.dtype == "bool" and alpha == 1:
        return b.map(BOOLEAN[fn], [tensor(b, x, t.dtype), scaled], t.dtype)
    if alpha != 1:
        scaled = b.map("mul", [scaled, tensor(b, alpha, t.dtype)], t.dtype)
    return b.map(fn, [tensor(b, x, t.dtype), scaled], t.dtype)


RULES["sub"] = lambda b, t, x, y, alpha=1: _add(b, t, x, y, alpha, "sub")
RULES["rsub"] = lambda b, t, x, y, alpha=1: _add(b, t, y, x, alpha, "sub")


def _rest(b: Builder, dtype: str, x: Any, y: Any, *, floor: bool) -> Node:
    """What an integer division by a positive number leaves; of numbers below 0 where it rounds."""
    if dtype in FLOATS or not isinstance(x, Node) or not isinstance(y, int | Size):
        raise NoRule("a remainder of floats, or by a tensor")
    if isinstance(y, int) and y <= 0:
        raise NoRule("division by what is not positive")
    by = tensor(b, y, dtype)
    rest = b.map("mod", [b.cast(x, dtype), by], dtype)
    if not floor:
        return rest
    below = b.map("lt", [rest, b.const(0, dtype)], "bool")
    return b.map("where", [below, b.map("add", [rest, by], dtype), rest], dtype)


@rule("remainder")
def _remainder(b: Builder, t: Type, x: Any, y: Any) -> Node:
    return _rest(b, t.dtype, x, y, floor=True)


@rule("floor_divide")
def _floor_divide(b: Builder, t: Type, x: Any, y: Any, *, floor: bool = True) -> Node:
    whole = b.map("sub", [tensor(b, x, t.dtype), _rest(b, t.dtype, x, y, floor=floor)], t.dtype)
    return b.map("div", [whole, tensor(b, y, t.dtype)], t.dtype)


@rule("div")
def _div(b: Builder, t: Type, x: Any, y: Any, rounding_mode: str | None = None) -> Any:
    if rounding_mode is not None and t.dtype not in FLOATS:
        return _floor_divide(b, t, x, y, floor=rounding_mode == "floor")
    quotient = b.map("div", [tensor(b, x, t.dtype), tensor(b, y, t.dtype)], t.dtype)
    if rounding_mode is None:
        return quotient
    return b.map("floor" if rounding_mode == "floor" else "trunc", [quotient], t.dtype)


@rule("isnan")
def _isnan(b: Builder, t: Type, x: Node) -> Node:
    return b.map("ne", [x, x], "bool")


@rule("reciprocal")
def _reciprocal(b: Builder, t: Type, x: Node) -> Node:
    return b.map("div", [b.const(1.0, t.dtype), b.cast(x, t.dtype)], t.dtype)


@rule("relu")
def _relu(b: Builder, t: Type, x: Node) -> Node:
    return b.map("max", [b.const(0 if t.dtype not in FLOATS else 0.0, t.dtype), x], t.dtype)


@rule("clamp", "clamp_min", "clamp_max", "hardtanh")
def _clamp(b: Builder, t: Type, x: Node, low: Any = None, high: Any = None) -> Node:
    x = b.cast(x, t.dtype)
    if low is not None:
        x = b.map("max", [tensor(b, low, t.dtype), x], t.dtype)
    if high is not None:
        x = b.map("min", [tensor(b, high, t.dtype), x], t.dtype)
    return x


RULES["clamp_max"] = lambda b, t, x, high: _clamp(b, t, x, None, high)


@rule("pow")
def _pow(b: Builder, t: Type, x: Any, y: Any) -> Node:
    if not isinstance(x, Node):
        raise NoRule("scalar base")
    x = b.cast(x, t.dtype)
    if y in (2, 3):
        square = b.map("mul", [x, x], t.dtype)
        return square if y == 2 else b.map("mul", [square, x], t.dtype)
    if t.dtype not in FLOATS:
        raise NoRule("integer power")
    if y in (0.5, -0.5):
        return b.map("sqrt" if y > 0 else "rsqrt", [x], t.dtype)
    if y == -1:
        return b.map("div", [b.const(1.0, t.dtype), x], t.dtype)
    return b.map("pow", [x, tensor(b, y, t.dtype)], t.dtype)


@rule("where")
def _where(b: Builder, t: Type, condition: Node, x: Any, y: Any) -> Node:
    operands = [b.cast(condition, "bool"), tensor(b, x, t.dtype), tensor(b, y, t.dtype)]
    return b.map("where", operands, t.dtype)


@rule("gelu")
def _gelu(b: Builder, t: Type, x: Node, approximate: str = "none") -> Node:
    def c(value: float) -> Node:
        return b.const(value, t.dtype)

    def m(fn: str, *operands: Node) -> Node:
        return b.map(fn, operands, t.dtype)

    half = m("mul", x, c(0.5))
    if approximate == "none":
        return m("mul", half, m("erf1p", m("mul", x, c(0.7071067811865476))))
    cube = m("mul", m("mul", x, x), x)
    inner = m("mul", m("add", x, m("mul", cube, c(0.044715))), c(0.7978845608028654))
    return m("mul", half, m("add", m("tanh", inner), c(1.0)))


@rule("_to_copy", "to")
def _to_copy(b: Builder, t: Type, x: Node, **options: Any) -> Node:
    return b.cast(x, t.dtype)


@rule("full", "full_like", "zeros", "ones", "zeros_like", "ones_like", "scalar_tensor")
def _full(b: Builder, t: Type, *args: Any, **options: Any) -> Node:
    return b.expand(tensor(b, args[-1], t.dtype), t.shape)


RULES["zeros"] = RULES["zeros_like"] = lambda b, t, *a, **k: _full(b, t, 0)
RULES["ones"] = RULES["ones_like"] = lambda b, t, *a, **k: _full(b, t, 1)


@rule("arange")
def _arange(b: Builder, t: Type, *args: Any, **options: Any) -> Node:
    start, step = (args[0] if len(args) > 1 else 0), (args[2] if len(args) > 2 else 1)
    ramp = b.cast(b.node("iota", (), t.shape, "i64"), t.dtype)
    ramp = b.map("mul", [ramp, tensor(b, step, t.dtype)], t.dtype)
    return b.map("add", [ramp, tensor(b, start, t.dtype)], t.dtype)


@rule("expand", "broadcast_to")
def _expand(b: Builder, t: Type, x: Node, *rest: Any, **options: Any) -> Node:
    return b.expand(x, t.shape)


@rule("permute")
def _permute(b: Builder, t: Type, x: Node, order: Sequence[int]) -> Node:
    return b.permute(x, [d % len(x.shape) for d in order])


@rule("transpose")
def _transpose(b: Builder, t: Type, x: Node, d0: int, d1: int) -> Node:
    order = list(range(len(x.shape)))
    order[d0], order[d1] = order[d1], order[d0]
    return b.permute(x, order)


@rule("t")
def _t(b: Builder, t: Type, x: Node) -> Node:
    return b.permute(x, list(reversed(range(len(x.shape)))))


@rule("as_strided")
def _as_strided(
    b: Builder, t: Type, x: Node, shape: Any, strides: Sequence[Any], offset: Any = 0
) -> Node:
    expected = Size.of(1)
    for extent, stride in zip(reversed(t.shape), reversed(strides), strict=True):
        if _size(stride) != expected and not extent.is_const(1):
            raise NoRule("not a reshape")
        expected = expected * extent
    if expected != numel(x.shape) or offset not in (0, None):
        raise NoRule("not a reshape")
    return b.reshape(x, t.shape)


def _size(value: Any) -> Size:
    return value if isinstance(value, Size) else Size.of(value)
