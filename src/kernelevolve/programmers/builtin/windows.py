"""Convolutions as products: what of a window is an element, and the order of taps and channels."""

from __future__ import annotations

from typing import NamedTuple

from kernelevolve.programmers.builtin.ir import (
    Axis,
    Call,
    Const,
    DType,
    Expr,
    Index,
    Position,
    Size,
)
from kernelevolve.programmers.builtin.prims import Window

FEW_CHANNELS = 16
"""With fewer of them, a block of terms goes on from one tap to the next."""


class Steps(NamedTuple):
    """How a product goes through its terms."""

    taps: tuple[Axis, ...]
    """One after the other, for each block of terms."""
    terms: tuple[Axis, ...]
    """What blocks are taken of."""


def steps_of(k: Axis) -> Steps:
    """The steps through an axis: taps have masks of their own, and their elements in common."""
    *taps, channels = k.parts or (k,)
    if min(channels.size.values) < FEW_CHANNELS:
        return Steps((), (*taps, channels))
    return Steps(tuple(taps), (channels,))


def within(at: Index, window: Window, extent: Size) -> Expr | None:
    """Where position `at` is an element of a dimension; None where it always is."""
    if window.inside:
        return None
    position = Position("i32", at)
    last = Call("bool", "lt", (position, number(extent * window.apart)))
    inside = Call("bool", "and", (Call("bool", "ge", (position, Const("i32", 0))), last))
    if window.apart.is_const(1):
        return inside
    rest = Call("i32", "mod", (position, number(window.apart)))
    return Call("bool", "and", (inside, Call("bool", "eq", (rest, Const("i32", 0)))))


def number(size: Size, kind: DType = "i32") -> Const:
    """A size as an integer."""
    return Const(kind, size.expr if size.constant is None else size.constant)
