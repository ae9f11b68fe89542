"""A map/reduce region as a function of one row, for use between the contractions of a chain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from kernelevolve.programmers.builtin.emit.expr import ARITHMETIC, STORAGE, VECTOR, Printer
from kernelevolve.programmers.builtin.ir import (
    Axis,
    Call,
    Const,
    Expr,
    Index,
    Load,
    MapReduce,
    Pass,
    Reduction,
    Ref,
    Store,
    Term,
    walk,
)

COMBINE = {"sum": "({a} + {b})", "max": "vmax({a}, {b})", "min": "vmin({a}, {b})"}
IDENTITY = {"sum": "0", "max": "-__builtin_inf()", "min": "__builtin_inf()"}
COSTLY = frozenset(
    {"exp", "exp2", "expm1", "log", "log2", "log1p", "tanh", "sigmoid", "erf", "pow"}
)


def rowwise(region: MapReduce) -> bool:
    """Tell whether `emit_row` can write this region."""
    reductions = [r for p in region.passes for r in p.reductions]
    return bool(region.outer) and all(
        r.kind in COMBINE and ARITHMETIC[r.dtype] in ("f32", "f64") for r in reductions
    )


def emit_row(region: MapReduce, parameters: Sequence[str], unroll: int = 4) -> str:
    """`static void NAME_row(parameters…, outer axes…)`: one point of the region's outer axes."""
    region = stashed(region)
    printer = Printer(None)
    for number, sweep in enumerate(region.passes):
        _sweep(printer, sweep, f"{number}_", unroll)
    arguments = [*parameters, *(f"int64_t {axis.name}" for axis in region.outer)]
    head = f"static inline void {region.name}_row({', '.join(arguments)}) {{"
    return "\n".join([head, *(f"  {line}" for line in printer.close()), "}"])


def _sweep(printer: Printer, sweep: Pass, prefix: str, unroll: int) -> None:
    if not sweep.axes:
        printer.lane = None
        for store in sweep.stores:
            printer.store(store)
        return
    lane = sweep.axes[-1]
    printer.lane = lane.name
    heavy = any(_costly(e) for r in sweep.reductions for e in walk(r.value))
    copies = (2 if heavy else unroll) if sweep.reductions else 1
    for r in sweep.reductions:
        kind = VECTOR[ARITHMETIC[r.dtype]]
        for copy in range(copies):
            printer.line(f"{kind} {_sum(r, prefix, copy)} = splat<{kind}>({IDENTITY[r.kind]});")
    for axis in sweep.axes[:-1]:
        printer.open(axis.name)
    for line in _lane_loops(printer, sweep, lane, prefix, copies):
        printer.line(line)
    for axis in reversed(sweep.axes[:-1]):
        body = printer.close()
        printer.line(
            f"for (int64_t {axis.name} = 0; {axis.name} < {axis.size.expr}; ++{axis.name}) {{"
        )
        for line in (*body, "}"):
            printer.line(line)
    _finish(printer, sweep, prefix, copies)
    printer.lane = None


def _lane_loops(printer: Printer, sweep: Pass, lane: Axis, prefix: str, copies: int) -> list[str]:
    """Unrolled, single and partial vectors along the last axis."""
    j, n = lane.name, lane.size.expr
    lines = [f"int64_t {j} = 0;"] if len(sweep.axes) >= 1 else []
    for step in sorted({copies, 1}, reverse=True):
        body = [x for copy in range(step) for x in _body(printer, sweep, lane, prefix, copy, None)]
        lines += [f"for (; {j} + {step} * W <= {n}; {j} += {step} * W) {{", *body, "}"]
    tail = _body(printer, sweep, lane, prefix, 0, "lanes")
    lines += [f"if ({j} < {n}) {{", f"const int64_t lanes = {n} - {j};", *tail, "}"]
    return ["{", *lines, "}"]


