"""The region level: what the emitters of the built-in programmer are given.

Sizes are symbolic. A `Size` is an integer expression over run-time size symbols together with its
values at every captured assignment of sizes; equality is decided on the values, printing uses the
expression, cost models use the values. Indices are affine in named loop axes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal, TypeAlias

DType: TypeAlias = Literal["f32", "f64", "bf16", "f16", "i64", "i32", "i16", "i8", "u8", "bool"]
"""bf16 and f16 exist in memory only: loads widen to f32, stores round, arithmetic is in f32."""


@dataclass(frozen=True)
class Size:
    """A non-negative integer known at run time; `expr` is valid C++ over int64_t symbols."""

    expr: str = field(compare=False)
    values: tuple[int, ...]

    @staticmethod
    def of(value: int) -> Size:
        """Make the constant `value`."""
        return Size(str(value), (value,))

    @property
    def constant(self) -> int | None:
        """The value when it is a literal, independent of every symbol."""
        return int(self.expr) if self.expr.lstrip("-").isdigit() else None

    def is_const(self, value: int) -> bool:
        """Tell whether this is `value` at every assignment."""
        return all(v == value for v in self.values)

    def __mul__(self, other: Size) -> Size:
        return _sized(_product(self, other), [a * b for a, b in _pairs(self, other)])

    def __add__(self, other: Size) -> Size:
        expr = f"({self.expr} + {other.expr})"
        if self.constant is not None and other.constant is not None:
            expr = str(self.constant + other.constant)
        elif self.constant == 0 or other.constant == 0:
            expr = other.expr if self.constant == 0 else self.expr
        return _sized(expr, [a + b for a, b in _pairs(self, other)])

    def matches(self, other: Size) -> bool:
        """Tell whether `other` is the same at every assignment."""
        return all(a == b for a, b in _pairs(self, other))

    def divides(self, other: Size) -> bool:
        """Tell whether `other` is a multiple of this at every assignment."""
        return all(a != 0 and b % a == 0 for a, b in _pairs(self, other))

    def __floordiv__(self, other: Size) -> Size:
        if other.constant == 1:
            return self
        expr = _quotient(self.expr, other.expr)
        if self.constant is not None and other.constant is not None:
            expr = str(self.constant // other.constant)
        elif self == other:
            expr = "1"
        return _sized(expr, [a // b for a, b in _pairs(self, other)])


def _quotient(product: str, factor: str) -> str:
    """The text of a division; without one where a factor of a product is taken out."""
    if product.endswith(f" * {factor}"):
        return product.removesuffix(f" * {factor}")
    if product.startswith(f"{factor} * "):
        return product.removeprefix(f"{factor} * ")
    return f"({product} / ({factor}))" if " " in factor else f"({product} / {factor})"


def _pairs(a: Size, b: Size) -> list[tuple[int, int]]:
    count = max(len(a.values), len(b.values))
    wide = [v if len(v) == count else v * count for v in (a.values, b.values)]
    return list(zip(*wide, strict=True))


def _sized(expr: str, values: list[int]) -> Size:
    literal = expr.lstrip("-").isdigit()
    return Size(expr, (int(expr),) if literal else tuple(values))


def _product(a: Size, b: Size) -> str:
    if a.constant is not None and b.constant is not None:
        return str(a.constant * b.constant)
    if a.constant == 0 or b.constant == 0:
        return "0"
    if a.constant == 1 or b.constant == 1:
        return b.expr if a.constant == 1 else a.expr
    return f"{a.expr} * {b.expr}"


@dataclass(frozen=True)
class Axis:
    """A loop variable (an int64_t of this name in the emitted code) and its extent."""

    name: str
    size: Size
    parts: tuple[Axis, ...] = ()
    """Where indices are not affine in it: the axes whose row-major number it is, and they are."""


@dataclass(frozen=True)
class Term:
    """`stride` elements per step of the loop axis named `axis`."""

    axis: str
    stride: Size


@dataclass(frozen=True)
class Jump:
    """`stride` elements per unit of a data-dependent integer (gather, embedding, target)."""

    where: Expr
    stride: Size


@dataclass(frozen=True)
class Index:
    """offset + sum(stride * axis) + sum(stride * data), in elements."""

    offset: Size
    terms: tuple[Term, ...] = ()
    jumps: tuple[Jump, ...] = ()

    def stride(self, axis: str) -> Size:
        """The stride along `axis`, zero where it does not occur."""
        found = [t.stride for t in self.terms if t.axis == axis]
        return found[0] if found else Size.of(0)


@dataclass(frozen=True, eq=False)
class Load:
    """One element of a buffer; dtype is that of the buffer."""

    dtype: DType
    buffer: str
    index: Index
    inside: Expr | None = None
    """Where this does not hold nothing is read, and the element is zero."""


@dataclass(frozen=True, eq=False)
class Const:
    """A literal, or (as text) a C++ expression over the size symbols, e.g. `1.0 / s0`."""

    dtype: DType
    value: float | int | bool | str


@dataclass(frozen=True, eq=False)
class Position:
    """The value of an index itself (arange, one-hot, causal masks)."""

    dtype: DType
    index: Index


@dataclass(frozen=True, eq=False)
class Call:
    """A scalar function of scalars; see `emit/expr.py` for the names and their C++ spelling.

    arithmetic `add sub mul div neg abs min max mod pow floor ceil round trunc sign`,
    math `exp exp2 expm1 log log2 log1p sqrt rsqrt tanh sigmoid erf sin cos`,
    comparison `lt le gt ge eq ne` (dtype bool), logic `and or not xor`, `where` (cond, a, b),
    `cast`. Expressions form a DAG and compare by identity: memoise on the object.
    """

    dtype: DType
    fn: str
    args: tuple[Expr, ...]


@dataclass(frozen=True, eq=False)
class Ref:
    """A value computed earlier in the region: a reduction's result, or `acc` of a contraction."""

    dtype: DType
    name: str


