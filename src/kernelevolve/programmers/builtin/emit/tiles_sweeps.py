"""A map/reduce region in blocks: all of a point's values at once, or a loop for each pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kernelevolve.programmers.builtin.collapse import indices
from kernelevolve.programmers.builtin.emit.accumulators import forgiving
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
    indented,
    launch,
    row_block,
)
from kernelevolve.programmers.builtin.emit.tiles_reduce import (
    FIRST,
    JOIN,
    folded,
    identity,
    loop,
    summed,
)
from kernelevolve.programmers.builtin.ir import (
    Axis,
    DType,
    Index,
    Load,
    MapReduce,
    Pass,
    Reduction,
    Size,
    Store,
    Term,
    walk,
)
from kernelevolve.programmers.builtin.pull import flat
from kernelevolve.programmers.builtin.rules_torch import TORCH
from kernelevolve.programmers.builtin.schedule import Tiles


def roomed(rooms: Mapping[str, DType], count: str, near: str) -> list[str]:
    """Statements of `forward` that make room for the shares of so many points."""
    return [
        f"{room} = torch.empty((shared_ * ({count}),), dtype=torch.{TORCH[dtype]}, "
        f"device={near}.device)"
        for room, dtype in rooms.items()
    ]


def read_by(p: Pass) -> set[str]:
    values = [r.value for r in p.reductions] + [s.value for s in p.stores]
    return {e.buffer for v in values for e in walk(v) if isinstance(e, Load)}


@dataclass
class Sweeps:
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
        together = self.whole(printer)
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
            before += roomed(self.rooms, every, self.buffers[0])
            grid = f"({count}, shared_)"
        return decided, grid, before

    def whole(self, printer: TilePrinter) -> list[str]:
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
        self.pass_on(printer)
        lines = printer.close()
        lines = [*printer.close(), *lines]
        self._leave(printer, axes)
        return lines

    def pass_on(self, printer: TilePrinter) -> None:
        """What else is done with a block that holds everything."""

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
    read = set().union(*(read_by(p) for p in region.passes))
    return {b for b in buffers if b not in read}
