"""What the threads share, and along which axis: each thread writes rows or columns of its own.

Every part of a region is the region itself over fewer points of one axis, with scratch memory of
the thread that runs it; so parts share nothing but what they read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeAlias

from kernelevolve.programmers.builtin.emit.steps import Chained, Step
from kernelevolve.programmers.builtin.emit.sweeps import values
from kernelevolve.programmers.builtin.ir import (
    Axis,
    Call,
    Contraction,
    Expr,
    Index,
    Jump,
    Load,
    MapReduce,
    Opaque,
    Pass,
    Position,
    Scan,
    Size,
    Store,
    walk,
)
from kernelevolve.programmers.builtin.regions import HEAVY

Divisible: TypeAlias = MapReduce | Scan

WORTH = 40_000_000
"""Picoseconds of work below which waking other threads costs more than they save."""
ACCESS, HEAVY_CALL, CALL, MULTIPLY, RUNNING = 100, 500, 20, 20, 1000
"""Picoseconds that an element takes: a load or store, a function, a step of a product or scan."""
LINE = 64
"""Elements that a part of an axis along memory is a multiple of."""
BALANCED = 16
"""Points (or lines of them) that divide evenly enough."""


def work(step: Step) -> Size:
    """Picoseconds that a step takes one thread, roughly."""
    if isinstance(step, Chained):
        return _sum([work(stage) for stage in step.stages])
    if isinstance(step, Contraction):
        return _volume((*step.batch, step.m, step.n, step.k)) * Size.of(MULTIPLY)
    if isinstance(step, Scan):
        return _volume((*step.outer, step.axis)) * Size.of(RUNNING)
    if isinstance(step, Opaque):
        return Size.of(0)
    return _sum([_volume((*step.outer, *p.axes)) * Size.of(_cost(p)) for p in step.passes])


def threads_prelude() -> str:
    """What precedes the prelude of a file whose regions the threads share."""
    return f"#define WORTH {WORTH}"


def worth(step: Step) -> bool:
    """Tell whether threads help at any captured size; smaller sizes are left alone at run time."""
    return max(work(step).values) >= WORTH


def shared_axis(region: Divisible) -> Axis | None:
    """The axis that threads divide: the outermost with enough points, none where all are short."""
    points = {axis: _points(region, axis) for axis in _independent(region)}
    enough = [axis for axis in points if points[axis] >= BALANCED]
    best = enough[0] if enough else max(points, key=lambda a: points[a], default=None)
    return best if best is not None and points[best] > 1 else None


def part_of(region: Divisible, axis: Axis) -> Divisible:
    """The region over `count_` points of `axis`, from `from_` on."""
    mover = _Mover(axis)
    if isinstance(region, Scan):
        outer, value = mover.axes(region.outer), mover.value(region.value)
        return replace(region, outer=outer, value=value, store=mover.store(region.store))
    passes = tuple(
        Pass(
            mover.axes(p.axes),
            tuple(replace(r, value=mover.value(r.value)) for r in p.reductions),
            tuple(mover.store(s) for s in p.stores),
        )
        for p in region.passes
    )
    return MapReduce(region.name, mover.axes(region.outer), passes)


def shared_function(
    region: Divisible, axis: Axis, parameters: Sequence[str], arguments: Sequence[str]
) -> str:
    """`static void NAME(parameters…)`: runs `NAME_part` for each thread's share of `axis`."""
    unit = LINE if _along_memory(region, axis) else 1
    return "\n".join(
        [
            f"static void {region.name}({', '.join(parameters)}) {{",
            f"  const int64_t parts = workers({work(region).expr});",
            "#pragma omp parallel for schedule(static, 1) num_threads((int)parts)",
            "  for (int64_t at = 0; at < parts; ++at) {",
            f"    const Share mine = share({axis.size.expr}, {unit}, at, parts);",
            f"    if (mine.count) {region.name}_part("
            f"{', '.join([*arguments, 'mine.from', 'mine.count'])});",
            "  }",
            "}",
            "",
        ]
    )


def _sum(sizes: Sequence[Size]) -> Size:
    total = Size.of(0)
    for size in sizes:
        total = total + size
    return total


def _volume(axes: Sequence[Axis]) -> Size:
    total = Size.of(1)
    for axis in axes:
        total = total * axis.size
    return total


def _cost(p: Pass) -> int:
    nodes = {e for v in values(p) for e in walk(v)}
    loads = sum(isinstance(e, Load) for e in nodes)
    heavy = sum(isinstance(e, Call) and e.fn in HEAVY for e in nodes)
    return ACCESS * (loads + len(p.stores)) + HEAVY_CALL * heavy + CALL * len(nodes)


def _stores(region: Divisible) -> list[Store]:
    if isinstance(region, Scan):
        return [region.store]
    return [s for p in region.passes for s in p.stores]


def _independent(region: Divisible) -> list[Axis]:
    """Axes whose points store to places of their own and need nothing of one another."""
    axes = list(region.outer)
    if isinstance(region, MapReduce) and not axes and len(region.passes) == 1:
        (only,) = region.passes
        axes = [] if only.reductions else list(only.axes)
    moving = [a for a in axes if all(_moves(s.index, a) for s in _stores(region))]
    return [a for a in moving if not any(s.index.jumps for s in _stores(region))]


def _moves(index: Index, axis: Axis) -> bool:
    return all(v != 0 for v in index.stride(axis.name).values)


def _along_memory(region: Divisible, axis: Axis) -> bool:
    return any(s.index.stride(axis.name).constant == 1 for s in _stores(region))


def _points(region: Divisible, axis: Axis) -> int:
    unit = LINE if _along_memory(region, axis) else 1
    return max(-(-v // unit) for v in axis.size.values)


class _Mover:
    """Moves indices so that an axis that starts at 0 goes through a part of the original."""

    def __init__(self, axis: Axis) -> None:
        self.axis = axis
        self.start = Size("from_", (0,))
        self.memo: dict[Expr, Expr] = {}

    def axes(self, axes: tuple[Axis, ...]) -> tuple[Axis, ...]:
        part = Axis(self.axis.name, Size("count_", self.axis.size.values))
        return tuple(part if a.name == self.axis.name else a for a in axes)

    def store(self, store: Store) -> Store:
        return replace(store, index=self._index(store.index), value=self.value(store.value))

    def value(self, expr: Expr) -> Expr:
        for node in walk(expr):
            if node not in self.memo:
                self.memo[node] = self._moved(node)
        return self.memo[expr]

    def _moved(self, expr: Expr) -> Expr:
        if isinstance(expr, Call):
            return replace(expr, args=tuple(self.memo[a] for a in expr.args))
        if isinstance(expr, Load):
            inside = expr.inside and self.memo[expr.inside]
            return replace(expr, index=self._index(expr.index), inside=inside)
        if isinstance(expr, Position):
            return replace(expr, index=self._index(expr.index))
        return expr

    def _index(self, index: Index) -> Index:
        stride = index.stride(self.axis.name)
        offset = index.offset + self.start * stride
        jumps = tuple(Jump(self.value(j.where), j.stride) for j in index.jumps)
        return Index(offset, index.terms, jumps)
