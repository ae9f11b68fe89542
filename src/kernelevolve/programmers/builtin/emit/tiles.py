"""Expressions to Triton: blocks of values that broadcast, under the masks of their axes.

Every loop axis has a text, a block of positions with a dimension for each of the kernel's, most of
them of length one, and a mask where the block may reach past its extent. So expressions print as
they stand, and what lies outside is neither read nor written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

from kernelevolve.programmers.builtin.emit.expr import ARITHMETIC, Printer, Val
from kernelevolve.programmers.builtin.ir import (
    Axis,
    Call,
    Const,
    DType,
    Expr,
    Index,
    Load,
    Position,
    Size,
    Store,
    axes_of,
)
from kernelevolve.programmers.builtin.prims import numel

KIND = {
    "f32": "tl.float32", "f64": "tl.float64", "bf16": "tl.bfloat16", "f16": "tl.float16",
    "i64": "tl.int64", "i32": "tl.int32", "i16": "tl.int16", "i8": "tl.int8", "u8": "tl.uint8",
    "bool": "tl.int1",
}  # fmt: skip
INFIX = {
    "add": "+", "sub": "-", "mul": "*", "div": "/", "and": "&", "or": "|", "xor": "^",
    "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!=", "mod": "%",
}  # fmt: skip
FUNCTION = {
    "abs": "tl.abs", "min": "least_", "max": "most_", "exp": "tl.exp", "exp2": "tl.exp2",
    "expm1": "expm1_", "log": "tl.log", "log2": "tl.log2", "log1p": "log1p_", "sqrt": "tl.sqrt",
    "rsqrt": "tl.rsqrt", "tanh": "tanh_", "sigmoid": "sigmoid_", "erf": "tl.erf", "sin": "tl.sin",
    "cos": "tl.cos", "floor": "tl.floor", "ceil": "tl.ceil", "round": "rounded_",
    "trunc": "truncated_", "pow": "power_", "sign": "signed_", "where": "tl.where",
}  # fmt: skip
INTEGERS = frozenset({"i64", "i32", "i16", "i8", "u8"})


def text_of(size: Size) -> str:
    """A size as Python, on either side of a launch."""
    return size.expr.replace("/", "//")


@dataclass(frozen=True)
class Run:
    """Axes that one block of row-major numbers goes through."""

    name: str
    axes: tuple[Axis, ...]
    after: str = ""
    """What follows the axes' names, where an axis of the same name went before."""

    def decoded(self) -> list[str]:
        """Statements that take the number apart."""
        lines, rest = [], self.name
        for at, axis in reversed(list(enumerate(self.axes))):
            if all(a.size.is_const(1) for a in self.axes[:at]):
                lines.append(f"{axis.name}{self.after} = {rest}")
                rest = f"{self.name} * 0"
            else:
                lines.append(f"{axis.name}{self.after} = {rest} % ({text_of(axis.size)})")
                over = f"{axis.name}_over{self.after}"
                lines.append(f"{over} = {rest} // ({text_of(axis.size)})")
                rest = over
        return lines

    def stride(self, index: Index) -> Size | None:
        """How far a step of the number is where `index` goes through the axes in their order."""
        if len(self.axes) < 2:
            return None
        step = index.stride(self.axes[-1].name)
        expected = step
        for axis in reversed(self.axes):
            if not axis.size.is_const(1) and not index.stride(axis.name).matches(expected):
                return None
            expected = expected * axis.size
        return None if step.is_const(0) else step


