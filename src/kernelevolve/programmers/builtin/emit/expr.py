"""Expressions to C++: scalar, or vectors of W lanes along one axis, hoisted out of loops.

A printer holds a stack of scopes, one per open loop. Each subexpression becomes one statement in
the outermost scope that has everything it needs, so what does not change in a loop is not computed
in it. All values are of an arithmetic type (`vectors.h`); masks stand for vectors of bool.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.resources import files
from itertools import count
from typing import NamedTuple

from kernelevolve.programmers.builtin.ir import (
    Call,
    Const,
    DType,
    Expr,
    Index,
    Load,
    Position,
    Ref,
    Size,
    Store,
    children,
    walk,
)

STORAGE = {
    "f32": "float", "f64": "double", "bf16": "bf16_t", "f16": "f16_t", "i64": "int64_t",
    "i32": "int32_t", "i16": "int16_t", "i8": "int8_t", "u8": "uint8_t", "bool": "bool",
}  # fmt: skip
ARITHMETIC: dict[DType, DType] = {
    "f32": "f32", "f64": "f64", "bf16": "f32", "f16": "f32", "i64": "i64",
    "i32": "i32", "i16": "i32", "i8": "i32", "u8": "i32", "bool": "bool",
}  # fmt: skip
VECTOR = {"f32": "vf32", "f64": "vf64", "i64": "vi64", "i32": "vi32", "bool": "vi32"}
BYTES = {"f32": 4, "f64": 8, "bf16": 2, "f16": 2, "i64": 8, "i32": 4, "i16": 2, "i8": 1, "u8": 1,
         "bool": 1}  # fmt: skip

INFIX = {"add": "+", "sub": "-", "mul": "*", "div": "/"}
LOGIC = {"and": "&", "or": "|", "xor": "^"}
COMPARE = frozenset({"lt", "le", "gt", "ge", "eq", "ne"})
FUNCTION = {
    "abs": "vabs", "min": "vmin", "max": "vmax", "exp": "vexp", "exp2": "vexp2",
    "expm1": "vexpm1", "log": "vlog", "log2": "vlog2", "log1p": "vlog1p", "sqrt": "vsqrt",
    "tanh": "vtanh", "sigmoid": "vsigmoid", "erf": "verf", "erf1p": "verf1p",
    "sin": "vsin", "cos": "vcos",
    "floor": "vfloor", "ceil": "vceil", "round": "vround", "trunc": "vtrunc", "pow": "vpow",
    "sign": "vsign", "where": "sel",
}  # fmt: skip
SUPPORTED = frozenset({*INFIX, *LOGIC, *COMPARE, *FUNCTION, "neg", "not", "rsqrt", "cast"})


def prelude(width: int, fast_math: bool) -> str:
    """What precedes all emitted code: vectors of `width` lanes and elementary functions."""
    folder = files("kernelevolve.programmers.builtin.emit")
    texts = [folder.joinpath(name).read_text() for name in ("vectors.h", "math.h")]
    return f"#define W {width}\n#define FAST_MATH {int(fast_math)}\n" + "\n".join(texts)


class Val(NamedTuple):
    """A C++ name and what it holds."""

    text: str
    vector: bool
    dtype: DType
    """An arithmetic type."""


@dataclass
class Scope:
    """The statements of one loop body, and what is already computed in it."""

    axes: frozenset[str] = frozenset()
    lines: list[str] = field(default_factory=list)
    memo: dict[Expr, Val] = field(default_factory=dict)
    splats: dict[str, str] = field(default_factory=dict)


class Printer:
    """Prints expressions as statements; `lane` is the axis that the W lanes run along."""

    def __init__(self, lane: str | None, numbers: count[int] | None = None) -> None:
        self.lane = lane
        self.lanes: str | None = None
        """C++ name of the number of active lanes in a tail, None where all are."""
        self.scopes = [Scope()]
        self.text_of: dict[str, str] = {}
        """How an axis is written, where not by its name (`(j + 16)` in an unrolled copy)."""
        self.refs: dict[str, tuple[Val, int]] = {}
        self.numbers = numbers or count()
        self.reciprocals = False
        """Divide by what does not change in a loop by multiplying with its reciprocal."""
        self._inverse: dict[Expr, Call] = {}

    def open(self, *axes: str) -> None:
        """Enter a loop over `axes`."""
        self.scopes.append(Scope(axes=frozenset(axes)))

    def close(self) -> list[str]:
        """Leave the innermost loop and get its statements."""
        return self.scopes.pop().lines

    def fresh(self, prefix: str = "t") -> str:
        """An unused C++ name."""
        return f"{prefix}{next(self.numbers)}"

    def named(self, name: str, text: str) -> str:
        """A statement that gives a value a name."""
        return f"auto {name} = {text};"

    def bind(self, name: str, text: str, vector: bool, dtype: DType) -> None:
        """Say what `Ref(name)` is from here on, inside the innermost open loop."""
        self.refs[name] = (Val(text, vector, ARITHMETIC[dtype]), len(self.scopes) - 1)

    def line(self, text: str) -> None:
        """Add a statement to the innermost open loop."""
        self.scopes[-1].lines.append(text)

    def value(self, expr: Expr) -> Val:
        """Compute `expr`; statements go to the outermost scope that can hold them."""
        found = self._known(expr)
        if found is None:
            for child in children(expr):
                self.value(child)
            self._compute(expr)
            found = self._known(expr)
        assert found is not None
        return found

    def vector(self, val: Val) -> str:
        """`val` as a vector, splatted where it is a scalar."""
        if val.vector or self.lane is None:
            return val.text
        for scope in self.scopes:
            if val.text in scope.splats:
                return scope.splats[val.text]
        scope = self._scope_defining(val)
        make = "mask" if val.dtype == "bool" else f"splat<{VECTOR[val.dtype]}>"
        name = self.fresh()
        scope.lines.append(f"auto {name} = {make}({val.text});")
        scope.splats[val.text] = name
        return name

    def store(self, store: Store, streaming: bool = False) -> None:
        """Write a store into the innermost scope."""
        val = self.convert(self.value(store.value), ARITHMETIC[store.dtype])
        stride = self._lane_stride(store.index)
        address = f"{store.buffer} + {self.offset(store.index)}"
        if self.lane is None or stride.is_const(0):
            storage = STORAGE[store.dtype]
            arith = STORAGE[ARITHMETIC[store.dtype]]
            self.line(f"*({address}) = narrow<{storage}, {arith}>({val.text});")
            return
        lanes = f", {self.lanes}" if self.lanes else ""
        vector = self.vector(val)
        if stride.constant == 1:
            write = "stream" if streaming and not lanes else "st"
            self.line(f"{write}({address}, {vector}{lanes});")
        else:
            self.line(f"scatter({address}, {stride.expr}, {vector}, {self.lanes or 'W'});")

    def convert(self, val: Val, to: DType) -> Val:
        """`val` as another arithmetic type, as C casts do it."""
        if val.dtype == to:
            return val
        return Val(f"({_cast(val.text, val.dtype, to, val.vector)})", val.vector, to)

    def offset(self, index: Index) -> str:
        """The scalar part of an index, at the first lane."""
        parts = [] if index.offset.constant == 0 else [index.offset.expr]
        for term in index.terms:
            if not term.stride.is_const(0):
                axis = self.text_of.get(term.axis, term.axis)
                parts.append(axis if term.stride.constant == 1 else f"{axis} * {term.stride.expr}")
        for jump in index.jumps:
            at = self.value(jump.where)
            if not at.vector:
                scale = "" if jump.stride.constant == 1 else f" * {jump.stride.expr}"
                parts.append(f"(int64_t){at.text}{scale}")
        return "(" + (" + ".join(parts) or "0") + ")"

    def _lane_stride(self, index: Index) -> Size:
        return index.stride(self.lane) if self.lane is not None else Size.of(0)

    def _known(self, expr: Expr) -> Val | None:
        if isinstance(expr, Ref):
            return self.refs[expr.name][0]
        return next((s.memo[expr] for s in self.scopes if expr in s.memo), None)

    def _depth(self, expr: Expr) -> int:
        """The outermost scope in which everything that `expr` needs is defined."""
        depth = 0
        for node in walk(expr):
            if isinstance(node, Ref):
                depth = max(depth, self.refs[node.name][1])
            elif isinstance(node, Load | Position):
                for level, scope in enumerate(self.scopes):
                    if any(t.axis in scope.axes for t in node.index.terms):
                        depth = max(depth, level)
        return depth

    def _scope_defining(self, val: Val) -> Scope:
        for scope in self.scopes:
            if any(known.text == val.text for known in scope.memo.values()):
                return scope
        for known, level in self.refs.values():
            if known.text == val.text:
                return self.scopes[level]
        return self.scopes[-1]

    def _compute(self, expr: Expr) -> None:
        scope = self.scopes[self._depth(expr)]
        outer, self.scopes = self.scopes, self.scopes[: self.scopes.index(scope) + 1]
        text, vector = self._text(expr)
        name = self.fresh()
        scope.lines.append(self.named(name, text))
        scope.memo[expr] = Val(name, vector, ARITHMETIC[expr.dtype])
        self.scopes = outer

    def _text(self, expr: Expr) -> tuple[str, bool]:
        if isinstance(expr, Load):
            return self._load(expr)
        if isinstance(expr, Const):
            return literal(expr.value, ARITHMETIC[expr.dtype]), False
        if isinstance(expr, Position):
            return self._position(expr)
        assert isinstance(expr, Call)
        return self._call(expr)

    def _load(self, load: Load) -> tuple[str, bool]:
        stride = self._lane_stride(load.index)
        address = f"{load.buffer} + {self.offset(load.index)}"
        jumps = [(self.value(j.where), j.stride) for j in load.index.jumps]
        lanes = f", {self.lanes}" if self.lanes else ""
        if any(at.vector for at, _ in jumps):
            parts = [f"to<vi64>({at.text}) * {s.expr}" for at, s in jumps if at.vector]
            parts += [] if stride.is_const(0) else [f"iota() * {stride.expr}"]
            return f"gather({address}, {' + '.join(parts)}, {self.lanes or 'W'})", True
        if self.lane is None or stride.is_const(0):
            return self._guarded(load, f"widen(*({address}))"), False
        assert load.inside is None
        if stride.constant == 1:
            return f"ld({address}{lanes})", True
        return f"gather({address}, {stride.expr}, {self.lanes or 'W'})", True

    def _guarded(self, load: Load, text: str) -> str:
        """A scalar that is read only where the load is inside."""
        if load.inside is None:
            return text
        inside = self.value(load.inside)
        return f"{inside.text} ? {text} : ({STORAGE[ARITHMETIC[load.dtype]]})0"

    def _position(self, position: Position) -> tuple[str, bool]:
        stride = self._lane_stride(position.index)
        scalar = f"(int64_t){self.offset(position.index)}"
        vector = self.lane is not None and not stride.is_const(0)
        text = f"{scalar} + iota() * {stride.expr}" if vector else scalar
        return _cast(f"({text})", "i64", ARITHMETIC[position.dtype], vector), vector

    def _call(self, call: Call) -> tuple[str, bool]:
        if self.reciprocals and (inverse := self._inverted(call)) is not None:
            call = inverse
        values = [self.value(a) for a in call.args]
        vector = any(v.vector for v in values)
        dtype = ARITHMETIC[call.dtype]
        if call.fn == "cast":
            return _cast(values[0].text, values[0].dtype, dtype, vector), vector
        args = [self.vector(v) for v in values] if vector else [v.text for v in values]
        fn = call.fn
        if fn in ("max", "min") and isinstance(call.args[0], Const):
            fn = f"hard{fn}"
        return _spell(fn, args, dtype, vector), vector

    def _inverted(self, call: Call) -> Call | None:
        """X / y as x * (1 / y) where y is known outside the loop that x needs."""
        if call.fn != "div" or call.dtype in ("i64", "i32", "i16", "i8", "u8"):
            return None
        x, y = call.args
        if isinstance(x, Const) or self._depth(y) >= self._depth(x):
            return None
        if y not in self._inverse:
            self._inverse[y] = Call(call.dtype, "div", (Const(call.dtype, 1.0), y))
        self.value(self._inverse[y])
        return Call(call.dtype, "mul", (x, self._inverse[y]))


def literal(value: float | int | bool | str, dtype: DType) -> str:
    """A C++ constant of an arithmetic type; text is an expression over the size symbols."""
    kind = STORAGE[dtype]
    if isinstance(value, str):
        return f"({kind})({value})"
    if isinstance(value, float) and value != value:
        return f'({kind})__builtin_nan("")'
    if isinstance(value, float) and value in (float("inf"), float("-inf")):
        return f"({kind}){'-' if value < 0 else ''}__builtin_inf()"
    return f"({kind}){int(value) if isinstance(value, bool) else repr(value)}"


def _spell(fn: str, args: list[str], dtype: DType, vector: bool) -> str:
    if fn in INFIX:
        return f"{args[0]} {INFIX[fn]} {args[1]}"
    if fn in LOGIC:
        return f"{args[0]} {LOGIC[fn]} {args[1]}"
    if fn == "neg":
        return f"-{args[0]}"
    if fn == "not":
        return f"~{args[0]}" if vector else f"!{args[0]}"
    kind = VECTOR[dtype] if vector else STORAGE[dtype]
    if fn == "rsqrt":
        return f"k<{kind}>(1.0) / vsqrt({args[0]})"
    if fn in ("mod", "hardmax", "hardmin"):
        return f"v{fn}({args[0]}, {args[1]})"
    name = fn if fn in COMPARE else FUNCTION[fn]
    return f"{name}({', '.join(args)})"


def _cast(text: str, source: DType, target: DType, vector: bool) -> str:
    if source == target:
        return text
    if not vector:
        return f"({text} != 0)" if target == "bool" else f"({STORAGE[target]})({text})"
    if target == "bool":
        return f"ne({text}, {VECTOR[source]}{{}})"
    if source == "bool":
        return f"to<{VECTOR[target]}>(-({text}))"
    return f"to<{VECTOR[target]}>({text})"
