"""Map/reduce regions and scans to Triton kernels: blocks of elements, of rows, or of columns.

*Maps*: a block of row-major numbers for each program. *Rows*: a block of points by a block along
the reduced axes; what fits into registers is read once, longer rows in a loop for each pass.
*Columns*, where memory is contiguous along an outer axis: the same, the other way round. Where
there are few points and much to reduce, several programs share each point, and a second kernel
finishes what they have.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from kernelevolve.programmers.builtin.collapse import indices
from kernelevolve.programmers.builtin.emit.mapreduce import column_axis
from kernelevolve.programmers.builtin.emit.tiles import (
    Run,
    TilePrinter,
    points,
    text_of,
)
from kernelevolve.programmers.builtin.emit.tiles_launch import (
    Launch,
    compiled_in,
    launch,
)
from kernelevolve.programmers.builtin.emit.tiles_reduce import (
    FIRST,
    LONG,
    summed,
)
from kernelevolve.programmers.builtin.emit.tiles_scan import emit_scan
from kernelevolve.programmers.builtin.emit.tiles_sweeps import Sweeps, read_by
from kernelevolve.programmers.builtin.ir import (
    Axis,
    DType,
    Index,
    Load,
    MapReduce,
    Pass,
    Reduction,
    Scan,
    Size,
    Term,
)
from kernelevolve.programmers.builtin.pull import flat
from kernelevolve.programmers.builtin.schedule import Tiles

FEW_POINTS = 264
"""Programs that a device has room for at once; fewer leave it idle."""


def emit_loops(
    region: MapReduce | Scan, buffers: Sequence[str], symbols: Sequence[str], tiles: Tiles
) -> list[Launch]:
    """A region as kernels, launched in this order; `buffers` are its arguments."""
    if isinstance(region, Scan):
        return emit_scan(region, buffers, symbols, tiles)
    if not any(p.reductions for p in region.passes):
        return [_map(region, p, n, buffers, symbols, tiles) for n, p in enumerate(region.passes)]
    lane = column_axis(region)
    if lane is not None and not lane.size.is_const(1) and max(lane.size.values) < 8:
        lane = None
    if tiles.splits == 1 or not _shareable(region, lane):
        return [Sweeps(region, buffers, symbols, tiles, lane).launch()]
    return _shared(region, buffers, symbols, tiles, lane)


def _shareable(region: MapReduce, lane: Axis | None) -> bool:
    """Whether programs can share the one long reduction of each of a few points."""
    first, *rest = region.passes
    if any(p.axes or p.reductions for p in rest) or not first.axes:
        return False
    if any(r.kind in FIRST for r in first.reductions) or first.stores:
        return False
    count = max(points(region.outer).values) // (64 if lane is not None else 1)
    long = LONG if lane is None else LONG // 8
    return count < FEW_POINTS and max(points(first.axes).values) >= long


def _map(
    region: MapReduce,
    p: Pass,
    number: int,
    buffers: Sequence[str],
    symbols: Sequence[str],
    tiles: Tiles,
) -> Launch:
    axes = (*region.outer, *p.axes)
    every = points(axes)
    printer = TilePrinter()
    printer.line("at = tl.program_id(0).to(INDEX) * BLOCK + tl.arange(0, BLOCK)")
    printer.line(f"at_in = at < ({text_of(every)})")
    printer.begin(Run("at", axes), "at_in")
    for store in p.stores:
        printer.write(store, ("at",), ("at_in",))
    inside = printer.close()
    body = [*printer.scopes[0].lines, *inside]
    name = region.name if number == 0 else f"{region.name}_{number}"
    sizes = compiled_in(symbols, indices(region), [a.size for a in axes[1:]])
    decided = {"INDEX": "index", "BLOCK": str(tiles.map_block), "num_warps": str(tiles.warps or 4)}
    grid = f"(-(-({text_of(every)}) // {tiles.map_block}),)"
    return launch(name, printer, body, buffers, sizes, decided, grid)


def _shared(
    region: MapReduce,
    buffers: Sequence[str],
    symbols: Sequence[str],
    tiles: Tiles,
    lane: Axis | None,
) -> list[Launch]:
    """A kernel for the shares of each point, and one that takes them together."""
    first, *rest = region.passes
    parts = finish(region)
    one = MapReduce(f"{region.name}_shares", region.outer, (first,))
    sweeps = Sweeps(one, buffers, symbols, tiles, lane, rooms=parts.rooms)
    own = [b for b in buffers if b not in read_by(first)]
    own += [b for b in _read_by_all(rest) if b not in own]
    return [sweeps.launch(), together(parts, own, symbols, tiles)]


class Parts(NamedTuple):
    """What remains of a region when every program has summed its share."""

    ended: MapReduce
    rooms: Mapping[str, DType]
    """Where the shares are: a row for each program, a number for each point."""


def finish(region: MapReduce) -> Parts:
    """The region with its first pass over `shared_` shares."""
    first, *rest = region.passes
    part = Axis("part", Size("shared_", (2,)))
    where = tuple(Index(Size.of(0), (Term(a.name, Size.of(1)),)) for a in (part, *region.outer))
    shape = [a.size for a in (part, *region.outer)]
    rooms: dict[str, DType] = {}
    again = []
    for r in first.reductions:
        dtype = summed(first, r, points(region.outer).is_const(1))
        dtype = "i32" if dtype == "bool" else dtype
        room = f"{region.name}_{r.name}"
        rooms[room] = dtype
        again.append(Reduction(r.name, r.kind, Load(dtype, room, flat(where, shape)), r.dtype))
    ended = MapReduce(region.name, region.outer, (Pass((part,), tuple(again)), *rest))
    return Parts(ended, rooms)


def together(parts: Parts, buffers: Sequence[str], symbols: Sequence[str], tiles: Tiles) -> Launch:
    """The kernel that takes all shares together; `buffers` are what it needs besides."""
    plain = tiles.model_copy(update={"splits": 1})
    lane = parts.ended.outer[-1] if parts.ended.outer else None
    given = [*buffers, *parts.rooms]
    return Sweeps(parts.ended, given, (*symbols, "shared_"), plain, lane).launch()


def _read_by_all(passes: Sequence[Pass]) -> list[str]:
    return sorted(set().union(*(read_by(p) for p in passes)))
