"""A map/reduce region as commands of engines: whole tiles, rows and columns instead of elements.

Every value stands for one block: a tile of the region's matrix, one number for each of its rows or
each of its columns, or a number of the whole region. Equal commands are one value, over all passes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from kernelevolve.programmers.builtin.emit.expr import literal
from kernelevolve.programmers.builtin.ir import (
    Axis,
    Call,
    Const,
    DType,
    Expr,
    Index,
    Load,
    MapReduce,
    Pass,
    Ref,
    Size,
    Store,
)

Form = Literal["tile", "row", "column", "number"]
STORED = {"f32": "float", "f16": "half", "bf16": "bfloat", "i8": "int8_t", "bool": "int8_t"}
"""Types of device memory that engines take, of those whose values float32 holds."""
FLOATS = ("f32", "f16", "bf16")


class Unwritten(Exception):
    """The engines cannot do this; the message says what, in one sentence."""


@dataclass(frozen=True, eq=False)
class Value:
    """What a command leaves in a block."""

    form: Form
    op: str = ""
    """Of the header's `Op`; `load`, and `fold` before the operation of one."""
    args: tuple[Value, ...] = ()
    text: str = ""
    """Of a number."""
    unit: str = "se"
    """Who computes it: the SIMD engine, or the vector core."""
    load: Load | None = None


@dataclass(frozen=True)
class Matrix:
    """The loops of a region as those of a matrix, tiles of which are worked on."""

    points: tuple[Axis, ...]
    """Loops around it."""
    row: Axis | None
    columns: tuple[Axis, ...]
    """The same loop by its name in each pass; empty where only rows are left."""
    whole: bool
    """Something is reduced, so tiles have whole rows."""

    @property
    def extent(self) -> Size:
        """Of the columns."""
        return self.columns[0].size if self.columns else Size.of(1)

    def stride(self, index: Index) -> tuple[Size, Size]:
        """Elements from row to row, and from column to column."""
        along = [index.stride(a.name) for a in self.columns]
        found = next((s for s in along if not s.is_const(0)), Size.of(0))
        return index.stride(self.row.name) if self.row else Size.of(0), found

    def form(self, index: Index) -> Form:
        """What block a tile of this needs.

        Raises:
            Unwritten: columns that are not side by side.
        """
        if index.jumps:
            raise Unwritten("it reads single elements where data say")
        down, along = self.stride(index)
        if along.is_const(0):
            return "row"
        if along.constant != 1:
            raise Unwritten("elements of a row lie apart in memory")
        return "column" if self.row is not None and down.is_const(0) else "tile"


def matrix_of(region: MapReduce) -> Matrix:
    """The loops of a region, as above.

    Raises:
        Unwritten: its passes run over several loops each.
    """
    inner = [p.axes for p in region.passes if p.axes]
    if not any(p.reductions for p in region.passes):
        (axes,) = [p.axes for p in region.passes]
        loops = (*region.outer, *axes)
        row = loops[-2] if len(loops) > 1 else None
        return Matrix(loops[:-2], row, loops[-1:], whole=False)
    if any(len(axes) > 1 for axes in inner):
        raise Unwritten("it reduces over several dimensions that are no single one in memory")
    columns = tuple(axes[0] for axes in inner)
    if any(a.size != columns[0].size for a in columns):
        raise Unwritten("its passes have different lengths")
    row = region.outer[-1] if region.outer else None
    return Matrix(region.outer[:-1], row, tuple(dict.fromkeys(columns)), whole=True)


LOG2_E = 1.4426950408889634
BINARY = {"add": "add", "sub": "sub", "mul": "mul", "div": "div", "max": "max", "min": "min",
          "lt": "less", "le": "less_equal", "eq": "equal", "and": "mul", "or": "max"}  # fmt: skip
