"""Contractions to CUDA kernels: a policy struct, and tiles by tensor cores or multiply-adds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.resources import files

from kernelevolve.programmers.builtin.emit.contraction_collapse import collapsed
from kernelevolve.programmers.builtin.emit.expr import ARITHMETIC, STORAGE, Printer
from kernelevolve.programmers.builtin.emit.simt import Kernel, decoded, signature
from kernelevolve.programmers.builtin.ir import (
    Axis,
    Contraction,
    DType,
    Expr,
    Load,
    Size,
    axes_of,
    loads_of,
)
from kernelevolve.programmers.builtin.prims import numel
from kernelevolve.programmers.builtin.schedule import Blocks
from kernelevolve.programmers.builtin.windows import steps_of

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
    numbers += _ways(c) if narrow else [_flag(_along(c.a, _terms(c))), _flag(_along(c.b, (c.n,)))]
    numbers += [_flag(all(_last(s.index.stride, _rows(c)) for s in c.stores))]
    batches = numel(tuple(a.size for a in c.batch))
    names = [p.split()[-1].lstrip("*") for p in parameters]
    steps = (numel(tuple(a.size for a in axes)) for axes in steps_of(c.k))
    extents = ", ".join(s.expr for s in (batches, c.m.size, c.n.size, *steps))
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


def _rows(c: Contraction) -> tuple[Axis, ...]:
    """The axes that m goes through."""
    return c.m.parts or (c.m,)


def _terms(c: Contraction) -> tuple[Axis, ...]:
    """The axes that the terms of one tap go through."""
    return steps_of(c.k).terms


def _last(stride: Callable[[str], Size], axes: Sequence[Axis]) -> bool:
    return stride(axes[-1].name).is_const(1)


def _along(expr: Expr, axes: Sequence[Axis]) -> bool:
    """Whether memory is contiguous along the last axis."""
    return any(_last(load.index.stride, axes) for load in loads_of(expr))


def _ways(c: Contraction) -> list[str]:
    """How the threads of tensor cores' tiles go through each operand."""
    return [
        "READ" if _read(e, _terms(c)) else "MADE" if _along(e, _terms(c)) else "ACROSS"
        for e in (c.a, c.b)
    ]


def _read(expr: Expr, terms: Sequence[Axis]) -> bool:
    """Whether the terms of a row lie side by side in memory, all or none of them inside."""
    if not isinstance(expr, Load) or expr.index.jumps:
        return False
    if expr.inside is not None and axes_of(expr.inside) & {a.name for a in terms}:
        return False
    expected = Size.of(1)
    for axis in reversed(terms):
        if not expr.index.stride(axis.name).matches(expected):
            return False
        expected = expected * axis.size
    return True


def _policy(c: Contraction, parameters: Sequence[str], operand: DType, sums: DType) -> str:
    taps, terms = steps_of(c.k)
    row = [a.name for a in _rows(c)]
    found = [f"const int64_t {x} = row.{x};" for x in row]
    lines = [
        f"struct {c.name}_of {{",
        *[f"{p};" for p in parameters],
        *[f"int64_t {a.name};" for a in (*c.batch, *taps)],
        f"struct Row {{ int64_t {', '.join(row)}; }};",
        "IN void enter(int64_t batch) {",
        *_assigned("batch", c.batch),
        "}",
        "IN void tap(int64_t tap) {",
        *_assigned("tap", taps),
        "}",
        "IN Row row(int64_t at) const {",
        *decoded("at", _rows(c)),
        f"return {{{', '.join(row)}}};",
        "}",
        *_operand(c.a, "a(const Row &row, int64_t at)", [*found, *decoded("at", terms)], operand),
        *_operand(c.b, f"b(int64_t at, int64_t {c.n.name})", decoded("at", terms), operand),
        *_put(c, found, sums),
        "};",
    ]
    return "\n".join(lines)


def _assigned(number: str, axes: Sequence[Axis]) -> list[str]:
    """Statements that take a number apart into members."""
    lines = [line.removeprefix("const int64_t ") for line in decoded(number, axes)]
    return [f"int64_t {x}" if "_over = " in x else x for x in lines]


def _operand(expr: Expr, call: str, given: Sequence[str], to: DType) -> list[str]:
    """An operand's element; and its address, where that is all there is to it."""
    kind, printer = STORAGE[to], Printer(None)
    if not isinstance(expr, Load) or expr.dtype != to or to not in ("f16", "bf16"):
        value = printer.convert(printer.value(expr), ARITHMETIC[to])
        result = f"narrow<{kind}, {STORAGE[ARITHMETIC[to]]}>({value.text})"
        return [f"IN {kind} {call} const {{", *given, *printer.scopes[0].lines, f"return {result};", "}"]
    address = f"{expr.buffer} + {printer.offset(expr.index)}"
    inside = "true" if expr.inside is None else printer.value(expr.inside).text
    before = [*given, *printer.scopes[0].lines]
    name, rest = call.split("(", 1)
    return [
        f"IN const {kind} *{name}_at({rest} const {{",
        *before,
        f"return {inside} ? {address} : nullptr;",
        "}",
        f"IN {kind} {call} const {{",
        *before,
        f"return {inside} ? *({address}) : {kind}{{}};",
        "}",
    ]


def _put(c: Contraction, given: Sequence[str], sums: DType) -> list[str]:
    printer = Printer(None)
    printer.bind("acc", "acc", False, sums)
    for store in c.stores:
        printer.store(store)
    return [
        f"IN void put(const Row &row, int64_t {c.n.name}, {STORAGE[sums]} acc) const {{",
        *given,
        *printer.scopes[0].lines,
        "}",
    ]