Expr: TypeAlias = Load | Const | Position | Call | Ref


@dataclass(frozen=True)
class Buffer:
    """Contiguous memory: an input, a parameter, an output or an intermediate of the module."""

    name: str
    dtype: DType
    shape: tuple[Size, ...]


@dataclass(frozen=True)
class Store:
    """buffer[index] = value."""

    buffer: str
    dtype: DType
    index: Index
    value: Expr


@dataclass(frozen=True)
class Reduction:
    """name = reduce(value) over a pass's axes; kinds `sum prod max min any all argmax argmin`."""

    name: str
    kind: str
    value: Expr
    dtype: DType


@dataclass(frozen=True)
class Pass:
    """One sweep over `axes` (innermost last) inside the region's outer loops."""

    axes: tuple[Axis, ...]
    reductions: tuple[Reduction, ...] = ()
    stores: tuple[Store, ...] = ()


@dataclass(frozen=True)
class MapReduce:
    """For every point of `outer`: the passes in order; later ones may `Ref` earlier reductions."""

    name: str
    outer: tuple[Axis, ...]
    passes: tuple[Pass, ...]


@dataclass(frozen=True)
class Contraction:
    """acc[batch, m, n] = sum over k of a[batch, m, k] * b[batch, k, n], then `stores`.

    `a` and `b` are plain `Load`s (read their `index.stride(axis.name)`) or pointwise prologues to
    apply while packing. The stores' values hold `Ref(acc)` and loads indexed by batch, m and n.
    Accumulation is in f32 (f64 for f64 operands). Of convolutions, m and k have parts: positions,
    and taps before channels.
    """

    name: str
    batch: tuple[Axis, ...]
    m: Axis
    n: Axis
    k: Axis
    a: Expr
    b: Expr
    stores: tuple[Store, ...]


@dataclass(frozen=True)
class Scan:
    """A running `kind` (`sum prod max min`) of `value` along `axis`, stored at every step."""

    name: str
    outer: tuple[Axis, ...]
    axis: Axis
    kind: str
    value: Expr
    dtype: DType
    store: Store


@dataclass(frozen=True)
class Opaque:
    """Statements for `forward`, in plain torch: reads and assigns the named tensors."""

    name: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    code: str


Region: TypeAlias = MapReduce | Contraction | Scan | Opaque


def children(expr: Expr) -> tuple[Expr, ...]:
    """The direct operands of an expression, data-dependent indices included."""
    if isinstance(expr, Call):
        return expr.args
    if isinstance(expr, Load) and expr.inside is not None:
        return (expr.inside, *(j.where for j in expr.index.jumps))
    if isinstance(expr, Load | Position):
        return tuple(j.where for j in expr.index.jumps)
    return ()


@lru_cache(maxsize=8192)
def axes_of(expr: Expr) -> frozenset[str]:
    """The names of all loop axes that the value of `expr` varies with."""
    own = frozenset[str]()
    if isinstance(expr, Load | Position):
        own = frozenset(t.axis for t in expr.index.terms if not t.stride.is_const(0))
    return own.union(*(axes_of(c) for c in children(expr)))


def walk(expr: Expr) -> tuple[Expr, ...]:
    """Every distinct node of the expression, operands before users."""
    seen: dict[Expr, None] = {}

    def visit(e: Expr) -> None:
        if e not in seen:
            for child in children(e):
                visit(child)
            seen[e] = None

    visit(expr)
    return tuple(seen)


def loads_of(expr: Expr) -> tuple[Load, ...]:
    """Every distinct load inside `expr`."""
    return tuple(e for e in walk(expr) if isinstance(e, Load))