SWAPS = frozenset({"add", "mul", "max", "min", "equal"})
UNARY = {"neg": "neg", "abs": "abs", "sqrt": "sqrt", "rsqrt": "rsqrt", "not": "flip"}
TABLES = ("exp", "log", "tanh", "sigmoid", "gelu")
SCALED = {"exp2": ("exp", 0.6931471805599453), "log2": ("log", LOG2_E)}
FOLDS = {"sum": "add", "max": "max", "min": "min", "any": "max", "all": "min"}
NUMBERS = {"add": "+", "sub": "-", "mul": "*", "div": "/"}
TAIL_SLOPE = 0.3275911 * 0.7071067811865476
TAIL = (
    *(0.5 * 0.254829592, 0.5 * -0.284496736, 0.5 * 1.421413741),
    *(0.5 * -1.453152027, 0.5 * 1.061405429),
)
"""Half of erfc over the exponential, by Abramowitz and Stegun 7.1.26, to 1.5e-7."""
TO_INTEGER = 12582912.0
"""Added to a float32 and taken away again, it leaves the nearest integer."""
SERIES = (
    *(0.9999999999595485, 0.6931472067106216, 0.24022651213595086, 0.05550327214207754),
    *(0.009618025602947586, 0.0013400432165829137, 0.0001546973198152048),
)
"""2**x between -1/2 and 1/2, closer than float32 rounds; lowest power first."""
SHORT_SERIES = (
    *(1.0000000754953489, 0.6931472067106204, 0.24022107355830596, 0.05550327214209104),
    *(0.009676037097864609, 0.001340043216540429),
)
"""The same to about two ulp of float32."""


