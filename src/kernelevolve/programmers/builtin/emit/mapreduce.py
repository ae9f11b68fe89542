"""Map/reduce regions to C++: lanes along the reduced axis, or along an outer one.

*Row* form: for every outer point each pass sweeps its axes with lanes along the innermost, and a
reduction ends by folding its lanes. *Column* form, where memory is contiguous along an outer axis:
the lanes are outer points, reductions need no folding. Long float sums go through a second level
of accumulators, so that their error grows with the square root of the chunk, not of the length.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count

from kernelevolve.programmers.builtin.emit.expr import (
    ARITHMETIC,
    BYTES,
    STORAGE,
    VECTOR,
    Printer,
    Val,
)
from kernelevolve.programmers.builtin.ir import (
    Axis,
    Call,
    DType,
    Expr,
    Load,
    MapReduce,
    Pass,
    Reduction,
    Ref,
    Store,
    axes_of,
    walk,
)
from kernelevolve.programmers.builtin.schedule import Loops

HEAVY = frozenset(
    {"exp", "erf", "erf1p", "tanh", "sigmoid", "log", "log1p", "expm1", "pow", "rsqrt"}
)
CHUNK = 8192
DEEP = 512
IDENTITY = {"sum": "0", "prod": "1"}


@dataclass
class _Emission:
    """What one region's code is made with."""

    region: MapReduce
    loops: Loops
    buffers: dict[str, str]
    numbers: count[int] = field(default_factory=count)
    staged: dict[Expr, str] = field(default_factory=dict)
    """Expressions kept in scratch memory between passes."""
    ready: set[Expr] = field(default_factory=set)

    def printer(self, lane: str | None, lanes: str | None = None) -> Printer:
        printer = Printer(lane, self.numbers)
        printer.lanes = lanes
        printer.reciprocals = self.loops.reciprocal
        return printer


def emit_map_reduce(region: MapReduce, loops: Loops) -> list[str]:
    """Statements that compute `region`; buffers, sizes and the prelude are in scope."""
    made = _Emission(region, loops, {})
    lane = column_axis(region)
    if lane is not None:
        return _column(made, lane)
    return _row(made)


def column_axis(region: MapReduce) -> Axis | None:
    """The outer axis along which memory is contiguous, if reductions do not run along memory."""
    along_outer = {a.name: 0 for a in region.outer}
    along_inner = 0
    for p in region.passes:
        inner = {a.name for a in p.axes}
        for load in _loads(p):
            for term in load.index.terms:
                if term.stride.constant == 1 and any(t.axis in inner for t in load.index.terms):
                    if term.axis in along_outer:
                        along_outer[term.axis] += 1
                    else:
                        along_inner += 1
    best = max(along_outer, key=lambda name: along_outer[name], default=None)
    if best is None or along_outer[best] <= along_inner:
        return None
    return next(a for a in region.outer if a.name == best)


def _values(p: Pass) -> list[Expr]:
    return [r.value for r in p.reductions] + [s.value for s in p.stores]


def _loads(p: Pass) -> list[Load]:
    found = {e: None for v in _values(p) for e in walk(v) if isinstance(e, Load)}
    return list(found)


def _loop(axis: str, stop: str, step: str = "1", start: str = "0") -> str:
    return f"for (int64_t {axis} = {start}; {axis} < {stop}; {axis} += {step}) {{"


# Row form


def _row(made: _Emission) -> list[str]:
    printer = made.printer(None)
    _choose_staged(made)
    for axis in made.region.outer:
        printer.open(axis.name)
    for p in made.region.passes:
        _row_pass(made, printer, p)
    for axis in reversed(made.region.outer):
        body = printer.close()
        printer.line(_loop(axis.name, axis.size.expr))
        printer.scopes[-1].lines += [*body, "}"]
    scratch = [
        f"auto {name} = ({STORAGE[ARITHMETIC[e.dtype]]}*)scratch<SLOT + {i}>"
        f"(({_extent(made, e)}) * {BYTES[ARITHMETIC[e.dtype]]});"
        for i, (e, name) in enumerate(made.staged.items())
    ]
    return scratch + printer.scopes[0].lines


def _extent(made: _Emission, expr: Expr) -> str:
    p = next(p for p in made.region.passes if any(expr in walk(v) for v in _values(p)))
    return " * ".join(a.size.expr for a in p.axes)


