"""Contractions to Triton kernels: blocks by `tl.dot`, between prologue and epilogue."""

from __future__ import annotations

from collections.abc import Sequence

from kernelevolve.programmers.builtin.emit.contraction_collapse import collapsed
from kernelevolve.programmers.builtin.emit.expr import ARITHMETIC, BYTES
from kernelevolve.programmers.builtin.emit.tiles import KIND, Run, TilePrinter, points, text_of
from kernelevolve.programmers.builtin.emit.tiles_launch import (
    Launch,
    compiled_in,
    indented,
    launch,
    pipelined,
)
from kernelevolve.programmers.builtin.ir import (
    Axis,
    Contraction,
    DType,
    Expr,
    Index,
    Load,
    Position,
    axes_of,
    walk,
)
from kernelevolve.programmers.builtin.schedule import Tiles
from kernelevolve.programmers.builtin.windows import steps_of

MOST_SHARED = 200 * 1024
"""Bytes for the operands of a block."""
PLAIN = 16
"""The sides of a block that is multiplied without `tl.dot`."""


def emit_product(
    region: Contraction, buffers: Sequence[str], symbols: Sequence[str], tiles: Tiles
) -> Launch:
    """A contraction as one kernel; `buffers` are its arguments."""
    c = collapsed(region)
    operand = operand_of(c)
    sums: DType = "f64" if operand == "f64" else "f32"
    dots = operand != "f64"
    printer = TilePrinter()
    m, n = (text_of(a.size) for a in (c.m, c.n))
    for line in (
        f"across = (({n}) + N_BLOCK - 1) // N_BLOCK",
        f"down = (({m}) + M_BLOCK - 1) // M_BLOCK",
        "batch = (tl.program_id(0) // (across * down)).to(INDEX)",
        "tile = tl.program_id(0) % (across * down)",
        *_placed(tiles.group),
        "m_at = (high.to(INDEX) * M_BLOCK + tl.arange(0, M_BLOCK))[:, None]",
        "n_at = (low.to(INDEX) * N_BLOCK + tl.arange(0, N_BLOCK))[None, :]",
        f"m_in = m_at < ({m})",
        f"n_in = n_at < ({n})",
    ):
        printer.line(line)
    printer.begin(Run("batch", c.batch))
    printer.begin(Run("m_at", c.m.parts or (c.m,)), "m_in")
    printer.begin(Run("n_at", (c.n,)), "n_in")
    printer.line(f"acc = tl.zeros([M_BLOCK, N_BLOCK], {KIND[sums]})")
    _multiply(printer, c, operand)
    printer.bind("acc", "acc", False, sums)
    for store in c.stores:
        printer.write(store, ("m_at", "n_at"), ("m_in", "n_in"))
    lines: list[str] = []
    while len(printer.scopes) > 1:
        lines = [*printer.close(), *lines]
    body = [*printer.scopes[0].lines, *lines]
    extents = [a.size for a in (*c.batch[1:], *c.m.parts[1:], c.n, c.k, *c.k.parts[1:])]
    sizes = compiled_in(symbols, indices_of(c), extents)
    terms = Axis("terms", points(steps_of(c.k).terms))
    sides = [fitting(tiles.dot_m, c.m), fitting(tiles.dot_n, c.n), fitting(tiles.dot_k, terms)]
    sides, stages = legal(sides, tiles.stages, BYTES[operand]) if dots else ([PLAIN] * 3, 1)
    decided = {
        "INDEX": "index",
        **{f"{x}_BLOCK": str(side) for x, side in zip("MNK", sides, strict=True)},
        "num_warps": str(tiles.warps or (8 if sides[0] * sides[1] >= 128 * 128 else 4)),
        **pipelined(stages, tiles),
    }
    batches = text_of(points(c.batch))
    grid = f"(({batches}) * -(-({m}) // {sides[0]}) * -(-({n}) // {sides[1]}),)"
    return launch(region.name, printer, body, buffers, sizes, decided, grid)


