"""Neighbouring regions over the same rows as one, so that rows are read once.

A region that reads what an earlier one makes of the same row takes it from there; one that sums
over all rows, column by column, is fed by the rows as they pass.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from kernelevolve.programmers.builtin.emit.mapreduce import column_axis
from kernelevolve.programmers.builtin.emit.steps import Step, reads
from kernelevolve.programmers.builtin.emit.sweeps import values
from kernelevolve.programmers.builtin.emit.tiles import points
from kernelevolve.programmers.builtin.ir import (
    Axis,
    Call,
    Const,
    Expr,
    Index,
    Jump,
    Load,
    MapReduce,
    Pass,
    Position,
    Reduction,
    Ref,
    Store,
    Term,
    loads_of,
    walk,
)

LONGEST = 16384
"""Values of a row that several regions over it may hold."""


@dataclass(frozen=True)
class Fused:
    """Regions over the same rows."""

    rows: MapReduce
    """All that is made of rows, in one sweep after the other."""
    columns: tuple[MapReduce, ...]
    """Regions that sum over the rows, in the words of `rows`; the first pass of each sums."""
    dropped: frozenset[str]
    """Buffers that nobody reads any more."""

    @property
    def reads(self) -> tuple[str, ...]:
        """Names of the buffers that come from elsewhere."""
        regions = (self.rows, *self.columns)
        found = [
            x.buffer for r in regions for p in r.passes for v in values(p) for x in loads_of(v)
        ]
        return tuple(b for b in dict.fromkeys(found) if b not in self.writes)

    @property
    def writes(self) -> tuple[str, ...]:
        """Names of the buffers that become memory."""
        regions = (self.rows, *self.columns)
        return tuple(dict.fromkeys(s.buffer for r in regions for p in r.passes for s in p.stores))


def fused(steps: Sequence[Step], internal: Collection[str]) -> list[Step | Fused]:
    """The steps with runs of map/reduce regions over the same rows in one, where that is known."""
    made: list[Step | Fused] = []
    at = 0
    while at < len(steps):
        run: list[MapReduce] = []
        for step in steps[at:]:
            if not isinstance(step, MapReduce):
                break
            run.append(step)
        found = _longest(run, steps, internal)
        made.append(steps[at] if found is None else found[0])
        at += 1 if found is None else found[1]
    return made


def _longest(
    run: Sequence[MapReduce], steps: Sequence[Step], internal: Collection[str]
) -> tuple[Fused, int] | None:
    for count in range(len(run), 1, -1):
        taken = run[:count]
        elsewhere = {b for s in steps if s not in taken for b in reads(s)}
        whole = _Merge(set(internal) - elsewhere).of(taken)
        if whole is not None:
            return whole, count
    return None


@dataclass
class _Merge:
    """One try to take regions together."""

    local: Collection[str]
    """Buffers that only these regions need."""
    made: dict[Any, Expr] = field(default_factory=dict)
    """Every expression once, so that equal ones are computed once."""
    values: dict[str, tuple[Index, Expr]] = field(default_factory=dict)
    """What earlier regions store, and where."""

    def of(self, regions: Sequence[MapReduce]) -> Fused | None:
        first = regions[0]
        inner = next((p.axes for p in first.passes if p.axes), ())
        wide = points(inner)
        if not first.outer or not inner or max(wide.values) > LONGEST:
            return None
        if column_axis(first) is not None:
            return None
        passes: list[Pass] = []
        columns: list[MapReduce] = []
        for number, region in enumerate(regions):
            names = None if columns else self._rows(region, first.outer, inner)
            summed = None if names is not None else self._columns(region, first.outer, inner)
            found = self._renamed(region, names or summed or {}, f"_{number}")
            if found is None:
                return None
            passes += found.passes if names is not None else ()
            columns += [found] if names is None else []
        every = [v for p in (*passes, *(p for c in columns for p in c.passes)) for v in values(p)]
        read = {x.buffer for v in every for x in loads_of(v)}
        dropped = frozenset(b for b in self.values if b in self.local and b not in read)
        kept = tuple(
            replace(p, stores=tuple(s for s in p.stores if s.buffer not in dropped)) for p in passes
        )
        rows = MapReduce(
            first.name, first.outer, tuple(p for p in kept if p.reductions or p.stores)
        )
        return Fused(rows, tuple(columns), dropped)

    def _rows(
        self, region: MapReduce, outer: Sequence[Axis], inner: Sequence[Axis]
    ) -> dict[str, str] | None:
        """The axes' new names where the region goes through the same rows."""
        if not _alike(region.outer, outer):
            return None
        names = _paired(region.outer, outer)
        for p in region.passes:
            if p.axes and not _alike(p.axes, inner):
                return None
            names |= _paired(p.axes, inner)
        kinds = {r.kind for p in region.passes for r in p.reductions}
        return None if any(k.startswith("arg") for k in kinds) else names

    def _columns(
        self, region: MapReduce, outer: Sequence[Axis], inner: Sequence[Axis]
    ) -> dict[str, str] | None:
        """Likewise where it sums over them."""
        first, *rest = region.passes
        if not _alike(region.outer, inner) or not _alike(first.axes, outer) or first.stores:
            return None
        if any(p.axes or p.reductions for p in rest):
            return None
        if any(r.kind != "sum" or r.dtype not in ("f32", "f16", "bf16") for r in first.reductions):
            return None
        return _paired(region.outer, inner) | _paired(first.axes, outer)

    def _renamed(self, region: MapReduce, names: Mapping[str, str], after: str) -> MapReduce | None:
        """The region in other words, with what earlier ones store in place of their memory."""
        try:
            passes = tuple(self._pass(p, names, after) for p in region.passes)
        except LookupError:
            return None
        sizes = {names[a.name]: a.size for a in region.outer}
        return MapReduce(region.name, tuple(Axis(n, s) for n, s in sizes.items()), passes)

    def _pass(self, p: Pass, names: Mapping[str, str], after: str) -> Pass:
        axes = tuple(Axis(names[a.name], a.size) for a in p.axes)
        reductions = tuple(
            Reduction(r.name + after, r.kind, self._expr(r.value, names, after), r.dtype)
            for r in p.reductions
        )
        stores = []
        for s in p.stores:
            index, value = self._index(s.index, names, after), self._expr(s.value, names, after)
            store = Store(s.buffer, s.dtype, index, value)
            if value.dtype != store.dtype:
                value = self._once(Call(store.dtype, "cast", (value,)))
            self.values[s.buffer] = (store.index, value)
            stores.append(store)
        return Pass(axes, reductions, tuple(stores))

    def _expr(self, expr: Expr, names: Mapping[str, str], after: str) -> Expr:
        memo: dict[Expr, Expr] = {}
        for e in walk(expr):
            memo[e] = self._one(e, names, after, memo)
        return memo[expr]

    def _one(
        self, e: Expr, names: Mapping[str, str], after: str, memo: Mapping[Expr, Expr]
    ) -> Expr:
        if isinstance(e, Call):
            return self._once(Call(e.dtype, e.fn, tuple(memo[a] for a in e.args)))
        if isinstance(e, Ref):
            return self._once(Ref(e.dtype, e.name + after))
        if isinstance(e, Const):
            return self._once(e)
        index = self._index(e.index, names, after, memo)
        if isinstance(e, Position):
            return self._once(Position(e.dtype, index))
        if e.buffer in self.values:
            where, value = self.values[e.buffer]
            if e.inside is not None or _index_key(where) != _index_key(index):
                raise LookupError(e.buffer)
            return value
        return self._once(Load(e.dtype, e.buffer, index, e.inside and memo[e.inside]))

    def _index(
        self,
        index: Index,
        names: Mapping[str, str],
        after: str,
        memo: Mapping[Expr, Expr] | None = None,
    ) -> Index:
        terms = tuple(Term(names[t.axis], t.stride) for t in index.terms)
        jumps = tuple(
            Jump(self._expr(j.where, names, after) if memo is None else memo[j.where], j.stride)
            for j in index.jumps
        )
        return Index(index.offset, terms, jumps)

    def _once(self, e: Expr) -> Expr:
        return self.made.setdefault(_key(e), e)


def _alike(axes: Sequence[Axis], others: Sequence[Axis]) -> bool:
    return len(axes) == len(others) and all(
        a.size == b.size for a, b in zip(axes, others, strict=True)
    )


def _paired(axes: Sequence[Axis], others: Sequence[Axis]) -> dict[str, str]:
    return {a.name: b.name for a, b in zip(axes, others, strict=False)}


def _key(e: Expr) -> Any:
    if isinstance(e, Call):
        return (e.dtype, e.fn, tuple(id(a) for a in e.args))
    if isinstance(e, Load):
        return (e.dtype, e.buffer, _index_key(e.index), id(e.inside))
    if isinstance(e, Position):
        return (e.dtype, _index_key(e.index))
    if isinstance(e, Const):
        return (e.dtype, type(e.value), repr(e.value))
    return (e.dtype, "ref", e.name)


def _index_key(index: Index) -> Any:
    terms = sorted((t.axis, t.stride.values) for t in index.terms if not t.stride.is_const(0))
    jumps = tuple((id(j.where), j.stride.values) for j in index.jumps)
    return (index.offset.values, tuple(terms), jumps)