def _choose_staged(made: _Emission) -> None:
    """Pick the largest costly expressions that several passes over the same axes share."""
    if not made.loops.stage:
        return
    seen: dict[tuple[Axis, ...], set[Expr]] = {}
    for p in made.region.passes:
        mine = {e for v in _values(p) for e in walk(v)}
        shared = {e for e in mine & seen.get(p.axes, set()) if _worth_staging(e, p)}
        below = {c for e in shared if isinstance(e, Call) for a in e.args for c in walk(a)}
        for expr in shared - below:
            made.staged.setdefault(expr, f"stage{len(made.staged)}")
        seen.setdefault(p.axes, set()).update(mine)


def _worth_staging(expr: Expr, p: Pass) -> bool:
    if not isinstance(expr, Call) or not p.axes or expr.dtype == "bool":
        return False
    if not {a.name for a in p.axes} & axes_of(expr):
        return False
    inside = walk(expr)
    heavy = any(isinstance(e, Call) and e.fn in HEAVY for e in inside)
    return heavy or sum(isinstance(e, Load) for e in inside) > 1


def _lane_of(p: Pass) -> Axis:
    """The axis of a pass that memory is contiguous along, most often."""
    scores = {a.name: 0 for a in p.axes}
    for index in [x.index for x in _loads(p)] + [s.index for s in p.stores]:
        for term in index.terms:
            if term.axis in scores and term.stride.constant == 1:
                scores[term.axis] += 1
    return max(reversed(p.axes), key=lambda a: scores[a.name])


def _row_pass(made: _Emission, printer: Printer, p: Pass) -> None:
    if not p.axes:
        for store in p.stores:
            printer.store(store)
        return
    lane = _lane_of(p)
    others = [a for a in p.axes if a != lane]
    printer.lane = lane.name
    copies = made.loops.unroll
    chunked = any(_two_level(r, p) for r in p.reductions)
    accumulators = [
        _Accumulator(r, copies, chunked and r.kind == "sum", "", _forgiving(made.region, r))
        for r in p.reductions
    ]
    for accumulator in accumulators:
        printer.scopes[-1].lines += accumulator.declare()
    for axis in others:
        printer.open(axis.name)
    lines = _sweep(made, printer, p, lane, accumulators, chunked)
    printer.scopes[-1].lines += lines
    for axis in reversed(others):
        body = printer.close()
        printer.line(_loop(axis.name, axis.size.expr))
        printer.scopes[-1].lines += [*body, "}"]
    for accumulator in accumulators:
        printer.scopes[-1].lines += accumulator.finish()
        printer.bind(accumulator.name, accumulator.name, False, accumulator.reduction.dtype)
    made.ready |= {e for e in made.staged if any(e in walk(v) for v in _values(p))}


def _forgiving(region: MapReduce, r: Reduction) -> bool:
    """Every result also depends on a sum over functions of the same values and of `r`."""
    if r.kind not in ("max", "min"):
        return False
    sums = set()
    for p in region.passes:
        for other in p.reductions:
            inside = walk(other.value)
            uses = any(isinstance(e, Ref) and e.name == r.name for e in inside)
            if other.kind == "sum" and uses and r.value in inside:
                sums.add(other.name)
    return bool(sums) and all(
        any(isinstance(e, Ref) and e.name in sums for e in walk(s.value)) for s in stores_of(region)
    )


def _two_level(r: Reduction, p: Pass) -> bool:
    total = 1
    for axis in p.axes:
        total *= max(axis.size.values)
    return r.kind == "sum" and ARITHMETIC[r.dtype] == "f32" and total > CHUNK


