"""Batch axes that are only more rows: x[b, t, k] times one weight is one tall product."""

from __future__ import annotations

from dataclasses import replace

from kernelevolve.programmers.builtin.ir import (
    Axis,
    Call,
    Contraction,
    Expr,
    Index,
    Load,
    Position,
    Term,
    axes_of,
    walk,
)


def collapsed(contraction: Contraction) -> Contraction:
    """Merge into m, innermost first, every batch axis that B does not have and strides allow."""
    c = contraction
    while c.batch and _mergeable(c, c.batch[-1]):
        c = _merged(c, c.batch[-1])
    return c


def _mergeable(c: Contraction, batch: Axis) -> bool:
    if c.m.parts or {batch.name, c.m.name} & axes_of(c.b):
        return False
    values = (c.a, *(s.value for s in c.stores))
    nodes = [node for value in values for node in walk(value)]
    indices = [node.index for node in nodes if isinstance(node, Load | Position)]
    return all(_continues(i, batch, c.m) for i in (*indices, *(s.index for s in c.stores)))


def _continues(index: Index, batch: Axis, m: Axis) -> bool:
    """Tell whether a step of `batch` is as far as all steps of `m`."""
    if m.size.constant == 1:
        return True
    return index.stride(batch.name).matches(index.stride(m.name) * m.size)


def _merged(c: Contraction, batch: Axis) -> Contraction:
    m = Axis(c.m.name, batch.size * c.m.size)
    memo: dict[Expr, Expr] = {}

    def index_of(index: Index) -> Index:
        dropped = c.m.name if c.m.size.constant == 1 else batch.name
        terms = [t for t in index.terms if t.axis != dropped]
        renamed = [Term(m.name, t.stride) if t.axis == batch.name else t for t in terms]
        jumps = tuple(replace(j, where=value_of(j.where)) for j in index.jumps)
        return Index(index.offset, tuple(renamed), jumps)

    def value_of(expr: Expr) -> Expr:
        if expr not in memo:
            memo[expr] = rebuilt(expr)
        return memo[expr]

    def rebuilt(expr: Expr) -> Expr:
        if isinstance(expr, Call):
            return replace(expr, args=tuple(value_of(a) for a in expr.args))
        if isinstance(expr, Load):
            inside = expr.inside and value_of(expr.inside)
            return replace(expr, index=index_of(expr.index), inside=inside)
        if isinstance(expr, Position):
            return replace(expr, index=index_of(expr.index))
        return expr

    stores = tuple(replace(s, index=index_of(s.index), value=value_of(s.value)) for s in c.stores)
    return replace(c, batch=c.batch[:-1], m=m, a=value_of(c.a), stores=stores)