class TilePrinter(Printer):
    """Prints expressions as statements over blocks."""

    def __init__(self) -> None:
        super().__init__(None)
        self.masks: dict[str, str] = {}
        """Of each axis whose block may reach past its extent."""
        self.runs: list[Run] = []
        self.held: dict[str, str] = {}
        """Names of blocks that stand for buffers which never become memory."""
        self.numbers_given: dict[tuple[str, DType], str] = {}
        """Numbers that sizes decide, and the arguments that hold them."""

    def named(self, name: str, text: str) -> str:
        return f"{name} = {text}"

    def begin(self, run: Run, mask: str = "") -> None:
        """Enter a scope in which a number goes through a block, under a mask."""
        self.open(*(a.name for a in run.axes))
        self.runs.append(run)
        self.text_of |= {a.name: f"{a.name}{run.after}" for a in run.axes}
        if mask:
            self.masks |= {a.name: mask for a in run.axes}
        for line in run.decoded():
            self.line(line)

    def mask(self, axes: frozenset[str]) -> str:
        """What is inside all of these axes; empty where everything is."""
        parts = dict.fromkeys(self.masks[a] for a in sorted(axes) if a in self.masks)
        return " & ".join(parts)

    def raw(self, load: Load) -> str:
        """One block of a buffer as it lies in memory."""
        if load.buffer in self.held:
            return self.held[load.buffer]
        pointer = f"{load.buffer} + {self.offset(load.index)}"
        mask = self.mask(axes_of(load))
        if load.inside is not None:
            inside = self.value(load.inside).text
            mask = f"{mask} & {inside}" if mask else inside
        return f"tl.load({pointer}, mask={mask}, other=0)" if mask else f"tl.load({pointer})"

    def offset(self, index: Index) -> str:
        """An index as a block."""
        parts = [] if index.offset.constant == 0 else [text_of(index.offset)]
        left = {t.axis for t in index.terms if not t.stride.is_const(0)}
        for run in self.runs:
            if left.issuperset(a.name for a in run.axes if not a.size.is_const(1)):
                step = run.stride(index)
                if step is not None:
                    parts.append(_times(run.name, step))
                    left -= {a.name for a in run.axes}
        parts += [
            _times(self.text_of.get(t.axis, t.axis), t.stride)
            for t in index.terms
            if t.axis in left
        ]
        parts += [_times(self.value(j.where).text, j.stride) for j in index.jumps]
        return "(" + (" + ".join(parts) or "0") + ")"

    def write(self, store: Store, blocks: Sequence[str], masks: Sequence[str]) -> None:
        """Store a block that goes through all the numbers `blocks`, where `masks` hold."""
        value = self.convert(self.value(store.value), ARITHMETIC[store.dtype]).text
        if store.dtype != ARITHMETIC[store.dtype]:
            value = f"tl.cast({value}, {KIND[store.dtype]})"
        missing = [f"{b} * 0" for b in blocks if not self._goes_through(store.index, b)]
        offset = " + ".join([self.offset(store.index), *missing])
        tail = f", mask={' & '.join(masks)}" if masks else ""
        self.line(f"tl.store({store.buffer} + ({offset}), {value}{tail})")

    def _goes_through(self, index: Index, block: str) -> bool:
        axes = {a.name for run in self.runs if run.name == block for a in run.axes}
        return any(t.axis in axes and not t.stride.is_const(0) for t in index.terms)

    def convert(self, val: Val, to: DType) -> Val:
        """`val` as another arithmetic type."""
        if val.dtype == to:
            return val
        return Val(_cast(val.text, to), False, to)

    def _known(self, expr: Expr) -> Val | None:
        if isinstance(expr, Const) and not isinstance(expr.value, str):
            dtype = ARITHMETIC[expr.dtype]
            return Val(literal(expr.value, dtype), False, dtype)
        return super()._known(expr)

    def _text(self, expr: Expr) -> tuple[str, bool]:
        if isinstance(expr, Load):
            own, wide = expr.dtype, ARITHMETIC[expr.dtype]
            text = self.raw(expr)
            return (text if own == wide else _cast(text, wide)), False
        if isinstance(expr, Const):
            return self.argument(str(expr.value), ARITHMETIC[expr.dtype]), False
        if isinstance(expr, Position):
            return _cast(self.offset(expr.index), ARITHMETIC[expr.dtype]), False
        assert isinstance(expr, Call)
        return self._called(expr), False

    def argument(self, value: str, dtype: DType) -> str:
        """A number that the sizes decide, as an argument."""
        key = (value, dtype)
        name = self.numbers_given.setdefault(key, f"number{len(self.numbers_given)}")
        return _cast(name, dtype)

    def _called(self, call: Call) -> str:
        values = [self.value(a) for a in call.args]
        dtype = ARITHMETIC[call.dtype]
        if call.fn == "cast":
            return _cast(values[0].text, dtype)
        args = [v.text for v in values]
        first = 1 if call.fn == "where" else 0
        if all(isinstance(a, Const) for a in call.args[first:]):
            args[first] = f"tl.full([], {args[first]}, {KIND[values[first].dtype]})"
        return spelled(call.fn, args, dtype)


def spelled(fn: str, args: Sequence[str], dtype: DType) -> str:
    """A scalar function of scalars or blocks."""
    if fn == "div" and dtype in INTEGERS:
        return f"{args[0]} // {args[1]}"
    if fn in INFIX:
        return f"{args[0]} {INFIX[fn]} {args[1]}"
    if fn == "neg":
        return f"-{args[0]}"
    if fn == "not":
        return f"{args[0]} == 0"
    if fn == "erf1p":
        return f"1.0 + tl.erf({args[0]})"
    if fn == "sign" and dtype in INTEGERS:
        return f"tl.cast({args[0]} > 0, {KIND[dtype]}) - tl.cast({args[0]} < 0, {KIND[dtype]})"
    return f"{FUNCTION[fn]}({', '.join(args)})"


def literal(value: float | int | bool | str, dtype: DType) -> str:
    """A constant of an arithmetic type."""
    if dtype == "bool":
        return f"tl.full([], {bool(value)}, tl.int1)"
    if dtype in INTEGERS:
        return f"({int(value)})"
    number = float(value)
    if dtype == "f64":
        return f'tl.full([], float("{number!r}"), tl.float64)'
    return f"({number!r})" if isfinite(number) else f'float("{number!r}")'


def _cast(text: str, to: DType) -> str:
    return f"({text} != 0)" if to == "bool" else f"tl.cast({text}, {KIND[to]})"


def _times(text: str, stride: Size) -> str:
    return text if stride.constant == 1 else f"{text} * ({text_of(stride)})"


def points(axes: Sequence[Axis]) -> Size:
    """How many points the axes have together."""
    return numel(tuple(a.size for a in axes))