def _sweep(
    made: _Emission,
    printer: Printer,
    p: Pass,
    lane: Axis,
    accumulators: Sequence[_Accumulator],
    chunked: bool,
) -> list[str]:
    """The loop over the lane axis: unrolled, single vectors, then the partial one."""
    j, n, copies = lane.name, lane.size.expr, made.loops.unroll
    unrolled: list[str] = []
    for copy in range(copies):
        at = f"({j} + {copy * made.loops.width})" if copy else j
        unrolled += ["{", *_body(made, printer, p, lane, at, None, accumulators, copy), "}"]
    single = _body(made, printer, p, lane, j, None, accumulators, 0)
    partial = _body(made, printer, p, lane, j, "left", accumulators, 0)
    stop = "stop" if chunked else n
    lines = [f"for (; {j} + {copies} * W <= {stop}; {j} += {copies} * W) {{", *unrolled, "}"]
    if copies > 1:
        lines += [f"for (; {j} + W <= {stop}; {j} += W) {{", *single, "}"]
    lines += [f"if ({j} < {stop}) {{", f"const int64_t left = {stop} - {j};", *partial]
    lines += [f"{j} = {stop};", "}"]
    if not chunked:
        return ["{", f"int64_t {j} = 0;", *lines, "}"]
    head = ["{", f"int64_t {j} = 0;", f"while ({j} < {n}) {{"]
    head += [f"const int64_t stop = {j} + {CHUNK} < {n} ? {j} + {CHUNK} : {n};"]
    flush = [line for a in accumulators for line in a.flush()]
    return [*head, *lines, *flush, "}", "}"]


def _body(
    made: _Emission,
    printer: Printer,
    p: Pass,
    lane: Axis,
    at: str,
    lanes: str | None,
    accumulators: Sequence[_Accumulator],
    copy: int,
) -> list[str]:
    """One vector's worth of a pass."""
    printer.open(lane.name)
    printer.text_of[lane.name] = at
    printer.lanes = lanes
    tail = f", {lanes}" if lanes else ""
    position = _linear(p, lane.name, at)
    wanted = {e for v in _values(p) for e in walk(v)} & set(made.staged)
    for expr in made.staged:
        if expr in wanted and expr in made.ready:
            name = printer.fresh()
            printer.line(f"auto {name} = ld({made.staged[expr]} + {position}{tail});")
            printer.scopes[-1].memo[expr] = Val(name, True, ARITHMETIC[expr.dtype])
    for accumulator in accumulators:
        accumulator.update(printer, copy, lanes, position)
    for store in p.stores:
        printer.store(store, made.loops.stream)
    for expr in made.staged:
        if expr in wanted and expr not in made.ready:
            vector = printer.vector(printer.value(expr))
            printer.line(f"st({made.staged[expr]} + {position}, {vector}{tail});")
    printer.text_of.pop(lane.name)
    printer.lanes = None
    return printer.close()


def _linear(p: Pass, lane: str, at: str) -> str:
    """The row-major number of the current element among the pass's axes."""
    text = ""
    for axis in p.axes:
        mine = at if axis.name == lane else axis.name
        text = f"({text}) * {axis.size.expr} + {mine}" if text else mine
    return f"({text})"


# Column form


def _column(made: _Emission, lane: Axis) -> list[str]:
    others = [a for a in made.region.outer if a != lane]
    j, n, copies = lane.name, lane.size.expr, made.loops.columns
    hoisted: list[str] = []
    blocks = []
    for block_copies, lanes in ((copies, None), (1, None), (1, "left")):
        outside, inside = _block(made, lane, others, block_copies, lanes)
        hoisted += outside
        blocks.append(inside)
    lines = [
        *hoisted,
        f"int64_t {j} = 0;",
        f"for (; {j} + {copies} * W <= {n}; {j} += {copies} * W) {{",
        *blocks[0],
        "}",
        f"for (; {j} + W <= {n}; {j} += W) {{",
        *blocks[1],
        "}",
        f"if ({j} < {n}) {{",
        f"const int64_t left = {n} - {j};",
        *blocks[2],
        "}",
    ]
    for axis in reversed(others):
        lines = [_loop(axis.name, axis.size.expr), *lines, "}"]
    return lines


def _block(
    made: _Emission, lane: Axis, others: Sequence[Axis], copies: int, lanes: str | None
) -> tuple[list[str], list[str]]:
    """All passes for `copies` vectors of outer points: what precedes the loop, and its body."""
    printers = [made.printer(lane.name, lanes) for _ in range(copies)]
    lines: list[str] = []
    for copy, printer in enumerate(printers):
        printer.open(*(a.name for a in others))
        printer.open(lane.name)
        at = f"({lane.name} + {copy * made.loops.width})"
        printer.text_of[lane.name] = at if copy else lane.name
    for p in made.region.passes:
        lines += _column_pass(made, printers, p)
    before = [line for printer in printers for line in printer.scopes[0].lines]
    before += [line for printer in printers for line in printer.scopes[1].lines]
    return before, lines


