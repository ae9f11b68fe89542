"""Chains of products to one Triton kernel: what lies between them stays in registers.

A program has a block of rows and takes it through all stages. An intermediate is a block as wide
as its rows. Where rows between two products are only scaled by what is known of a whole row, the
second product adds up piece by piece of them, and its result is scaled: so they may be of any
length, and no piece is wider than a product needs.
"""

from __future__ import annotations

from collections.abc import Sequence

from kernelevolve.programmers.builtin.emit.accumulators import forgiving
from kernelevolve.programmers.builtin.emit.contraction_stages import Stage, accesses, row_length
from kernelevolve.programmers.builtin.emit.expr import ARITHMETIC
from kernelevolve.programmers.builtin.emit.steps import Chained
from kernelevolve.programmers.builtin.emit.tiles import KIND, Run, points, text_of
from kernelevolve.programmers.builtin.emit.tiles_kernel import ChainKernel, Inner, longest
from kernelevolve.programmers.builtin.emit.tiles_launch import Launch, indented
from kernelevolve.programmers.builtin.emit.tiles_pieces import emit_pieces, scaled
from kernelevolve.programmers.builtin.emit.tiles_product import fitting, operand_of
from kernelevolve.programmers.builtin.emit.tiles_reduce import FIRST, folded, identity
from kernelevolve.programmers.builtin.emit.tiles_softmax import softmax
from kernelevolve.programmers.builtin.ir import (
    Axis,
    Contraction,
    Index,
    Load,
    MapReduce,
    Size,
    loads_of,
)
from kernelevolve.programmers.builtin.schedule import Tiles

WIDEST = 512
"""Values of a row that a program holds."""


def emit_chain(
    chain: Chained, buffers: Sequence[str], symbols: Sequence[str], tiles: Tiles, algebra: bool
) -> Launch | None:
    """A chain as one kernel; None where its stages have to be kernels of their own."""
    if not _plain(chain):
        return None
    made = ChainKernel(chain, tiles)
    first, *rest = chain.stages
    assert isinstance(first, Contraction)
    second = rest[1] if len(rest) > 1 else None
    if algebra and isinstance(rest[0], MapReduce) and isinstance(second, Contraction):
        between = scaled(rest[0], _read(second)) or softmax(first, rest[0], _read(second))
        if between is not None and _fits(made, [second, *rest[2:]]):
            emit_pieces(made, first, between, second, last=len(rest) == 2)
            _others(made, rest[2:])
            return made.launch(buffers, symbols)
    if not _fits(made, chain.stages):
        return None
    _whole(made, first)
    _others(made, rest)
    return made.launch(buffers, symbols)


def _read(c: Contraction) -> str:
    """What a product reads as its left operand; empty where that is no single value."""
    return c.a.buffer if isinstance(c.a, Load) else ""


def _plain(chain: Chained) -> bool:
    """Whether all intermediates are whole rows, in order, of numbers that `tl.dot` takes."""
    first, *rest = chain.stages
    made = {a.buffer for s in chain.stages for a in accesses(s) if a.written}
    for stage in chain.stages:
        if isinstance(stage, MapReduce):
            swept = {p.axes for p in stage.passes}
            if len(swept) != 1 or () in swept:
                return False
            if any(r.kind in FIRST for p in stage.passes for r in p.reductions):
                return False
            inner = stage.passes[0].axes
        elif operand_of(stage) == "f64":
            return False
        else:
            reads = {load.buffer for load in loads_of(stage.b)} & made
            read_late = {x.buffer for s in stage.stores for x in loads_of(s.value)} & made
            if reads or read_late:
                return False
            inner = (stage.n,)
        if not all(_in_order(stage, a.where, inner) for a in accesses(stage) if a.buffer in made):
            return False
    return isinstance(first, Contraction) and len(rest) > 0


def _in_order(stage: Stage, where: Index, inner: Sequence[Axis]) -> bool:
    if row_length(stage, where) is None or not where.offset.is_const(0):
        return False
    if isinstance(stage, Contraction) and where.stride(stage.k.name).is_const(1):
        inner = (stage.k,)
    step = Run("", (Axis("", Size.of(1)), *inner)).stride(where)
    return step is not None and step.is_const(1)


