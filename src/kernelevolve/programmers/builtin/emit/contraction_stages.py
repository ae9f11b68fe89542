"""Which regions go through the same rows, so that one block of rows can pass them all."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple, TypeAlias

from kernelevolve.programmers.builtin.emit.contraction_rows import rowwise
from kernelevolve.programmers.builtin.ir import (
    Axis,
    Contraction,
    Expr,
    Index,
    MapReduce,
    Opaque,
    Region,
    Scan,
    Size,
    Store,
    axes_of,
    loads_of,
)

Stage: TypeAlias = Contraction | MapReduce


class Chain(NamedTuple):
    """Neighbouring regions to run together."""

    stages: tuple[Stage, ...]
    local: tuple[str, ...]
    """Intermediates that only the chain needs."""


class Access(NamedTuple):
    """A read or write of a stage."""

    buffer: str
    where: Index
    written: bool


def chainable(stages: Sequence[Stage]) -> bool:
    """Tell whether the stages can run row block by row block, and at least one is a product."""
    if len(stages) < 2 or not any(isinstance(s, Contraction) for s in stages):
        return False
    if not all(isinstance(s, Contraction) or rowwise(s) for s in stages):
        return False
    if any(s.m.parts or s.k.parts for s in stages if isinstance(s, Contraction)):
        return False
    counts = {_rows(s).values for s in stages}
    splits = {(batch_of(s).values, s.m.size.values) for s in stages if isinstance(s, Contraction)}
    made = {a.buffer for s in stages for a in accesses(s) if a.written}
    local = all(row_length(s, a.where) for s in stages for a in accesses(s) if a.buffer in made)
    one_order = len(counts) == 1 and len(splits) == 1
    return one_order and local and not any(_leaves_rows(s, made) for s in stages)


def find_chains(regions: Sequence[Region], kept: Collection[str]) -> tuple[Chain, ...]:
    """The longest chains of neighbours in `regions`, each with what stays inside it.

    `kept` are buffers that somebody outside of `regions` reads; chains without an intermediate of
    their own are not worth having and left out.
    """
    chains: list[Chain] = []
    start = 0
    while start < len(regions):
        stages = _longest(regions, start)
        others = [r for r in regions if r not in stages]
        local = _inside(stages, {*kept, *(b for r in others for b in _read_by(r))})
        if local:
            chains.append(Chain(stages, local))
        start += max(1, len(stages) if local else 1)
    return tuple(chains)


def _longest(regions: Sequence[Region], start: int) -> tuple[Stage, ...]:
    stages: list[Stage] = []
    best: tuple[Stage, ...] = ()
    for region in regions[start:]:
        if not isinstance(region, Contraction | MapReduce):
            break
        stages.append(region)
        if chainable(stages):
            best = tuple(stages)
    return best


def _inside(stages: Sequence[Stage], wanted: Collection[str]) -> tuple[str, ...]:
    written = [s.buffer for stage in stages[:-1] for s in _stores(stage)]
    read = {b for stage in stages for b in _read_by(stage)}
    return tuple(b for b in dict.fromkeys(written) if b in read and b not in wanted)


def _read_by(region: Region) -> tuple[str, ...]:
    if isinstance(region, Opaque):
        return region.reads
    if isinstance(region, Scan):
        return tuple(load.buffer for load in loads_of(region.value))
    return tuple(a.buffer for a in accesses(region) if not a.written)


def batch_of(contraction: Contraction) -> Size:
    """The product of the batch axes."""
    batch = Size.of(1)
    for axis in contraction.batch:
        batch = batch * axis.size
    return batch


def _row_axes(stage: Stage) -> tuple[Axis, ...]:
    return (*stage.batch, stage.m) if isinstance(stage, Contraction) else stage.outer


def _rows(stage: Stage) -> Size:
    rows = Size.of(1)
    for axis in _row_axes(stage):
        rows = rows * axis.size
    return rows


def values_of(stage: Stage) -> list[Expr]:
    """Every expression that a stage computes."""
    if isinstance(stage, Contraction):
        return [stage.a, stage.b, *(s.value for s in stage.stores)]
    reductions = [r.value for p in stage.passes for r in p.reductions]
    return [*reductions, *(s.value for p in stage.passes for s in p.stores)]


def _stores(stage: Stage) -> tuple[Store, ...]:
    if isinstance(stage, Contraction):
        return stage.stores
    return tuple(s for p in stage.passes for s in p.stores)


def accesses(stage: Stage) -> list[Access]:
    """Every read and write of a stage."""
    reads = [Access(x.buffer, x.index, False) for e in values_of(stage) for x in loads_of(e)]
    return reads + [Access(s.buffer, s.index, True) for s in _stores(stage)]


def row_length(stage: Stage, index: Index) -> Size | None:
    """Elements per row where the index goes through contiguous rows in the stage's row order."""
    axes = _row_axes(stage)
    length = next((index.stride(a.name) for a in reversed(axes) if not a.size.is_const(1)), None)
    if length is None or index.jumps:
        return None
    expected = length
    for axis in reversed(axes):
        if not axis.size.is_const(1) and index.stride(axis.name).values != expected.values:
            return None
        expected = expected * axis.size
    return length if _within(stage, index, length) else None


def _within(stage: Stage, index: Index, length: Size) -> bool:
    """Tell whether the axes inside a row stay inside it."""
    inner = {a.name: a.size for a in _inner_axes(stage)}
    reach = index.offset
    for term in index.terms:
        if term.axis in inner:
            reach = reach + term.stride * (inner[term.axis] + Size.of(-1))
    count = max(len(reach.values), len(length.values))
    reaches, lengths = (x * count if len(x) == 1 else x for x in (reach.values, length.values))
    return all(r < n for r, n in zip(reaches, lengths, strict=True))


def _inner_axes(stage: Stage) -> tuple[Axis, ...]:
    if isinstance(stage, Contraction):
        return (stage.n, stage.k)
    return tuple(a for p in stage.passes for a in p.axes)


def _leaves_rows(stage: Stage, made: Collection[str]) -> bool:
    """Tell whether the stage reads what the chain makes in other rows, or as B."""
    if not isinstance(stage, Contraction):
        return False
    of_b = {x.buffer for x in loads_of(stage.b)}
    return bool(of_b & set(made)) or stage.m.name in axes_of(stage.b)
