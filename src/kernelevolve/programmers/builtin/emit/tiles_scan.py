"""Scans to Triton kernels: a block of rows for each program, and a carry from block to block.

Of few long rows of integers, every program has a piece: one kernel sums each, and another one adds
what lies before a piece to its running sums.
"""

from __future__ import annotations

from collections.abc import Sequence

from kernelevolve.programmers.builtin.emit.expr import ARITHMETIC
from kernelevolve.programmers.builtin.emit.tiles import (
    INTEGERS,
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
from kernelevolve.programmers.builtin.emit.tiles_sweeps import roomed
from kernelevolve.programmers.builtin.ir import DType, Load, Scan, walk
from kernelevolve.programmers.builtin.schedule import Tiles

PIECE = 2048
FEW_ROWS, LONG = 264, 2 * PIECE


def emit_scan(
    region: Scan, buffers: Sequence[str], symbols: Sequence[str], tiles: Tiles
) -> list[Launch]:
    """A scan as kernels, launched in this order; `buffers` are its arguments."""
    few = max(points(region.outer).values) < FEW_ROWS and max(region.axis.size.values) >= LONG
    if few and region.kind == "sum" and ARITHMETIC[region.dtype] in INTEGERS:
        return _pieces(region, buffers, symbols, tiles)
    return [_rows(region, buffers, symbols, tiles)]


def _pieces(
    region: Scan, buffers: Sequence[str], symbols: Sequence[str], tiles: Tiles
) -> list[Launch]:
    room, rows = f"{region.name}_sums", text_of(points(region.outer))
    rooms = [
        f"shared_ = -(-({text_of(region.axis.size)}) // {PIECE})",
        *roomed({room: ARITHMETIC[region.dtype]}, rows, buffers[0]),
    ]
    sizes = compiled_in(symbols, [], [a.size for a in region.outer[1:]])
    made = []
    for name, last in ((f"{region.name}_pieces", False), (region.name, True)):
        printer = TilePrinter()
        body = _piece(region, printer, room, last)
        decided = {"INDEX": "index", "num_warps": str(tiles.warps or 4)}
        given = [*buffers, room]
        before = [] if last else rooms
        made.append(
            launch(name, printer, body, given, sizes, decided, f"(({rows}) * shared_,)", before)
        )
    return made


def _piece(region: Scan, printer: TilePrinter, room: str, last: bool) -> list[str]:
    """What a program does with its piece: its sum, or at last its running sums."""
    kind, length = KIND[ARITHMETIC[region.dtype]], text_of(region.axis.size)
    head = [
        f"pieces = (({length}) + {PIECE - 1}) // {PIECE}",
        "row = tl.program_id(0).to(INDEX) // pieces",
        "part = tl.program_id(0).to(INDEX) % pieces",
        f"at = part * {PIECE} + tl.arange(0, {PIECE})",
        f"at_in = at < ({length})",
    ]
    printer.begin(Run("row", region.outer))
    printer.begin(Run("at", (region.axis,)), "at_in")
    value = printer.value(region.value).text
    printer.line(f"mine = tl.cast(tl.where(at_in, {value}, 0), {kind})")
    if last:
        for line in (
            f"sums = tl.zeros([{PIECE}], {kind})",
            "start = part * 0",
            "while start < part:",
            f"    near = start + tl.arange(0, {PIECE})",
            f"    sums += tl.load({room} + row * pieces + near, mask=near < part, other=0)",
            f"    start += {PIECE}",
            "steps = tl.cumsum(mine, 0) + tl.sum(sums, 0)",
        ):
            printer.line(line)
        printer.bind("carry", "steps", False, region.dtype)
        printer.write(region.store, ("at",), ("at_in",))
    else:
        printer.line(f"tl.store({room} + tl.program_id(0), tl.sum(mine, 0))")
    inside = printer.close()
    of_row = printer.close()
    return [*head, *printer.scopes[0].lines, *of_row, *inside]


def _rows(region: Scan, buffers: Sequence[str], symbols: Sequence[str], tiles: Tiles) -> Launch:
    """A scan as one kernel."""
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