@dataclass
class Values:
    """The values of a region, operands before users."""

    matrix: Matrix
    functions: str
    """`tables`, `series` or `vector`: how functions are computed."""
    short: bool = False
    """Series of about two ulp."""
    order: list[Value] = field(default_factory=list)
    made: dict[tuple[object, ...], Value] = field(default_factory=dict)
    known: dict[Expr, Value] = field(default_factory=dict)
    reduced: dict[str, Value] = field(default_factory=dict)
    stores: list[tuple[Store, Value]] = field(default_factory=list)

    def take(self, passes: Sequence[Pass]) -> None:
        """Go through a region's passes."""
        for p in passes:
            for r in p.reductions:
                if r.kind not in FOLDS or r.dtype not in (*FLOATS, "bool"):
                    raise Unwritten(f"it reduces by {r.kind} in {r.dtype}, which no engine does")
                self.reduced[r.name] = self.fold(FOLDS[r.kind], self.value(r.value))
            for store in p.stores:
                self.stores.append((store, self._fit(store, self.value(store.value))))

    def _fit(self, store: Store, value: Value) -> Value:
        form = self.matrix.form(store.index)
        if store.dtype not in STORED:
            raise Unwritten(f"it writes {store.dtype}, which float32 does not hold exactly")
        if value.form != form:
            raise Unwritten("it stores one value at several places")
        if form == "row" and self.matrix.row and self.matrix.stride(store.index)[0].constant != 1:
            raise Unwritten("results of neighbouring rows lie apart in memory")
        return value

    def value(self, expr: Expr) -> Value:
        """What an expression of the region's elements is as a block."""
        if isinstance(expr, Ref):
            return self.reduced[expr.name]
        if expr not in self.known:
            self.known[expr] = self._value(expr)
        return self.known[expr]

    def _value(self, expr: Expr) -> Value:
        if isinstance(expr, Const):
            return self.number(literal(expr.value, "f64"))
        if isinstance(expr, Load):
            return self._load(expr)
        if not isinstance(expr, Call):
            raise Unwritten("it computes with positions, which no engine counts")
        if expr.dtype not in (*FLOATS, "bool"):
            raise Unwritten(f"it computes in {expr.dtype}, and engines do so in float32")
        inner = gelu_of(expr)
        if inner is not None:
            return self.function("gelu", self.value(inner))
        return self._call(expr, [self.value(a) for a in expr.args])

    def _load(self, load: Load) -> Value:
        if load.dtype not in STORED:
            raise Unwritten(f"it reads {load.dtype}, which float32 does not hold exactly")
        if load.inside is not None:
            raise Unwritten("it reads at the edges of windows")
        form = self.matrix.form(load.index)
        row, along = self.matrix.stride(load.index)
        names = {a.name for a in (*self.matrix.columns, self.matrix.row) if a}
        points = tuple((t.axis, t.stride) for t in load.index.terms if t.axis not in names)
        key = ("load", load.buffer, load.index.offset, row, along, frozenset(points))
        return self._made(key, Value(form, "load", load=load))

    def _call(self, call: Call, args: list[Value]) -> Value:
        fn = call.fn
        if fn == "cast":
            return self._cast(call.args[0].dtype, call.dtype, args[0])
        if fn in BINARY:
            return self.binary(BINARY[fn], *args)
        if fn in UNARY:
            return self.unary(UNARY[fn], args[0])
        if fn in TABLES:
            return self.function(fn, args[0])
        if fn in SCALED:
            name, factor = SCALED[fn]
            scale = self.number(repr(factor))
            if fn == "exp2":
                return self.function(name, self.binary("mul", args[0], scale))
            return self.binary("mul", self.function(name, args[0]), scale)
        if fn in ("gt", "ge"):
            less = "less" if fn == "gt" else "less_equal"
            return self.binary(less, self.unary("neg", args[0]), self.unary("neg", args[1]))
        if fn in ("ne", "xor"):
            return self.unary("flip", self.binary("equal", *args))
        if fn == "where":
            return self.select(*args)
        raise Unwritten(f"it computes {fn}, for which the engines have no command")

    def _cast(self, before: DType, after: DType, value: Value) -> Value:
        if after == "bool" and before != "bool":
            return self.unary("flip", self.binary("equal", value, self.number("0.0")))
        return value

    def number(self, text: str) -> Value:
        """A scalar, as C++ text."""
        return self.made.setdefault(("number", text), Value("number", text=text))

    def unary(self, op: str, a: Value, unit: str = "se") -> Value:
        """One operand's command."""
        if a.form == "number":
            if op != "neg":
                raise Unwritten(f"it computes {op} of a number that sizes decide")
            return self.number(f"-({a.text})")
        return self._made((op, a, unit), Value(a.form, op, (a,), unit=unit))

    def binary(self, op: str, a: Value, b: Value) -> Value:
        """Two operands' command; the first is the one that has most elements."""
        if a.form == b.form == "number":
            if op not in NUMBERS:
                raise Unwritten(f"it computes {op} of numbers that sizes decide")
            return self.number(f"({a.text} {NUMBERS[op]} {b.text})")
        if {a.form, b.form} == {"row", "column"}:
            raise Unwritten("it combines a value of each row with one of each column")
        if a.form == b.form or a.form == "tile" or b.form == "number":
            return self._made((op, a, b), Value(a.form, op, (a, b)))
        if op in SWAPS:
            return self.binary(op, b, a)
        if op == "sub":
            return self.unary("neg", self.binary("sub", b, a))
        if op == "div":
            return self.binary("mul", self.unary("reciprocal", b), a)
        mirrored = {"less": "less_equal", "less_equal": "less"}[op]
        return self.unary("flip", self.binary(mirrored, b, a))

    def select(self, condition: Value, a: Value, b: Value) -> Value:
        """`condition ? a : b`, each of which may be a number."""
        if condition.form == "number":
            raise Unwritten("it chooses by a number that sizes decide")
        a, b = (self._filled(condition, x) for x in (a, b))
        if not condition.form == a.form == b.form:
            raise Unwritten("it chooses between values of different extents")
        return self._made(("select", condition, a, b), Value(a.form, "select", (condition, a, b)))

    def _filled(self, like: Value, value: Value) -> Value:
        """A block for a value that has fewer elements; `like` holds zeros and ones."""
        if value.form == like.form:
            return value
        nothing = self.binary("mul", like, self.number("0.0"))
        return self.binary("add", nothing, value)

    def fold(self, op: str, a: Value) -> Value:
        """One number for each row."""
        if a.form != "tile":
            raise Unwritten("it reduces a value that is the same for all rows or along them")
        return self._made(("fold", op, a), Value("row", f"fold {op}", (a,)))

    def function(self, fn: str, a: Value) -> Value:
        """A function that takes a table, a series or the vector core."""
        if self.functions == "tables":
            return self.unary(fn, a)
        if self.functions == "series" and fn == "exp":
            return self._exp(a, -LOG2_E, rises=not _is_shifted(a))
        if self.functions == "series" and fn == "sigmoid":
            grown = self._exp(a, LOG2_E)
            return self.unary("reciprocal", self.binary("add", grown, self.number("1.0")))
        if self.functions == "series" and fn == "gelu":
            return self._gelu(a)
        return self.unary(fn, a, "vector")

    def _exp(self, a: Value, factor: float, *, rises: bool = True) -> Value:
        """2 to the power of -factor * a: by powers of two and a series, by additions and products.

        A shift by more than float32 has leaves zero, so what is far below stays below. Only where
        the power `rises` above one can it grow too far.
        """
        magic = self.number(repr(TO_INTEGER))
        scaled = self.binary("mul", a, self.number(repr(factor)))
        if rises:
            scaled = self.binary("max", scaled, self.number("-200.0"))
        scaled = self.binary("min", scaled, self.number("200.0"))
        whole = self.binary("sub", self.binary("add", scaled, magic), magic)
        rest = self.binary("sub", whole, scaled)
        found = self._horner(rest, SHORT_SERIES if self.short else SERIES)
        return self.binary("shift_right", found, whole)

    def _horner(self, x: Value, series: Sequence[float]) -> Value:
        *lower, found = (self.number(repr(c)) for c in series)
        for number in reversed(lower):
            found = self.binary("add", self.binary("mul", x, found), number)
        return found

    def _gelu(self, x: Value) -> Value:
        """The part of x above zero, less |x| / 2 * erfc(|x| / sqrt(2))."""
        size = self.unary("abs", x)
        slope = self.number(repr(TAIL_SLOPE))
        place = self.binary("add", self.binary("mul", size, slope), self.number("1.0"))
        place = self.unary("reciprocal", place)
        tail = self.binary("mul", place, self._horner(place, TAIL))
        fall = self._exp(self.unary("square", x), 0.5 * LOG2_E, rises=False)
        lost = self.binary("mul", size, self.binary("mul", tail, fall))
        return self.binary("sub", self.unary("relu", x), lost)

    def _made(self, key: tuple[object, ...], value: Value) -> Value:
        if key not in self.made:
            self.made[key] = value
            self.order.append(value)
        return self.made[key]


def _is_shifted(value: Value) -> bool:
    """Whether this is a row less its own maximum."""
    if value.op != "sub":
        return False
    most = value.args[1]
    return most.op == "fold max" and most.args[0] is value.args[0]


def gelu_of(call: Call) -> Expr | None:
    """What x is, where this is x / 2 * (1 + erf(x / sqrt(2)))."""
    if call.fn != "mul":
        return None
    for half, erf in (call.args, call.args[::-1]):
        if isinstance(half, Call) and half.fn == "mul" and isinstance(erf, Call):
            inner = erf.args[0]
            if erf.fn == "erf1p" and isinstance(inner, Call) and inner.fn == "mul":
                x, by = half.args
                same = inner.args[0] is x
                if same and _near(by, 0.5) and _near(inner.args[1], 0.7071067811865476):
                    return x
    return None


def _near(expr: Expr, value: float) -> bool:
    known = expr.value if isinstance(expr, Const) else None
    return isinstance(known, float) and abs(known - value) < 1e-6
