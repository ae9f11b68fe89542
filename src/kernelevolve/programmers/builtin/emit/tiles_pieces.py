"""Two products with rows between them that are only scaled by what is known of a whole row.

The second product adds up piece by piece of the first's rows, and its result is scaled.
"""

from __future__ import annotations

from typing import NamedTuple

from kernelevolve.programmers.builtin.emit.expr import ARITHMETIC
from kernelevolve.programmers.builtin.emit.tiles import KIND, Run, text_of
from kernelevolve.programmers.builtin.emit.tiles_kernel import ChainKernel, Inner
from kernelevolve.programmers.builtin.emit.tiles_launch import indented
from kernelevolve.programmers.builtin.emit.tiles_product import fitting, operand_of
from kernelevolve.programmers.builtin.ir import (
    Call,
    Const,
    Contraction,
    Expr,
    MapReduce,
    Ref,
    axes_of,
    walk,
)
from kernelevolve.programmers.builtin.prims import FLOATS


class Scaled(NamedTuple):
    """A row region as `value * by`, of which only `by` needs its reductions."""

    stage: MapReduce
    value: Expr
    by: Expr | None
    """The same for all of a row."""


def scaled(stage: MapReduce, buffer: str) -> Scaled | None:
    """The region in that form, where it sums one sweep and makes `buffer` in the next."""
    if len(stage.passes) != 2:
        return None
    first, second = stage.passes
    if first.stores or second.reductions or [s.buffer for s in second.stores] != [buffer]:
        return None
    if any(r.kind != "sum" or r.dtype not in FLOATS for r in first.reductions):
        return None
    factors = _factors(second.stores[0].value)
    inner = {a.name for a in second.axes}
    late = [f for f in factors if any(isinstance(e, Ref) for e in walk(f))]
    if any(axes_of(f) & inner for f in late):
        return None
    own = [f for f in factors if f not in late]
    return Scaled(stage, _times(own), _times(late) if late else None) if own else None


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


def _times(factors: list[Expr]) -> Expr:
    total = factors[0]
    for factor in factors[1:]:
        total = Call("f32", "mul", (total, factor))
    return total


def emit_pieces(
    made: ChainKernel, one: Contraction, between: Scaled, two: Contraction, last: bool
) -> None:
    """Two products, of which the second takes in each piece of the first as it is made."""
    printer = made.printer
    outer = made.columns("n1", two.n.size)
    made.block("K_WHOLE", one.k.size)
    made.decided["PIECE"] = str(fitting(made.tiles.dot_k, one.n))
    printer.line("sums = tl.zeros([M_BLOCK, N1], tl.float32)")
    depth = made.enter(one)
    for line in made.terms("tl.arange(0, K_WHOLE)", one.k.size):
        printer.line(line)
    left = made.left(one)
    made.ended(depth)
    stage = between.stage
    for r in stage.passes[0].reductions:
        printer.line(f"{r.name}_0 = tl.zeros([M_BLOCK, 1], {KIND[ARITHMETIC[r.dtype]]})")
    printer.open()
    depth = made.enter(one, Inner("n0_at", "n0_in"))
    for line in made.terms("tl.arange(0, K_WHOLE)", one.k.size):
        printer.line(line)
    right = made.right(one)
    printer.line(made.multiplied(left, right))
    made.results(one, last=False)
    made.ended(depth)
    name = _piece(made, between, operand_of(two))
    depth = made.enter(two, outer)
    for line in made.terms("(piece + tl.arange(0, PIECE))", two.k.size):
        printer.line(line)
    right = made.right(two)
    printer.line(f'sums = tl.dot({name}, {right}, sums, input_precision="ieee")')
    made.ended(depth)
    inside = printer.close()
    for line in [
        f"for piece in range(0, {text_of(one.n.size)}, PIECE):",
        "    n0_at = (piece + tl.arange(0, PIECE).to(INDEX))[None, :]",
        f"    n0_in = n0_at < ({text_of(one.n.size)})",
        *indented(inside),
    ]:
        printer.line(line)
    depth = made.next()
    printer.begin(Run("row", stage.outer, made.after), "m_in")
    for r in stage.passes[0].reductions:
        printer.bind(r.name, f"{r.name}_0", False, r.dtype)
    scale = "" if between.by is None else f" * {printer.value(between.by).text}"
    printer.line(f"sums = sums{scale}")
    made.ended(depth)
    depth = made.enter(two, outer)
    made.results(two, last, "sums")
    made.ended(depth)


def _piece(made: ChainKernel, between: Scaled, to: str) -> str:
    """A piece of the rows between two products, unscaled, and its part of the reductions."""
    printer, stage = made.printer, between.stage
    depth = made.next()
    printer.begin(Run("row", stage.outer, made.after), "m_in")
    printer.begin(Run("n0_at", stage.passes[0].axes, made.after), "n0_in")
    for r in stage.passes[0].reductions:
        text = f"tl.cast({printer.value(r.value).text}, {KIND[ARITHMETIC[r.dtype]]})"
        whole = f"tl.where(n0_in, {text}, 0.0)"
        printer.line(f"{r.name}_0 += tl.sum({whole}, 1, keep_dims=True)")
    value = printer.value(between.value)
    printer.line(f"between = tl.cast(tl.where(n0_in, {value.text}, 0.0), {KIND[to]})")
    made.ended(depth)
    return "between"
