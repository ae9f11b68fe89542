"""Rows and the sums of their columns in one Triton kernel, and one that adds its programs' sums."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kernelevolve.programmers.builtin.collapse import indices
from kernelevolve.programmers.builtin.emit.tiles import Run, TilePrinter, points, text_of
from kernelevolve.programmers.builtin.emit.tiles_fused import Fused
from kernelevolve.programmers.builtin.emit.tiles_launch import (
    Launch,
    compiled_in,
    indented,
    launch,
)
from kernelevolve.programmers.builtin.emit.tiles_loops import (
    emit_loops,
    finish,
    together,
)
from kernelevolve.programmers.builtin.emit.tiles_sweeps import Sweeps, read_by, roomed
from kernelevolve.programmers.builtin.ir import DType, MapReduce, Pass, Reduction
from kernelevolve.programmers.builtin.schedule import Tiles


def emit_fused(region: Fused, symbols: Sequence[str], tiles: Tiles) -> list[Launch]:
    """Regions over the same rows as kernels, launched in this order."""
    buffers = [*region.reads, *region.writes]
    if not region.columns:
        return emit_loops(region.rows, buffers, symbols, tiles)
    first = _named(region.rows.passes).union(*(_named(c.passes[:1]) for c in region.columns))
    own = [b for b in buffers if b in first]
    made = [_Passing(region.rows, own, symbols, tiles, None, columns=region.columns).launch()]
    for column in region.columns:
        needed = [b for b in buffers if b in _named(column.passes[1:])]
        made.append(together(finish(column), needed, symbols, tiles))
    return made


def _named(passes: Sequence[Pass]) -> set[str]:
    """The buffers that passes read and write."""
    return {s.buffer for p in passes for s in p.stores}.union(*map(read_by, passes))


@dataclass
class _Passing(Sweeps):
    """Programs that each take many rows, and sum their columns as they pass."""

    columns: tuple[MapReduce, ...] = ()

    def launch(self) -> Launch:
        region, printer = self.region, TilePrinter()
        inner = next(p.axes for p in region.passes if p.axes)
        rows, length = text_of(points(region.outer)), text_of(points(inner))
        for r in self._sums():
            printer.line(f"{r.name}_sum = tl.zeros([ROWS, BLOCK], tl.float32)")
        printer.open()
        first = "(tl.program_id(0).to(INDEX) * STEPS + step) * ROWS"
        printer.line(f"row = {first} + tl.arange(0, ROWS)[:, None]")
        printer.line(f"row_in = row < ({rows})")
        printer.begin(Run("row", region.outer), "row_in")
        inside = self.whole(printer)
        while len(printer.scopes) > 1:
            inside = [*printer.close(), *inside]
        body = [
            *printer.scopes[0].lines,
            "for step in range(STEPS):",
            *indented(inside),
            "at = tl.arange(0, BLOCK).to(INDEX)[None, :]",
            f"here = tl.program_id(0).to(INDEX) * ({length}) + at",
        ]
        rooms: dict[str, DType] = {}
        for column in self.columns:
            parts = finish(column)
            rooms |= parts.rooms
            for r, room in zip(column.passes[0].reductions, parts.rooms, strict=True):
                total = f"tl.sum({r.name}_sum, 0, keep_dims=True)"
                body.append(f"tl.store({room} + here, {total}, mask=at < ({length}))")
        found = [i for r in (region, *self.columns) for i in indices(r)]
        extents = [a.size for a in (*region.outer[1:], *inner)]
        sizes = compiled_in(self.symbols, found, extents)
        given = f"{rows}, {length}, {self.tiles.row_points}, {self.tiles.splits}"
        before = [
            f"rows, block, steps, warps = passing_({given}, {self.tiles.warps})",
            f"shared_ = -(-({rows}) // (rows * steps))",
            *roomed(rooms, length, self.buffers[0]),
        ]
        decided = {
            "INDEX": "index",
            "ROWS": "rows",
            "BLOCK": "block",
            "STEPS": "steps",
            "num_warps": "warps",
        }
        buffers = [*self.buffers, *rooms]
        return launch(region.name, printer, body, buffers, sizes, decided, "(shared_,)", before)

    def _sums(self) -> list[Reduction]:
        return [r for c in self.columns for r in c.passes[0].reductions]

    def pass_on(self, printer: TilePrinter) -> None:
        """Take the block into the columns' sums."""
        for r in self._sums():
            value = f"tl.cast({printer.value(r.value).text}, tl.float32)"
            printer.line(f"{r.name}_sum += tl.where(row_in & at_in, {value}, 0.0)")