def _multiply(printer: TilePrinter, c: Contraction, operand: DType) -> None:
    """The loop that adds up blocks of terms; of a convolution, for one tap after the other."""
    taps, terms = steps_of(c.k)
    printer.begin(Run("tap", taps))
    left = operand_block(printer, c.a, terms, "k_own[None, :]", "k_in_a", operand)
    right = operand_block(printer, c.b, terms, "k_own[:, None]", "k_in_b", operand)
    printer.line(multiplied(left, right, "acc", operand != "f64"))
    inside = printer.close()
    printer.runs.pop()
    k, count = text_of(points(terms)), text_of(points(taps))
    head = [f"for start in range(0, {k}, K_BLOCK):"]
    if taps:
        head = [
            f"for step in range(0, ({count}) * ((({k}) + K_BLOCK - 1) // K_BLOCK)):",
            f"    tap = step % ({count})",
            f"    start = step // ({count}) * K_BLOCK",
        ]
    for line in [
        *head,
        "    k_own = start + tl.arange(0, K_BLOCK).to(INDEX)",
        f"    k_in_a = (k_own < ({k}))[None, :]",
        f"    k_in_b = (k_own < ({k}))[:, None]",
        *indented(inside),
    ]:
        printer.line(line)


def _placed(group: int) -> list[str]:
    """Statements that find a program's block: rows of blocks in turn, or columns of a few rows."""
    if group == 1:
        return ["high = tile // across", "low = tile % across"]
    return [
        f"first = tile // ({group} * across) * {group}",
        f"tall = tl.minimum(down - first, {group})",
        f"high = first + tile % ({group} * across) % tall",
        f"low = tile % ({group} * across) // tall",
    ]


def legal(sides: Sequence[int], stages: int, width: int) -> tuple[list[int], int]:
    """The sides of blocks and the steps on their way that shared memory has room for."""
    m, n, k = sides
    while stages * (m + n) * k * width > MOST_SHARED:
        stages, k = (stages - 1, k) if stages > 2 else (stages, k // 2)
    return [m, n, k], stages


def fitting(side: int, axis: Axis) -> int:
    """A side of a block that no captured size leaves half empty."""
    longest = max(axis.size.values)
    return max(16, min(side, 1 << max(0, longest - 1).bit_length()))


def operand_of(c: Contraction) -> DType:
    """What both operands are multiplied in."""
    if c.a.dtype == c.b.dtype and c.a.dtype in ("f16", "bf16"):
        return c.a.dtype
    return "f64" if "f64" in (c.a.dtype, c.b.dtype) else "f32"


def operand_block(
    printer: TilePrinter, expr: Expr, terms: Sequence[Axis], at: str, mask: str, to: DType
) -> str:
    """A block of an operand, zero outside of it, in the type that products take.

    No term is outside where there is no `mask`.
    """
    printer.begin(Run(at, tuple(terms), f"_{mask or 'whole'}"), mask)
    if isinstance(expr, Load) and expr.dtype == to:
        name, text = printer.fresh(), printer.raw(expr)
        held = mask and expr.buffer in printer.held
        printer.line(f"{name} = tl.where({mask}, {text}, 0.0)" if held else f"{name} = {text}")
    else:
        value = printer.convert(printer.value(expr), ARITHMETIC[to])
        every = printer.mask(axes_of(expr) | {a.name for a in terms})
        name = printer.fresh()
        inside = f"tl.where({every}, {value.text}, 0.0)" if every else value.text
        printer.line(f"{name} = tl.cast({inside}, {KIND[to]})")
    lines = printer.close()
    printer.scopes[-1].lines += lines
    printer.runs.pop()
    for axis in terms:
        del printer.text_of[axis.name]
        printer.masks.pop(axis.name, None)
    return name


def multiplied(left: str, right: str, acc: str, dots: bool) -> str:
    """A statement that adds the product of two blocks to a third."""
    if dots:
        return f'{acc} = tl.dot({left}, {right}, {acc}, input_precision="ieee")'
    return f"{acc} += tl.sum({left}[:, :, None] * {right}[None, :, :], 1)"


def indices_of(c: Contraction) -> list[Index]:
    """Every index that occurs in a contraction."""
    values = [c.a, c.b, *(s.value for s in c.stores)]
    found = [e.index for v in values for e in walk(v) if isinstance(e, Load | Position)]
    return [*found, *(s.index for s in c.stores)]
