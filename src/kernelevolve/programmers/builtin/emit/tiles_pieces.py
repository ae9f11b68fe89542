"""Two products, of which the second adds up piece by piece of the first's rows.

For rows between them that are only scaled by what is known of a whole row: its result is scaled.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from kernelevolve.programmers.builtin.emit.expr import ARITHMETIC
from kernelevolve.programmers.builtin.emit.tiles import KIND, Run, text_of
from kernelevolve.programmers.builtin.emit.tiles_kernel import ChainKernel, Inner
from kernelevolve.programmers.builtin.emit.tiles_launch import indented
from kernelevolve.programmers.builtin.emit.tiles_product import fitting, operand_of
from kernelevolve.programmers.builtin.ir import (
    Call,
    Const,
    Contraction,
    DType,
    Expr,
    MapReduce,
    Pass,
    Reduction,
    Ref,
    axes_of,
    walk,
)
from kernelevolve.programmers.builtin.prims import FLOATS


class Span(NamedTuple):
    """Pieces of rows, from one column to another."""

    begin: str
    end: str
    whole: bool = False
    """Every column of every piece is there."""
    one: Contraction | None = None
    """What the first product is here, if it is simpler; None where it is as it was."""


class Between(Protocol):
    """What lies between two products, taken piece by piece of each row."""

    @property
    def stage(self) -> MapReduce:
        """The region."""

    @property
    def by(self) -> Expr | None:
        """What the result is multiplied with, the same for all of a row."""

    def blocks(self, made: ChainKernel, one: Contraction, two: Contraction) -> None:
        """Decide how many rows a program has, and how long a piece is."""

    def begin(self, made: ChainKernel, one: Contraction) -> Sequence[Span]:
        """Statements before the first piece; all pieces."""

    def piece(self, made: ChainKernel, span: Span) -> Expr:
        """Statements about a piece, and what the second product takes of it."""

    def end(self, made: ChainKernel, one: Contraction, right: Sequence[str], name: str) -> None:
        """Statements after the last piece; `right` make `name`, a block of the second operand."""

    def known(self) -> Sequence[tuple[Reduction, str]]:
        """What is known of a whole row after the last piece, and how it is called."""


class Scaled(NamedTuple):
    """A row region as `value * by`, of which only `by` needs its reductions."""

    stage: MapReduce
    value: Expr
    by: Expr | None

    def blocks(self, made: ChainKernel, one: Contraction, two: Contraction) -> None:
        """As every chain, and a product's."""
        made.decided["PIECE"] = str(fitting(made.tiles.dot_k, one.n))

    def begin(self, made: ChainKernel, one: Contraction) -> Sequence[Span]:
        """Every sum is nothing yet."""
        for r in self.stage.passes[0].reductions:
            kind = KIND[ARITHMETIC[r.dtype]]
            made.printer.line(f"{r.name}_0 = tl.zeros([M_BLOCK, 1], {kind})")
        return [Span("0", text_of(one.n.size))]

    def piece(self, made: ChainKernel, span: Span) -> Expr:
        """Its part of the sums; its values as they are."""
        printer = made.printer
        for r in self.stage.passes[0].reductions:
            text = f"tl.cast({printer.value(r.value).text}, {KIND[ARITHMETIC[r.dtype]]})"
            whole = f"tl.where(n0_in, {text}, 0.0)"
            printer.line(f"{r.name}_0 += tl.sum({whole}, 1, keep_dims=True)")
        return self.value

    def end(self, made: ChainKernel, one: Contraction, right: Sequence[str], name: str) -> None:
        """There is nothing left to do."""

    def known(self) -> Sequence[tuple[Reduction, str]]:
        """The sums."""
        return [(r, f"{r.name}_0") for r in self.stage.passes[0].reductions]


def scaled(stage: MapReduce, buffer: str) -> Scaled | None:
    """The region in that form, where it sums one sweep and makes `buffer` in the next."""
    if len(stage.passes) != 2:
        return None
    first, second = stage.passes
    if first.stores or second.reductions or [s.buffer for s in second.stores] != [buffer]:
        return None
    if any(r.kind != "sum" or r.dtype not in FLOATS for r in first.reductions):
        return None
    own, late = parted(second)
    if any(axes_of(f) & {a.name for a in second.axes} for f in late):
        return None
    return Scaled(stage, times(own), times(late) if late else None) if own else None


