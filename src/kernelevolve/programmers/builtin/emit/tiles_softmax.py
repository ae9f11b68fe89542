"""Attention: two products around the softmax of rows, which are never there as a whole.

The second product adds up what pieces of a row weigh by the largest score so far; where a later
piece has a larger one, what is there is scaled down. Pieces that a mask hides from all rows of a
program, because they come later than its last, are not computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from kernelevolve.programmers.builtin.emit.expr import BYTES
from kernelevolve.programmers.builtin.emit.tiles import KIND, text_of
from kernelevolve.programmers.builtin.emit.tiles_kernel import ChainKernel
from kernelevolve.programmers.builtin.emit.tiles_masks import Hidden, hidden_from
from kernelevolve.programmers.builtin.emit.tiles_pieces import Span, looped, parted, times
from kernelevolve.programmers.builtin.emit.tiles_product import operand_of
from kernelevolve.programmers.builtin.ir import (
    Call,
    Contraction,
    Expr,
    Load,
    MapReduce,
    Reduction,
    Ref,
    axes_of,
)
from kernelevolve.programmers.builtin.prims import FLOATS

LEAST = 'float("-inf")'
LARGEST = 3.4028234663852886e38
"""Of float32."""


@dataclass(frozen=True)
class Softmax:
    """A row region as `weight * value * by`; weights are of scores less the largest of the row."""

    stage: MapReduce
    most: Reduction
    """The largest score."""
    total: Reduction
    """The sum of all weights."""
    value: tuple[Expr, ...]
    """What each weight is multiplied with."""
    by: Expr | None
    """What all of them are, when they are known: as a rule, one over their sum."""
    hidden: Hidden | None = None
    """What of the scores a mask hides."""

    def blocks(self, made: ChainKernel, one: Contraction, two: Contraction) -> None:
        """By the widths of both products."""
        tiles, width = made.tiles, BYTES[operand_of(one)]
        given = f"{tiles.query_rows}, {tiles.key_block}, {tiles.warps}, {tiles.stages}"
        sizes = f"{text_of(one.m.size)}, k_whole, n1, {width}"
        made.blocks = f"m_block, piece, warps = attention_block_({given}, {sizes})"
        made.decided["PIECE"] = "piece"
        made.backward = self.hidden is not None

    def begin(self, made: ChainKernel, one: Contraction) -> Sequence[Span]:
        """No score is known yet; pieces of which no column is hidden come first."""
        printer, end = made.printer, text_of(one.n.size)
        printer.line(f"most = tl.full([M_BLOCK], {LEAST}, tl.float32)")
        printer.line("total = tl.zeros([M_BLOCK], tl.float32)")
        if self.hidden is None:
            return [
                Span("0", f"({end}) // PIECE * PIECE", True),
                Span(f"({end}) // PIECE * PIECE", end),
            ]
        at, before = self.hidden
        printer.line(f"seen = tl.minimum({end}, tl.maximum(0, m_first + M_BLOCK - 1 + ({at})))")
        if before is None:
            return [Span("0", "seen")]
        printer.line(f"plain = tl.minimum({end}, tl.maximum(0, m_first + ({at}))) // PIECE * PIECE")
        simpler = replace(one, stores=(replace(one.stores[0], value=before),))
        return [Span("0", "plain", True, simpler), Span("plain", "seen")]

    def piece(self, made: ChainKernel, span: Span) -> Expr:
        """Weights relative to the largest score so far; a row without any keeps weights of zero.

        Scores are held down to what is finite, so that no product is fused with what is subtracted
        from it: the largest score, less itself, is zero however large it is.
        """
        printer = made.printer
        scores = f"tl.cast({printer.value(self.most.value).text}, tl.float32)"
        score = f"least_({scores}, {LARGEST})"
        for line in (
            f"score = {score if span.whole else f'tl.where(n0_in, {score}, {LEAST})'}",
            "larger = tl.maximum(most, tl.max(score, 1))",
            f"shift = tl.where(larger == {LEAST}, 0.0, larger)",
            "fade = tl.exp(most - shift)",
            "weight = tl.exp(score - shift[:, None])",
            "total = total * fade + tl.sum(weight, 1)",
            "sums = sums * fade[:, None]",
            "most = larger",
        ):
            printer.line(line)
        printer.bind("weight", "weight", False, "f32")
        return times([Ref("f32", "weight"), *self.value])

    def end(self, made: ChainKernel, one: Contraction, right: Sequence[str], name: str) -> None:
        """What is hidden weighs nothing, and nothing times NaN or infinity is NaN."""
        if self.hidden is None:
            return
        made.printer.line(f"spoiled = tl.zeros([PIECE, N1], {KIND[operand_of(one)]})")
        rest = Span("(seen + PIECE - 1) // PIECE * PIECE", text_of(one.n.size))
        looped(made, one, rest, [*right, f"spoiled += {name} * 0.0"])
        made.printer.line("sums += tl.cast(tl.sum(spoiled, 0, keep_dims=True), tl.float32)")

    def known(self) -> Sequence[tuple[Reduction, str]]:
        """Both reductions."""
        return [(self.most, "most[:, None]"), (self.total, "total[:, None]")]


def softmax(one: Contraction, stage: MapReduce, buffer: str) -> Softmax | None:
    """The region in that form, where it makes `buffer` of what a product makes."""
    found = [r for p in stage.passes for r in p.reductions]
    stores = [s for p in stage.passes for s in p.stores]
    if [r.kind for r in found] != ["max", "sum"] or [s.buffer for s in stores] != [buffer]:
        return None
    if not {r.dtype for r in found} <= FLOATS or not stage.passes[-1].stores or len(one.stores) > 1:
        return None
    most, total = found
    own, late = parted(stage.passes[-1])
    weights = [f for f in late if _is_weight(f, most)]
    late = [f for f in late if f not in weights]
    inner = {a.name for a in stage.passes[-1].axes}
    if len(weights) != 1 or not _is_weight(total.value, most):
        return None
    if any(axes_of(f) & inner for f in late):
        return None
    as_made = isinstance(_uncast(most.value), Load)
    hidden = hidden_from(one.stores[0].value, one.m.name, one.n.name) if as_made else None
    return Softmax(stage, most, total, tuple(own), times(late) if late else None, hidden)


def _is_weight(expr: Expr, most: Reduction) -> bool:
    """Whether it is the exponential of a score, less the largest."""
    inner = _uncast(expr)
    if not isinstance(inner, Call) or inner.fn != "exp":
        return False
    less = _uncast(inner.args[0])
    if not isinstance(less, Call) or less.fn != "sub":
        return False
    score, largest = map(_uncast, less.args)
    return score is _uncast(most.value) and isinstance(largest, Ref) and largest.name == most.name


def _uncast(expr: Expr) -> Expr:
    """What a conversion between floating types is of."""
    while (
        isinstance(expr, Call) and expr.fn == "cast" and {expr.dtype, expr.args[0].dtype} <= FLOATS
    ):
        expr = expr.args[0]
    return expr
