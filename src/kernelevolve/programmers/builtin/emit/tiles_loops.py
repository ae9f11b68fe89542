"""Map/reduce regions and scans to Triton kernels: blocks of elements, of rows, or of columns.

*Maps*: a block of row-major numbers for each program. *Rows*: a block of points by a block along
the reduced axes; what fits into registers is read once, longer rows in a loop for each pass.
*Columns*, where memory is contiguous along an outer axis: the same, the other way round. Where
there are few points and much to reduce, several programs share each point, and a second kernel
finishes what they have.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kernelevolve.programmers.builtin.collapse import indices
from kernelevolve.programmers.builtin.emit.accumulators import forgiving
from kernelevolve.programmers.builtin.emit.expr import ARITHMETIC
from kernelevolve.programmers.builtin.emit.mapreduce import column_axis
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
    indented,
    launch,
    row_block,
)
from kernelevolve.programmers.builtin.emit.tiles_reduce import (
    FIRST,
    JOIN,
    LONG,
    folded,
    identity,
    loop,
    summed,
)
from kernelevolve.programmers.builtin.emit.tiles_scan import emit_scan
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
    Store,
    Term,
    walk,
)
from kernelevolve.programmers.builtin.pull import flat
from kernelevolve.programmers.builtin.rules_torch import TORCH
from kernelevolve.programmers.builtin.schedule import Tiles

FEW_POINTS = 264
"""Programs that a device has room for at once; fewer leave it idle."""


def emit_loops(
    region: MapReduce | Scan, buffers: Sequence[str], symbols: Sequence[str], tiles: Tiles
) -> list[Launch]:
    """A region as kernels, launched in this order; `buffers` are its arguments."""
    if isinstance(region, Scan):
        return [emit_scan(region, buffers, symbols, tiles)]
    if not any(p.reductions for p in region.passes):
        return [_map(region, p, n, buffers, symbols, tiles) for n, p in enumerate(region.passes)]
    lane = column_axis(region)
    if lane is not None and not lane.size.is_const(1) and max(lane.size.values) < 8:
        lane = None
    if tiles.splits == 1 or not _shareable(region, lane):
        return [_Sweeps(region, buffers, symbols, tiles, lane).launch()]
    return _shared(region, buffers, symbols, tiles, lane)


def _shareable(region: MapReduce, lane: Axis | None) -> bool:
    """Whether programs can share the one long reduction of each of a few points."""
    first, *rest = region.passes
    if any(p.axes or p.reductions for p in rest) or not first.axes:
        return False
    if any(r.kind in FIRST for r in first.reductions) or first.stores:
        return False
    count = max(points(region.outer).values) // (64 if lane is not None else 1)
    return count < FEW_POINTS and max(points(first.axes).values) >= LONG // (
        8 if lane is not None else 1
    )


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
    part = Axis("part", Size("shared_", (2,)))
    where = tuple(Index(Size.of(0), (Term(a.name, Size.of(1)),)) for a in (part, *region.outer))
    shape = [a.size for a in (part, *region.outer)]
    stores, again = [], []
    for r in first.reductions:
        room = f"{region.name}_{r.name}"
        dtype = summed(first, r, points(region.outer).is_const(1))
        dtype = "i32" if dtype == "bool" else dtype
        stores.append((r, room, dtype))
        again.append(Reduction(r.name, r.kind, Load(dtype, room, flat(where, shape)), r.dtype))
    rooms = {room: dtype for _, room, dtype in stores}
    one = MapReduce(f"{region.name}_shares", region.outer, (first,))
    sweeps = _Sweeps(one, buffers, symbols, tiles, lane, rooms=rooms)
    ended = MapReduce(region.name, region.outer, (Pass((part,), tuple(again)), *rest))
    own = [b for b in buffers if b not in _read_by(first)]
    own += [b for b in _read_by_all(rest) if b not in own]
    plain = tiles.model_copy(update={"splits": 1})
    second_lane = region.outer[-1] if region.outer else None
    more = (*symbols, "shared_")
    second = _Sweeps(ended, [*own, *rooms], more, plain, second_lane)
    return [sweeps.launch(), second.launch()]


def _read_by(p: Pass) -> set[str]:
    values = [r.value for r in p.reductions] + [s.value for s in p.stores]
    return {e.buffer for v in values for e in walk(v) if isinstance(e, Load)}


def _read_by_all(passes: Sequence[Pass]) -> list[str]:
    return sorted(set().union(*(_read_by(p) for p in passes)))


@dataclass
class _Sweeps:
    """A region whose points are reduced in blocks."""

    region: MapReduce
    buffers: Sequence[str]
    symbols: Sequence[str]
    tiles: Tiles
    lane: Axis | None
    """Along which columns lie side by side; None for rows."""
    rooms: Mapping[str, DType] | None = None
    """Where shares of the reductions go, where programs share a point."""

    def launch(self) -> Launch:
        region, printer = self.region, TilePrinter()
        outer = [a for a in region.outer if a != self.lane]
        self._open(printer, outer)
        together = self._whole(printer)
        printer.open()
        looped = self._passes(printer)
        lines = ["if WHOLE:", *indented(together), "else:", *indented(looped)]
        lines = lines if together else looped
        while len(printer.scopes) > 1:
            lines = [*printer.close(), *lines]
        swept = 0 if self.rooms is None else 1
        extents = [a.size for p in region.passes for a in p.axes[swept:]]
        extents += [a.size for a in (outer if self.lane is not None else outer[1:])]
        sizes = compiled_in(self.symbols, indices(region), extents)
        decided, grid, before = self._decided(outer)
        if not together:
            decided.pop("WHOLE")
        body = [*printer.scopes[0].lines, *lines]
        buffers = [*self.buffers, *(self.rooms or ())]
        if self.rooms is not None:
            buffers = [b for b in buffers if b not in _written_later(region, self.buffers)]
        return launch(region.name, printer, body, buffers, sizes, decided, grid, before)

    @property
    def axis(self) -> int:
        """The dimension that reductions run along."""
        return 0 if self.lane is not None else 1

    @property
    def shape(self) -> str:
        """Of a block of what is reduced."""
        return "[BLOCK, ROWS]" if self.lane is not None else "[ROWS, BLOCK]"

    @property
    def across(self) -> str:
        """How the points' numbers lie in a block."""
        return "[None, :]" if self.lane is not None else "[:, None]"

    def _open(self, printer: TilePrinter, outer: Sequence[Axis]) -> None:
        """The points of a program."""
        if self.lane is None:
            printer.line(
                f"row = tl.program_id(0).to(INDEX) * ROWS + tl.arange(0, ROWS){self.across}"
            )
            printer.line(f"row_in = row < ({text_of(points(outer))})")
            printer.begin(Run("row", tuple(outer)), "row_in")
            return
        lanes = text_of(self.lane.size)
        printer.line(f"tiles = (({lanes}) + ROWS - 1) // ROWS")
        printer.line("point = (tl.program_id(0) // tiles).to(INDEX)")
        printer.line("tile = (tl.program_id(0) % tiles).to(INDEX)")
        printer.line(f"row = tile * ROWS + tl.arange(0, ROWS){self.across}")
        printer.line(f"row_in = row < ({lanes})")
        printer.begin(Run("point", tuple(outer)))
        printer.begin(Run("row", (self.lane,)), "row_in")

    def _decided(self, outer: Sequence[Axis]) -> tuple[dict[str, str], str, list[str]]:
        tiles = self.tiles
        length = max((points(p.axes) for p in self.region.passes), key=lambda s: max(s.values))
        long = text_of(length)
        if self.lane is None:
            decided, grid, before = row_block(points(outer), length, tiles)
            count = grid[1:-2]
        else:
            lanes, others = text_of(self.lane.size), text_of(points(outer))
            given = f"{lanes}, {long}, {tiles.column_width}, {tiles.column_depth}"
            before = [f"rows, block = column_block_({given})"]
            count = f"({others}) * -(-({lanes}) // rows)"
            warps = str(tiles.warps or 4)
            decided = {"INDEX": "index", "ROWS": "rows", "BLOCK": "block", "num_warps": warps}
            grid = f"({count},)"
        decided["WHOLE"] = f"({long}) <= block"
        if self.rooms is not None:
            given = f"{count}, {long}, block, {tiles.splits}"
            before.append(f"shared_, steps = shares_({given})")
            decided["STEPS"] = "steps"
            every = text_of(points(self.region.outer))
            before += [
                f"{room} = torch.empty((shared_ * ({every}),), dtype=torch.{TORCH[dtype]}, "
                f"device={self.buffers[0]}.device)"
                for room, dtype in self.rooms.items()
            ]
            grid = f"({count}, shared_)"
        return decided, grid, before

    def _whole(self, printer: TilePrinter) -> list[str]:
        """All passes over blocks that hold everything; empty where passes have several shapes."""
        swept = {p.axes for p in self.region.passes if p.axes}
        if len(swept) != 1 or self.rooms is not None:
            return []
        axes = next(iter(swept))
        length = text_of(points(axes))
        shape = "[:, None]" if self.axis == 0 else "[None, :]"
        printer.open()
        printer.line(f"at = tl.arange(0, BLOCK).to(INDEX){shape}")
        printer.line(f"at_in = at < ({length})")
        printer.begin(Run("at", axes), "at_in")
        for p in self.region.passes:
            for r in p.reductions:
                self._start(printer, p, r)
                self._take_in(printer, p, r)
                self._fold(printer, p, r)
            for store in p.stores:
                self._write(printer, store, p)
        lines = printer.close()
        lines = [*printer.close(), *lines]
        self._leave(printer, axes)
        return lines

    def _leave(self, printer: TilePrinter, axes: Sequence[Axis]) -> None:
        printer.runs.pop()
        for axis in axes:
            printer.masks.pop(axis.name, None)

    def _passes(self, printer: TilePrinter) -> list[str]:
        """Every pass in a loop of its own."""
        for p in self.region.passes:
            if p.axes:
                self._swept(printer, p)
                continue
            for store in p.stores:
                self._write(printer, store, p)
        return printer.close()

    def _swept(self, printer: TilePrinter, p: Pass) -> None:
        """One pass over axes of its own, or this program's share of it."""
        for r in p.reductions:
            self._start(printer, p, r)
        printer.begin(Run("at", p.axes), "at_in")
        for r in p.reductions:
            self._take_in(printer, p, r)
        for store in p.stores:
            self._write(printer, store, p)
        inside = printer.close()
        self._leave(printer, p.axes)
        first = "" if self.rooms is None else "part * STEPS * BLOCK + "
        if first:
            printer.line("part = tl.program_id(1).to(INDEX)")
        for line in loop(text_of(points(p.axes)), self.axis, inside, first):
            printer.line(line)
        for r in p.reductions:
            self._fold(printer, p, r)
        if first:
            self._put_aside(printer, p)

    def _put_aside(self, printer: TilePrinter, p: Pass) -> None:
        """Store the shares of this program."""
        where = [Index(Size.of(0), (Term(a.name, Size.of(1)),)) for a in self.region.outer]
        here = printer.offset(flat(tuple(where), [a.size for a in self.region.outer]))
        every = text_of(points(self.region.outer))
        for r in p.reductions:
            at = f"part * ({every}) + {here} + row * 0"
            room = f"{self.region.name.removesuffix('_shares')}_{r.name}"
            printer.line(f"tl.store({room} + ({at}), {r.name}, mask=row_in)")

    def _write(self, printer: TilePrinter, store: Store, p: Pass) -> None:
        if p.axes:
            printer.write(store, ("row", "at"), ("row_in", "at_in"))
        else:
            printer.write(store, ("row",), ("row_in",))

    def _start(self, printer: TilePrinter, p: Pass, r: Reduction) -> None:
        dtype = self._kind(p, r)
        start = literal(identity(r.kind, dtype), dtype)
        printer.line(f"{r.name}_own = tl.full({self.shape}, {start}, {KIND[dtype]})")
        if r.kind in FIRST:
            printer.line(f"{r.name}_at = tl.full({self.shape}, {2**63 - 1}, tl.int64)")

    def _take_in(self, printer: TilePrinter, p: Pass, r: Reduction) -> None:
        dtype = self._kind(p, r)
        own, value = f"{r.name}_own", f"tl.cast({printer.value(r.value).text}, {KIND[dtype]})"
        value = f"tl.where(at_in, {value}, {literal(identity(r.kind, dtype), dtype)})"
        if r.kind in FIRST:
            far = f"tl.where(at_in, tl.cast(at, tl.int64), {2**63 - 1})"
            given = f"{own}, {r.name}_at, {value}, {far}"
            printer.line(f"{own}, {r.name}_at = {FIRST[r.kind]}({given})")
            return
        printer.line(f"{own} = {JOIN[r.kind].format(own, value)}")

    def _fold(self, printer: TilePrinter, p: Pass, r: Reduction) -> None:
        own, dim = f"{r.name}_own", self.axis
        if r.kind in FIRST:
            both = f"({own}, {r.name}_at), {dim}, {FIRST[r.kind]}, keep_dims=True"
            printer.line(f"{own}, {r.name} = tl.reduce({both})")
        else:
            plain = forgiving(self.region, r)
            printer.line(f"{r.name} = {folded(own, r.kind, dim, plain)}")
            kept = self._kind(p, r) if self.rooms is not None else ARITHMETIC[r.dtype]
            if self._kind(p, r) != kept:
                cast = f"tl.cast({r.name}, {KIND[kept]})"
                printer.line(f"{r.name} = {f'{r.name} != 0' if kept == 'bool' else cast}")
        printer.bind(r.name, r.name, False, r.dtype)

    def _kind(self, p: Pass, r: Reduction) -> DType:
        """What is gathered in a block: 32-bit integers for bool."""
        dtype = summed(p, r, points(self.region.outer).is_const(1))
        return "i32" if dtype == "bool" else dtype


def _written_later(region: MapReduce, buffers: Sequence[str]) -> set[str]:
    read = set().union(*(_read_by(p) for p in region.passes))
    return {b for b in buffers if b not in read}