def parted(last: Pass) -> tuple[list[Expr], list[Expr]]:
    """What a sweep's one result is multiplied of: what needs no reduction, and what does."""
    factors = _factors(last.stores[0].value)
    late = [f for f in factors if any(isinstance(e, Ref) for e in walk(f))]
    return [f for f in factors if f not in late], late


def _factors(expr: Expr) -> list[Expr]:
    """What is multiplied, through casts between floating types."""
    if not isinstance(expr, Call):
        return [expr]
    if expr.fn == "mul":
        return [f for a in expr.args for f in _factors(a)]
    if expr.fn == "div" and expr.dtype in FLOATS:
        over, under = expr.args
        return [*_factors(over), Call("f32", "div", (Const("f32", 1.0), under))]
    if expr.fn == "cast" and {expr.dtype, expr.args[0].dtype} <= FLOATS:
        return _factors(expr.args[0])
    return [expr]


def times(factors: list[Expr]) -> Expr:
    total = factors[0]
    for factor in factors[1:]:
        total = Call("f32", "mul", (total, factor))
    return total


def emit_pieces(
    made: ChainKernel, one: Contraction, between: Between, two: Contraction, last: bool
) -> None:
    """Two products, of which the second takes in each piece of the first as it is made."""
    printer = made.printer
    outer = made.columns("n1", two.n.size)
    made.block("K_WHOLE", one.k.size)
    between.blocks(made, one, two)
    printer.line("sums = tl.zeros([M_BLOCK, N1], tl.float32)")
    depth = made.enter(one)
    for line in made.terms("tl.arange(0, K_WHOLE)", one.k.size):
        printer.line(line)
    left = made.left(one)
    made.ended(depth)
    for span in between.begin(made, one):
        printer.open()
        _scores(made, span.one or one, left, span)
        _taken(made, between, operand_of(two), span)
        right = _second(made, two, outer, span)
        printer.line(f'sums = tl.dot(between, {right}, sums, input_precision="ieee")')
        looped(made, one, span, printer.close())
    printer.open()
    right = _second(made, two, outer, Span("0", ""))
    between.end(made, one, printer.close(), right)
    depth = made.next()
    printer.begin(Run("row", between.stage.outer, made.after), "m_in")
    for r, name in between.known():
        printer.bind(r.name, name, False, r.dtype)
    scale = "" if between.by is None else f" * {printer.value(between.by).text}"
    printer.line(f"sums = sums{scale}")
    made.ended(depth)
    depth = made.enter(two, outer)
    made.results(two, last, "sums")
    made.ended(depth)


def looped(made: ChainKernel, one: Contraction, span: Span, inside: Sequence[str]) -> None:
    """Statements about a piece, for every piece."""
    for line in [
        f"for piece in range({span.begin}, {span.end}, PIECE):",
        "    n0_at = (piece + tl.arange(0, PIECE).to(INDEX))[None, :]",
        *([] if span.whole else [f"    n0_in = n0_at < ({text_of(one.n.size)})"]),
        *indented(inside),
    ]:
        made.printer.line(line)


def _scores(made: ChainKernel, one: Contraction, left: str, span: Span) -> None:
    """A piece of the first product's rows."""
    depth = made.enter(one, Inner("n0_at", "" if span.whole else "n0_in"))
    for line in made.terms("tl.arange(0, K_WHOLE)", one.k.size):
        made.printer.line(line)
    right = made.right(one)
    made.printer.line(made.multiplied(left, right))
    made.results(one, last=False, rounded=False)
    made.ended(depth)


def _taken(made: ChainKernel, between: Between, to: DType, span: Span) -> None:
    """A piece of the rows between two products, unscaled."""
    printer, stage = made.printer, between.stage
    depth = made.next()
    printer.begin(Run("row", stage.outer, made.after), "m_in")
    mask = "" if span.whole else "n0_in"
    printer.begin(Run("n0_at", stage.passes[0].axes, made.after), mask)
    text = printer.value(between.piece(made, span)).text
    inside = f"tl.where({mask}, {text}, 0.0)" if mask else text
    printer.line(f"between = tl.cast({inside}, {KIND[to]})")
    made.ended(depth)


def _second(made: ChainKernel, two: Contraction, outer: Inner, span: Span) -> str:
    """A block of the second product's right operand, for a piece."""
    depth = made.enter(two, outer)
    for line in made.terms("(piece + tl.arange(0, PIECE))", two.k.size):
        made.printer.line(line)
    right = made.right(two, whole=span.whole)
    made.ended(depth)
    return right