def _column_pass(made: _Emission, printers: Sequence[Printer], p: Pass) -> list[str]:
    sets = [
        [
            _Accumulator(r, 1, _deep(r, p), f"c{c}_", _forgiving(made.region, r))
            for r in p.reductions
        ]
        for c in range(len(printers))
    ]
    declared = [line for accumulators in sets for a in accumulators for line in a.declare()]
    body = _column_body(made, printers, p, sets)
    before = [line for printer in printers for line in _take(printer)]
    finish: list[str] = []
    for printer, accumulators in zip(printers, sets, strict=True):
        for a in accumulators:
            finish += a.finish_lanes()
            printer.bind(a.name, f"{a.prefix}{a.name}", True, a.reduction.dtype)
    return before + declared + body + finish


def _column_body(
    made: _Emission, printers: Sequence[Printer], p: Pass, sets: Sequence[Sequence[_Accumulator]]
) -> list[str]:
    """The loops of one pass, each step of which serves every printer's vector."""
    position = _linear(p, "", "") if p.axes else "0"
    for printer, accumulators in zip(printers, sets, strict=True):
        for axis in p.axes:
            printer.open(axis.name)
        for accumulator in accumulators:
            accumulator.update(printer, 0, None, position)
        for store in p.stores:
            printer.store(store, made.loops.stream)
    body: list[str] = []
    for level, axis in enumerate(reversed(p.axes)):
        closed = [line for printer in printers for line in printer.close()]
        body = _rows(axis, closed + body, sets, level == 0)
    return body


def _take(printer: Printer) -> list[str]:
    """The statements of the lane scope so far, which must precede the loop about to be added."""
    lines, printer.scopes[-1].lines = printer.scopes[-1].lines, []
    return lines


def _rows(
    axis: Axis, body: list[str], sets: Sequence[Sequence[_Accumulator]], innermost: bool
) -> list[str]:
    chunked = innermost and any(a.two_level for accumulators in sets for a in accumulators)
    r, n = axis.name, axis.size.expr
    if not chunked:
        return [_loop(r, n), *body, "}"]
    flush = [line for accumulators in sets for a in accumulators for line in a.flush_lanes()]
    stop = f"const int64_t {r}_stop = {r}_chunk + 256 < {n} ? {r}_chunk + 256 : {n};"
    head = [_loop(f"{r}_chunk", n, "256"), stop, _loop(r, f"{r}_stop", start=f"{r}_chunk")]
    return [*head, *body, "}", *flush, "}"]


def _deep(r: Reduction, p: Pass) -> bool:
    total = 1
    for axis in p.axes:
        total *= max(axis.size.values)
    return r.kind == "sum" and ARITHMETIC[r.dtype] == "f32" and total > DEEP


