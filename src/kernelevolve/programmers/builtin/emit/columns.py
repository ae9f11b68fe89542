"""The column form: lanes are outer points, and reductions need no folding."""

from __future__ import annotations

from collections.abc import Sequence

from kernelevolve.programmers.builtin.emit.accumulators import Accumulator, forgiving
from kernelevolve.programmers.builtin.emit.expr import ARITHMETIC, Printer
from kernelevolve.programmers.builtin.emit.sweeps import UNSEEN, Emission, linear, loop
from kernelevolve.programmers.builtin.ir import Axis, Pass, Reduction

DEEP = 32
STRIPE = 32


def emit_columns(made: Emission, lane: Axis) -> list[str]:
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
        lines = [loop(axis.name, axis.size.expr), *lines, "}"]
    return lines


def _block(
    made: Emission, lane: Axis, others: Sequence[Axis], copies: int, lanes: str | None
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


def _column_pass(made: Emission, printers: Sequence[Printer], p: Pass) -> list[str]:
    sets = [
        [Accumulator(r, 1, _deep(r, p), f"c{c}_", forgiving(made.region, r)) for r in p.reductions]
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
    made: Emission, printers: Sequence[Printer], p: Pass, sets: Sequence[Sequence[Accumulator]]
) -> list[str]:
    """The loops of one pass, each step of which serves every printer's vector."""
    position = linear(p, "", "") if p.axes else "0"
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
    axis: Axis, body: list[str], sets: Sequence[Sequence[Accumulator]], innermost: bool
) -> list[str]:
    chunked = innermost and any(a.two_level for accumulators in sets for a in accumulators)
    r, n = axis.name, axis.size.expr
    if not chunked:
        return [loop(r, n), *body, "}"]
    flush = [line for accumulators in sets for a in accumulators for line in a.flush_lanes()]
    stop = f"const int64_t {r}_stop = {r}_chunk + {STRIPE} < {n} ? {r}_chunk + {STRIPE} : {n};"
    head = [loop(f"{r}_chunk", n, str(STRIPE)), stop, loop(r, f"{r}_stop", start=f"{r}_chunk")]
    return [*head, *body, "}", *flush, "}"]


def _deep(r: Reduction, p: Pass) -> bool:
    total = 1
    for axis in p.axes:
        total *= max(axis.size.values)
    return r.kind == "sum" and ARITHMETIC[r.dtype] == "f32" and total * UNSEEN > DEEP
