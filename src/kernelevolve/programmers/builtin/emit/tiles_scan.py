"""Scans to Triton kernels: a block of rows for each program, and a carry from block to block."""

from __future__ import annotations

from collections.abc import Sequence

from kernelevolve.programmers.builtin.emit.expr import ARITHMETIC
from kernelevolve.programmers.builtin.emit.tiles import (
    KIND,
    Run,
    TilePrinter,
    literal,
    points,
    text_of,
)
from kernelevolve.programmers.builtin.emit.tiles_launch import (
    Launch,
    compiled_in,
    launch,
    row_block,
)
from kernelevolve.programmers.builtin.emit.tiles_reduce import FOLD, JOIN, folded, identity, loop
from kernelevolve.programmers.builtin.ir import DType, Load, Scan, walk
from kernelevolve.programmers.builtin.schedule import Tiles


def emit_scan(region: Scan, buffers: Sequence[str], symbols: Sequence[str], tiles: Tiles) -> Launch:
    """A scan as one kernel; `buffers` are its arguments."""
    dtype = ARITHMETIC[region.dtype]
    wide: DType = "f64" if dtype == "f32" and region.kind == "sum" else dtype
    rows = points(region.outer)
    printer = TilePrinter()
    printer.line("row = tl.program_id(0).to(INDEX) * ROWS + tl.arange(0, ROWS)[:, None]")
    printer.line(f"row_in = row < ({text_of(rows)})")
    printer.begin(Run("row", region.outer), "row_in")
    start = literal(identity(region.kind, wide), wide)
    printer.line(f"carry = tl.full([ROWS, 1], {start}, {KIND[wide]})")
    printer.begin(Run("at", (region.axis,)), "at_in")
    value = printer.value(region.value).text
    printer.line(f"mine = tl.cast(tl.where(at_in & row_in, {value}, {start}), {KIND[wide]})")
    running = {"sum": "tl.cumsum(mine, 1)", "prod": "tl.cumprod(mine, 1)"}.get(
        region.kind, f"tl.associative_scan(mine, 1, {FOLD.get(region.kind, '')})"
    )
    printer.line(f"steps = {JOIN[region.kind].format('carry', running)}")
    total = folded("mine", region.kind, 1)
    printer.line(f"carry = {JOIN[region.kind].format('carry', total)}")
    printer.bind("carry", "steps", False, wide)
    printer.write(region.store, ("row", "at"), ("row_in", "at_in"))
    inside = printer.close()
    of_row = printer.close()
    length = text_of(region.axis.size)
    body = [*printer.scopes[0].lines, *of_row, *loop(length, 1, inside)]
    found = [e.index for e in walk(region.value) if isinstance(e, Load)]
    extents = [region.axis.size, *(a.size for a in region.outer[1:])]
    sizes = compiled_in(symbols, [*found, region.store.index], extents)
    return launch(
        region.name, printer, body, buffers, sizes, *row_block(rows, region.axis.size, tiles)
    )
