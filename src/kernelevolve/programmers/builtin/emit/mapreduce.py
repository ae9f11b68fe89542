"""Map/reduce regions to C++: lanes along the reduced axis, or along an outer one.

*Row* form: for every outer point each pass sweeps its axes with lanes along the innermost, and a
reduction ends by folding its lanes. *Column* form, where memory is contiguous along an outer axis:
the lanes are outer points, reductions need no folding. Long float sums go through a second level
of accumulators, so that their error grows with the square root of the chunk, not of the length.
"""

from __future__ import annotations

from collections.abc import Sequence

from kernelevolve.programmers.builtin.emit.accumulators import Accumulator, forgiving
from kernelevolve.programmers.builtin.emit.columns import emit_columns
from kernelevolve.programmers.builtin.emit.expr import ARITHMETIC, BYTES, STORAGE, Printer, Val
from kernelevolve.programmers.builtin.emit.sweeps import (
    UNSEEN,
    Emission,
    linear,
    loads,
    loop,
    values,
)
from kernelevolve.programmers.builtin.ir import (
    FIND,
    Axis,
    Call,
    Expr,
    Load,
    MapReduce,
    Pass,
    Reduction,
    axes_of,
    walk,
)
from kernelevolve.programmers.builtin.schedule import Loops

HEAVY = frozenset(
    {"exp", "erf", "erf1p", "tanh", "sigmoid", "log", "log1p", "expm1", "pow", "rsqrt", *FIND}
)
CHUNK = 2048


def emit_map_reduce(region: MapReduce, loops: Loops) -> list[str]:
    """Statements that compute `region`; buffers, sizes and the prelude are in scope."""
    made = Emission(region, loops)
    lane = column_axis(region)
    if lane is not None:
        return emit_columns(made, lane)
    return _row(made)


def column_axis(region: MapReduce) -> Axis | None:
    """The outer axis along which memory is contiguous, if reductions do not run along memory."""
    along_outer = {a.name: 0 for a in region.outer}
    along_inner = 0
    for p in region.passes:
        inner = {a.name for a in p.axes}
        for load in loads(p):
            for term in load.index.terms:
                if term.stride.constant == 1 and any(t.axis in inner for t in load.index.terms):
                    weight = 10 ** len(load.index.terms)
                    if term.axis in along_outer:
                        along_outer[term.axis] += weight
                    else:
                        along_inner += weight
    best = max(along_outer, key=lambda name: along_outer[name], default=None)
    if best is None or along_outer[best] <= along_inner:
        return None
    return next(a for a in region.outer if a.name == best)


def _row(made: Emission) -> list[str]:
    printer = made.printer(None)
    _choose_staged(made)
    for axis in made.region.outer:
        printer.open(axis.name)
    for p in made.region.passes:
        _row_pass(made, printer, p)
    for axis in reversed(made.region.outer):
        body = printer.close()
        printer.line(loop(axis.name, axis.size.expr))
        printer.scopes[-1].lines += [*body, "}"]
    scratch = [
        f"auto {name} = ({STORAGE[ARITHMETIC[e.dtype]]}*)scratch<SLOT + {i}>"
        f"(({_extent(made, e)}) * {BYTES[ARITHMETIC[e.dtype]]});"
        for i, (e, name) in enumerate(made.staged.items())
    ]
    return scratch + printer.scopes[0].lines


def _extent(made: Emission, expr: Expr) -> str:
    p = next(p for p in made.region.passes if any(expr in walk(v) for v in values(p)))
    return " * ".join(a.size.expr for a in p.axes)


def _choose_staged(made: Emission) -> None:
    """Pick the largest costly expressions that several passes over the same axes share."""
    if not made.loops.stage:
        return
    seen: dict[tuple[Axis, ...], set[Expr]] = {}
    for p in made.region.passes:
        mine = {e for v in values(p) for e in walk(v)}
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
    for index in [x.index for x in loads(p)] + [s.index for s in p.stores]:
        for term in index.terms:
            if term.axis in scores and term.stride.constant == 1:
                scores[term.axis] += 10 ** len(index.terms)
    return max(reversed(p.axes), key=lambda a: scores[a.name])


def _row_pass(made: Emission, printer: Printer, p: Pass) -> None:
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
        Accumulator(r, copies, chunked and r.kind == "sum", "", forgiving(made.region, r))
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
        printer.line(loop(axis.name, axis.size.expr))
        printer.scopes[-1].lines += [*body, "}"]
    for accumulator in accumulators:
        printer.scopes[-1].lines += accumulator.finish()
        printer.bind(accumulator.name, accumulator.name, False, accumulator.reduction.dtype)
    made.ready |= {e for e in made.staged if any(e in walk(v) for v in values(p))}


def _two_level(r: Reduction, p: Pass) -> bool:
    total = 1
    for axis in p.axes:
        total *= max(axis.size.values)
    return r.kind == "sum" and ARITHMETIC[r.dtype] == "f32" and total * UNSEEN > CHUNK


def _sweep(
    made: Emission,
    printer: Printer,
    p: Pass,
    lane: Axis,
    accumulators: Sequence[Accumulator],
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
    made: Emission,
    printer: Printer,
    p: Pass,
    lane: Axis,
    at: str,
    lanes: str | None,
    accumulators: Sequence[Accumulator],
    copy: int,
) -> list[str]:
    """One vector's worth of a pass."""
    printer.open(lane.name)
    printer.text_of[lane.name] = at
    printer.lanes = lanes
    tail = f", {lanes}" if lanes else ""
    position = linear(p, lane.name, at)
    wanted = {e for v in values(p) for e in walk(v)} & set(made.staged)
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