def _body(
    printer: Printer, sweep: Pass, lane: Axis, prefix: str, copy: int, lanes: str | None
) -> list[str]:
    printer.lanes = lanes
    printer.text_of[lane.name] = f"({lane.name} + {copy} * W)" if copy else lane.name
    printer.open(lane.name)
    for r in sweep.reductions:
        dtype = ARITHMETIC[r.dtype]
        value = printer.vector(printer.convert(printer.value(r.value), dtype))
        name = _sum(r, prefix, copy)
        if lanes:
            identity = f"splat<{VECTOR[dtype]}>({IDENTITY[r.kind]})"
            value = f"sel(first({lanes}), {value}, {identity})"
        printer.line(f"{name} = {COMBINE[r.kind].format(a=name, b=value)};")
    for store in sweep.stores:
        printer.store(store)
    printer.lanes = None
    del printer.text_of[lane.name]
    return ["{", *printer.close(), "}"]


def _finish(printer: Printer, sweep: Pass, prefix: str, copies: int) -> None:
    for r in sweep.reductions:
        first = _sum(r, prefix, 0)
        for copy in range(1, copies):
            both = COMBINE[r.kind].format(a=first, b=_sum(r, prefix, copy))
            printer.line(f"{first} = {both};")
        scalar = STORAGE[ARITHMETIC[r.dtype]]
        combine = COMBINE[r.kind].format(a="x", b="y")
        total = printer.fresh("total")
        fold = f"fold({first}, []({scalar} x, {scalar} y) {{ return {combine}; }})"
        printer.line(f"const {scalar} {total} = {fold};")
        printer.bind(r.name, total, False, r.dtype)


def _sum(reduction: Reduction, prefix: str, copy: int) -> str:
    return f"sum{prefix}{reduction.name}_{copy}"


def _costly(expr: Expr) -> bool:
    return isinstance(expr, Call) and expr.fn in COSTLY


def stashed(region: MapReduce) -> MapReduce:
    """Keep a costly term of a sum in the output's place, where the last sweep needs it again."""
    *before, last = region.passes
    if len(last.stores) != 1 or len(last.axes) != 1:
        return region
    store = last.stores[0]
    if store.dtype != "f32" or store.index.stride(last.axes[0].name).constant != 1:
        return region
    for number, sweep in enumerate(before):
        for r in sweep.reductions:
            again = _again(r.value, sweep, store.value, last)
            if again is None or ARITHMETIC[again.dtype] != "f32":
                continue
            kept = Load("f32", store.buffer, store.index)
            there = _renamed(store.index, last.axes[0].name, sweep.axes[0].name)
            stash = Store(store.buffer, "f32", there, r.value)
            before[number] = replace(sweep, stores=(*sweep.stores, stash))
            value = _substituted(store.value, again, kept)
            last = replace(last, stores=(replace(store, value=value),))
            return replace(region, passes=(*before, last))
    return region


def _again(value: Expr, sweep: Pass, final: Expr, last: Pass) -> Expr | None:
    """The node of `final` that computes `value`, up to the name of the swept axis."""
    if len(sweep.axes) != 1 or not any(_costly(e) for e in walk(value)):
        return None
    names = (sweep.axes[0].name, last.axes[0].name)
    return next((e for e in walk(final) if _same(value, e, *names)), None)


def _same(x: Expr, y: Expr, ours: str, theirs: str) -> bool:
    if type(x) is not type(y) or x.dtype != y.dtype:
        return False
    if isinstance(x, Call) and isinstance(y, Call):
        pairs = zip(x.args, y.args, strict=True)
        same_fn = x.fn == y.fn and len(x.args) == len(y.args)
        return same_fn and all(_same(a, b, ours, theirs) for a, b in pairs)
    if isinstance(x, Load) and isinstance(y, Load):
        plain = not x.index.jumps and not y.index.jumps
        return plain and x.buffer == y.buffer and _renamed(x.index, ours, theirs) == y.index
    if isinstance(x, Const) and isinstance(y, Const):
        return x.value == y.value
    return isinstance(x, Ref) and isinstance(y, Ref) and x.name == y.name


def _renamed(index: Index, ours: str, theirs: str) -> Index:
    terms = (Term(theirs if t.axis == ours else t.axis, t.stride) for t in index.terms)
    return replace(index, terms=tuple(terms))


def _substituted(expr: Expr, old: Expr, new: Expr) -> Expr:
    if expr is old:
        return new
    if isinstance(expr, Call):
        return replace(expr, args=tuple(_substituted(a, old, new) for a in expr.args))
    return expr
