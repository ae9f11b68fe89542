"""Contractions to CUDA kernels: a policy struct, and tiles by tensor cores or multiply-adds."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files

from kernelevolve.programmers.builtin.emit.contraction_collapse import collapsed
from kernelevolve.programmers.builtin.emit.expr import ARITHMETIC, STORAGE, Printer
from kernelevolve.programmers.builtin.emit.simt_kernel import Kernel, decoded, signature
from kernelevolve.programmers.builtin.ir import (
    Contraction,
    DType,
    Expr,
    Load,
    Size,
)
from kernelevolve.programmers.builtin.prims import numel
from kernelevolve.programmers.builtin.schedule import Blocks

PLAIN_THREADS, TENSOR_THREADS = 256, 128
PLAIN_DEPTH = 16


def product_prelude(regions: Sequence[Contraction]) -> str:
    """What a file with contractions holds once, behind the prelude of all kernels."""
    folder = files("kernelevolve.programmers.builtin.emit")
    names = ["simt_product.h"] if regions else []
    names += ["simt_tensor.h"] if any(map(_narrow, regions)) else []
    return "\n".join(folder.joinpath(name).read_text() for name in names)


def _narrow(c: Contraction) -> DType | None:
    """The 16-bit type of both operands, for which there are tensor cores."""
    return c.a.dtype if c.a.dtype == c.b.dtype and c.a.dtype in ("f16", "bf16") else None


def emit_product(region: Contraction, parameters: Sequence[str], blocks: Blocks) -> Kernel:
    """A contraction as one kernel; `parameters` are its buffers and all size symbols."""
    c = collapsed(region)
    narrow = _narrow(c)
    sums: DType = "f64" if "f64" in (c.a.dtype, c.b.dtype) else "f32"
    operand = STORAGE[narrow or sums]
    threads = TENSOR_THREADS if narrow else PLAIN_THREADS
    depth = blocks.tile_k if narrow else PLAIN_DEPTH
    numbers = [operand, str(blocks.tile_m), str(blocks.tile_n), str(depth)]
    numbers += [_flag(_along(c.a, c.k.name)), _flag(_along(c.b, c.n.name))]
    batches = numel(tuple(a.size for a in c.batch))
    names = [p.split()[-1].lstrip("*") for p in parameters]
    extents = ", ".join(s.expr for s in (batches, c.m.size, c.n.size, c.k.size))
    call = f"{'tensor_' if narrow else ''}product<{', '.join(numbers)}>(p, {extents});"
    text = "\n".join(
        [
            _policy(c, parameters, narrow or sums, sums),
            signature(region.name, parameters, threads),
            f"  {region.name}_of p{{{', '.join(names)}}};",
            f"  {call}",
            "}",
            "",
        ]
    )
    tiles = batches * _tiles(c.m.size, blocks.tile_m) * _tiles(c.n.size, blocks.tile_n)
    return Kernel(region.name, text, tiles, 1, (threads, 1))


def _tiles(size: Size, tile: int) -> Size:
    return (size + Size.of(tile - 1)) // Size.of(tile)


def _flag(value: bool) -> str:
    return "true" if value else "false"


def _along(expr: Expr, axis: str) -> bool:
    """Whether memory is contiguous along an axis."""
    return isinstance(expr, Load) and expr.index.stride(axis).is_const(1)


def _policy(c: Contraction, parameters: Sequence[str], operand: DType, sums: DType) -> str:
    members = [f"{p};" for p in parameters] + [f"int64_t {a.name};" for a in c.batch]
    enter = [line.removeprefix("const int64_t ") for line in decoded("batch", c.batch)]
    enter = [f"int64_t {x}" if "_over = " in x else x for x in enter]
    lines = [
        f"struct {c.name}_of {{",
        *members,
        "IN void enter(int64_t batch) {",
        *enter,
        "}",
        *_operand(c.a, "a", (c.m.name, c.k.name), operand),
        *_operand(c.b, "b", (c.k.name, c.n.name), operand),
        *_put(c, sums),
        "};",
    ]
    return "\n".join(lines)


def _operand(expr: Expr, name: str, axes: tuple[str, str], to: DType) -> list[str]:
    printer = Printer(None)
    value = printer.convert(printer.value(expr), ARITHMETIC[to])
    result = f"narrow<{STORAGE[to]}, {STORAGE[ARITHMETIC[to]]}>({value.text})"
    first, second = axes
    return [
        f"IN {STORAGE[to]} {name}(int64_t {first}, int64_t {second}) const {{",
        *printer.scopes[0].lines,
        f"return {result};",
        "}",
    ]


def _put(c: Contraction, sums: DType) -> list[str]:
    printer = Printer(None)
    printer.bind("acc", "acc", False, sums)
    for store in c.stores:
        printer.store(store)
    return [
        f"IN void put(int64_t {c.m.name}, int64_t {c.n.name}, {STORAGE[sums]} acc) const {{",
        *printer.scopes[0].lines,
        "}",
    ]
