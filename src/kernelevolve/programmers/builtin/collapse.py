"""Merges nested loops that walk memory as one loop would."""

from __future__ import annotations

from dataclasses import replace

from kernelevolve.programmers.builtin.ir import (
    Axis,
    Call,
    Expr,
    Index,
    Jump,
    Load,
    MapReduce,
    Pass,
    Position,
    Store,
    walk,
)


def indices(region: MapReduce) -> list[Index]:
    """Every index that occurs in a region."""
    found = [s.index for p in region.passes for s in p.stores]
    for p in region.passes:
        for value in [r.value for r in p.reductions] + [s.value for s in p.stores]:
            found += [e.index for e in walk(value) if isinstance(e, Load | Position)]
    return found


def collapse(region: MapReduce) -> MapReduce:
    """Merge every mergeable pair of adjacent loops, outermost first."""
    while (pair := _mergeable(region)) is not None:
        region = _merge(region, *pair)
    return region


def _mergeable(region: MapReduce) -> tuple[Axis, Axis] | None:
    groups = [region.outer, *(p.axes for p in region.passes)]
    everywhere = indices(region)
    for group in groups:
        for high, low in zip(group, group[1:], strict=False):
            if all(_adjacent(g, high, low) for g in groups) and all(
                i.stride(high.name) == i.stride(low.name) * low.size for i in everywhere
            ):
                return high, low
    return None


def _adjacent(group: tuple[Axis, ...], high: Axis, low: Axis) -> bool:
    """Neither axis occurs, or both do, one right after the other."""
    if high not in group and low not in group:
        return True
    return high in group and low in group and group.index(high) + 1 == group.index(low)


def _merge(region: MapReduce, high: Axis, low: Axis) -> MapReduce:
    merged = Axis(low.name, high.size * low.size)
    memo: dict[Expr, Expr] = {}

    def loops(axes: tuple[Axis, ...]) -> tuple[Axis, ...]:
        return tuple(merged if a == low else a for a in axes if a != high)

    def value(expr: Expr) -> Expr:
        for node in walk(expr):
            if node not in memo:
                memo[node] = _without(node, high.name, memo)
        return memo[expr]

    def store(s: Store) -> Store:
        return replace(s, index=_drop(s.index, high.name, memo), value=value(s.value))

    passes = tuple(
        Pass(
            loops(p.axes),
            tuple(replace(r, value=value(r.value)) for r in p.reductions),
            tuple(store(s) for s in p.stores),
        )
        for p in region.passes
    )
    return MapReduce(region.name, loops(region.outer), passes)


def _without(expr: Expr, axis: str, memo: dict[Expr, Expr]) -> Expr:
    if isinstance(expr, Call):
        return Call(expr.dtype, expr.fn, tuple(memo[a] for a in expr.args))
    if isinstance(expr, Load):
        inside = expr.inside and memo[expr.inside]
        return replace(expr, index=_drop(expr.index, axis, memo), inside=inside)
    if isinstance(expr, Position):
        return replace(expr, index=_drop(expr.index, axis, memo))
    return expr


def _drop(index: Index, axis: str, memo: dict[Expr, Expr]) -> Index:
    return Index(
        index.offset,
        tuple(t for t in index.terms if t.axis != axis),
        tuple(Jump(memo.get(j.where, j.where), j.stride) for j in index.jumps),
    )