def _fits(made: ChainKernel, stages: Sequence[Stage]) -> bool:
    """Whether registers have room for every block that stays."""
    return all(
        longest(s.n.size) <= WIDEST
        for s in stages
        if isinstance(s, Contraction) and s is not made.chain.stages[-1]
    )


def _whole(made: ChainKernel, c: Contraction) -> None:
    """The first product, with its terms in a loop; the result becomes a block that stays."""
    inner = made.columns("n0", c.n.size)
    depth = made.enter(c, inner)
    printer = made.printer
    printer.line(f"acc{made.after} = tl.zeros([M_BLOCK, N0], tl.float32)")
    printer.open(c.k.name)
    left = made.left(c)
    right = made.right(c)
    printer.line(made.multiplied(left, right, more=True))
    inside = printer.close()
    made.decided["K_BLOCK"] = str(fitting(made.tiles.dot_k, c.k))
    printer.line(f"for start in range(0, {text_of(c.k.size)}, K_BLOCK):")
    for line in made.terms("start + tl.arange(0, K_BLOCK)", c.k.size) + inside:
        printer.line(f"    {line}")
    made.results(c, last=False)
    made.ended(depth)


def _others(made: ChainKernel, stages: Sequence[Stage]) -> None:
    """Every later stage, on blocks that hold whole rows."""
    for number, stage in enumerate(stages, 1):
        last = stage is made.chain.stages[-1]
        if isinstance(stage, MapReduce):
            _rows(made, stage, number, last)
        elif last:
            _last(made, stage)
        else:
            _product(made, stage, made.columns(f"n{number}", stage.n.size))


def _rows(made: ChainKernel, stage: MapReduce, number: int, last: bool) -> None:
    """Reductions of rows, and what is made of them."""
    length = points(stage.passes[0].axes)
    inner = made.columns(f"at{number}", length)
    printer, depth = made.printer, made.next()
    printer.begin(Run("row", stage.outer, made.after), "m_in")
    printer.begin(Run(inner.number, stage.passes[0].axes, made.after), inner.mask)
    for p in stage.passes:
        for r in p.reductions:
            dtype = "i32" if ARITHMETIC[r.dtype] == "bool" else ARITHMETIC[r.dtype]
            start = identity(r.kind, dtype)
            text = f"tl.cast({printer.value(r.value).text}, {KIND[dtype]})"
            begin = f'float("{start}")' if dtype in ("f32", "f64") else str(start)
            printer.line(f"{r.name}_own = tl.where({inner.mask}, {text}, {begin})")
            name = f"{r.name}_{number}"
            printer.line(f"{name} = {folded(f'{r.name}_own', r.kind, 1, forgiving(stage, r))}")
            printer.bind(r.name, name, False, r.dtype)
        for store in p.stores:
            made.result(store, ("row", inner.number), ("m_in", inner.mask), last)
    made.ended(depth)


def _product(made: ChainKernel, c: Contraction, inner: Inner, last: bool = False) -> None:
    """A later product, of a block that holds all of its terms."""
    depth = made.enter(c, inner)
    printer = made.printer
    side = made.block(f"K{len(made.decided)}", c.k.size)
    for line in made.terms(f"tl.arange(0, {side})", c.k.size):
        printer.line(line)
    left = made.left(c)
    right = made.right(c)
    printer.line(made.multiplied(left, right))
    made.results(c, last)
    made.ended(depth)


def _last(made: ChainKernel, c: Contraction) -> None:
    """The last product, whose columns programs share, each by blocks of them."""
    block = fitting(made.tiles.dot_n, c.n)
    every = -(-longest(c.n.size) // block)
    steps = -(-every // made.tiles.splits) if made.tiles.splits else min(4, every)
    made.decided |= {"N_BLOCK": str(block), "N_STEPS": str(steps)}
    printer = made.printer
    printer.open()
    _product(made, c, Inner("n_at", "n_in"), last=True)
    inside = printer.close()
    at = "(tl.program_id(1) * N_STEPS * N_BLOCK + start + tl.arange(0, N_BLOCK)).to(INDEX)"
    for line in [
        "for start in range(0, N_STEPS * N_BLOCK, N_BLOCK):",
        f"    n_at = {at}[None, :]",
        f"    n_in = n_at < ({text_of(c.n.size)})",
        *indented(inside),
    ]:
        printer.line(line)