@dataclass
class _Accumulator:
    """The C++ variables of one reduction: a vector for each unrolled copy, maybe a total."""

    reduction: Reduction
    copies: int
    two_level: bool
    prefix: str = ""
    forgiving: bool = False
    """NaN may get lost in a maximum, because a later sum of the same values finds it."""

    @property
    def name(self) -> str:
        return self.reduction.name

    @property
    def _type(self) -> str:
        return VECTOR[ARITHMETIC[self._value_dtype]]

    @property
    def _value_dtype(self) -> DType:
        arg = self.reduction.kind.startswith("arg")
        return self.reduction.value.dtype if arg else self.reduction.dtype

    def _variable(self, copy: int) -> str:
        return f"{self.prefix}{self.name}_{copy}"

    def _identity(self) -> str:
        kind, dtype = self.reduction.kind, ARITHMETIC[self._value_dtype]
        if kind in IDENTITY:
            return f"splat<{self._type}>({IDENTITY[kind]})"
        sign = "-" if kind.endswith("max") else ""
        if dtype in ("f32", "f64"):
            return f"splat<{self._type}>({sign}__builtin_inf())"
        bits = 64 if dtype == "i64" else 32
        least = f"(-__INT{bits}_MAX__ - 1)"
        return f"splat<{self._type}>({least if sign else f'__INT{bits}_MAX__'})"

    def declare(self) -> list[str]:
        start = self._identity()
        lines = [f"{self._type} {self._variable(c)} = {start};" for c in range(self.copies)]
        if self.reduction.kind.startswith("arg"):
            lines += [f"vi64 {self._variable(c)}_at = {{}};" for c in range(self.copies)]
        if self.two_level:
            total = f"{self._type} {self.prefix}{self.name}_total = {{}};"
            lines.append(total if self.prefix else f"double {self.name}_total = 0;")
        return lines

    def update(self, printer: Printer, copy: int, lanes: str | None, position: str) -> None:
        """Take in one vector; inactive lanes count for nothing."""
        value = printer.convert(printer.value(self.reduction.value), self._arith())
        vector, into, kind = printer.vector(value), self._variable(copy), self.reduction.kind
        if lanes:
            vector = f"sel(first({lanes}), {vector}, {self._identity()})"
        if kind == "sum":
            printer.line(f"{into} += {vector};")
        elif kind == "prod":
            printer.line(f"{into} *= {vector};")
        elif kind in ("max", "min"):
            hard = "hard" if self.forgiving else ""
            printer.line(f"{into} = v{hard}{kind}({into}, {vector});")
        else:
            self._update_arg(printer, vector, into, position)

    def _arith(self) -> DType:
        return ARITHMETIC[self._value_dtype]

    def _update_arg(self, printer: Printer, vector: str, into: str, position: str) -> None:
        test = "gt" if self.reduction.kind == "argmax" else "lt"
        v, take = printer.fresh(), printer.fresh()
        at = f"splat<vi64>({position})" + ("" if self.prefix else " + iota()")
        printer.line(f"auto {v} = {vector};")
        printer.line(f"auto {take} = {test}({v}, {into}) | (ne({v}, {v}) & eq({into}, {into}));")
        printer.line(f"{into}_at = sel({take}, {at}, {into}_at);")
        printer.line(f"{into} = sel({take}, {v}, {into});")

    def flush(self) -> list[str]:
        """Add the chunk's sums to the total and begin again."""
        if not self.two_level:
            return []
        lines = [f"{self.name}_total += fold({self._combined()}, PLUS);"]
        return lines + [f"{self._variable(c)} = {self._identity()};" for c in range(self.copies)]

    def flush_lanes(self) -> list[str]:
        if not self.two_level:
            return []
        one = self._variable(0)
        return [f"{self.prefix}{self.name}_total += {one};", f"{one} = {self._identity()};"]

    def _combined(self) -> str:
        names = [self._variable(c) for c in range(self.copies)]
        kind = self.reduction.kind
        if kind in ("sum", "prod"):
            return "(" + (" + " if kind == "sum" else " * ").join(names) + ")"
        text = names[0]
        for other in names[1:]:
            text = f"v{kind}({text}, {other})"
        return text

    def finish(self) -> list[str]:
        """Fold lanes and copies to the scalar result."""
        kind, scalar = self.reduction.kind, STORAGE[ARITHMETIC[self.reduction.dtype]]
        if kind.startswith("arg"):
            return self._finish_arg()
        if self.two_level:
            return [f"const {scalar} {self.name} = ({scalar}){self.name}_total;"]
        op = {"sum": "PLUS", "prod": "TIMES", "max": "MOST", "min": "LEAST"}[kind]
        return [f"const {scalar} {self.name} = fold({self._combined()}, {op});"]

    def _finish_arg(self) -> list[str]:
        test = "gt" if self.reduction.kind == "argmax" else "lt"
        first, lines = self._variable(0), []
        for c in range(1, self.copies):
            o = self._variable(c)
            tie = f"(eq({o}, {first}) & lt({o}_at, {first}_at))"
            lines.append(f"auto {o}_take = {test}({o}, {first}) | {tie};")
            lines.append(f"{first}_at = sel({o}_take, {o}_at, {first}_at);")
            lines.append(f"{first} = sel({o}_take, {o}, {first});")
        largest = "true" if test == "gt" else "false"
        call = f"where_best({first}, {first}_at, {largest})"
        return [*lines, f"const int64_t {self.name} = {call};"]

    def finish_lanes(self) -> list[str]:
        """The per-lane result of the column form."""
        result, one = f"{self.prefix}{self.name}", self._variable(0)
        if self.reduction.kind.startswith("arg"):
            return [f"const vi64 {result} = {one}_at;"]
        return [f"const auto {result} = {f'{result}_total' if self.two_level else one};"]


def stores_of(region: MapReduce) -> list[Store]:
    """Every store of a region."""
    return [s for p in region.passes for s in p.stores]
