"""Contractions to CUDA kernels: a policy struct, and tiles by tensor cores or multiply-adds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.resources import files

from kernelevolve.programmers.builtin.emit.contraction_collapse import collapsed
from kernelevolve.programmers.builtin.emit.expr import ARITHMETIC, STORAGE, Printer
from kernelevolve.programmers.builtin.emit.simt_kernel import Kernel, decoded, signature
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

PLAIN_THREADS = 256
PLAIN_DEPTH = 16
SIDES = (32, 64, 96, 128)
"""Columns that a tile may have."""


def product_prelude(regions: Sequence[Contraction], tensor: bool) -> str:
    """What a file with contractions holds once, behind the prelude of all kernels."""
    folder = files("kernelevolve.programmers.builtin.emit")
    names = ["simt_product.h"] if regions else []
    names += ["simt_tensor.h"] if any(_narrow(c, tensor) for c in regions) else []
    return "\n".join(folder.joinpath(name).read_text() for name in names)


def _narrow(c: Contraction, tensor: bool) -> DType | None:
    """The 16-bit type of both operands, for which there are tensor cores."""
    if not tensor:
        return None
    return c.a.dtype if c.a.dtype == c.b.dtype and c.a.dtype in ("f16", "bf16") else None


def emit_product(
    region: Contraction, parameters: Sequence[str], blocks: Blocks, workloads: int, tensor: bool
) -> Kernel:
    """A contraction as one kernel.

    Args:
        region: it.
        parameters: its buffers and all size symbols.
        blocks: decisions.
        workloads: how many values of each size are of workloads.
        tensor: whether tensor cores are there to be used.
    """
    c = collapsed(region)
    narrow = _narrow(c, tensor)
    sums: DType = "f64" if "f64" in (c.a.dtype, c.b.dtype) else "f32"
    operand = STORAGE[narrow or sums]
    threads = 2 * blocks.tile_m if narrow else PLAIN_THREADS
    depth = blocks.tile_k if narrow else PLAIN_DEPTH
    names = [p.split()[-1].lstrip("*") for p in parameters]
    sizes = {n for n, p in zip(names, parameters, strict=True) if "*" not in p}
    across = _fitting(blocks.tile_n, max(c.n.size.values[:workloads]))
    numbers = [operand, str(blocks.tile_m), str(across), str(depth)]
    ways = [_way(e, _terms(c)) for e in (c.a, c.b)]
    numbers += ways if narrow else [_flag(_along(c.a, _terms(c))), _flag(_along(c.b, (c.n,)))]
    numbers += [_flag(all(_last(s.index.stride, _rows(c)) for s in c.stores))]
    batches = numel(tuple(a.size for a in c.batch))
    steps = (numel(tuple(a.size for a in axes)) for axes in steps_of(c.k))
    extents = ", ".join(s.expr for s in (batches, c.m.size, c.n.size, *steps))
    call = f"{'tensor_' if narrow else ''}product<{', '.join(numbers)}>(p, {extents});"
    text = [_policy(c, parameters, narrow or sums, sums)]
    for name, index in ((region.name, "int32_t"), (f"{region.name}_wide", "int64_t")):
        given = ", ".join(f"({index}){x}" if x in sizes else x for x in names)
        head = signature(name, parameters, threads)
        text += [head, f"  {region.name}_of<{index}> p{{{given}}};", f"  {call}", "}"]
    tiles = batches * _tiles(c.m.size, blocks.tile_m) * _tiles(c.n.size, across)
    return Kernel(region.name, "\n".join([*text, ""]), tiles, 1, (threads, 1))


def _fitting(tile: int, most: int) -> int:
    """The columns of a tile; fewer where one of fewer has room for as many as there ever are."""
    return min([tile, *(side for side in SIDES if side >= most)])


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


def _way(expr: Expr, terms: Sequence[Axis]) -> str:
    """How the threads of tensor cores' tiles go through an operand."""
    along = "ALONG" if _along(expr, terms) else "ACROSS"
    return f"{'MADE' if _step(expr, terms) is None else 'READ'}_{along}"


def _step(expr: Expr, terms: Sequence[Axis]) -> Size | None:
    """How far apart in memory the terms of a row are, where all or none of them are inside."""
    if not isinstance(expr, Load) or expr.index.jumps:
        return None
    if expr.inside is not None and axes_of(expr.inside) & {a.name for a in terms}:
        return None
    step = expected = expr.index.stride(terms[-1].name)
    for axis in reversed(terms):
        if not expr.index.stride(axis.name).matches(expected):
            return None
        expected = expected * axis.size
    return step


def _policy(c: Contraction, parameters: Sequence[str], operand: DType, sums: DType) -> str:
    """The struct, whose indices are of type I."""
    taps, terms = steps_of(c.k)
    row = [a.name for a in _rows(c)]
    found = [f"const I {x} = row.{x};" for x in row]
    inside = decoded("at", terms, "const I")
    lines = [
        f"template <class I> struct {c.name}_of {{",
        "typedef I Index;",
        *[f"{p};" if "*" in p else f"I {p.split()[-1]};" for p in parameters],
        *[f"I {a.name};" for a in (*c.batch, *taps)],
        f"struct Row {{ I {', '.join(row)}; }};",
        "IN void enter(I batch) {",
        *_assigned("batch", c.batch),
        "}",
        "IN void tap(I tap) {",
        *_assigned("tap", taps),
        "}",
        "IN Row row(I at) const {",
        *decoded("at", _rows(c), "const I"),
        f"return {{{', '.join(row)}}};",
        "}",
        *_operand(c.a, "a", ("const Row &row", "I at"), [*found, *inside], operand),
        *_operand(c.b, "b", ("I at", f"I {c.n.name}"), inside, operand),
        *_steps(c.a, "a", terms),
        *_steps(c.b, "b", terms),
        *_put(c, found, sums),
        "};",
    ]
    return "\n".join(lines)


def _assigned(number: str, axes: Sequence[Axis]) -> list[str]:
    """Statements that take a number apart into members."""
    lines = decoded(number, axes, "")
    return [f"const I{line}" if "_over = " in line else line for line in lines]


def _operand(
    expr: Expr, name: str, parameters: Sequence[str], given: Sequence[str], to: DType
) -> list[str]:
    """An operand's element; and where it is in memory, if it is only read."""
    kind, printer = STORAGE[to], Printer(None)
    head = f"{name}({', '.join(parameters)}) const {{"
    if not isinstance(expr, Load) or expr.dtype != to or expr.index.jumps:
        value = printer.convert(printer.value(expr), ARITHMETIC[to])
        lines = [*given, *printer.scopes[0].lines]
        result = f"narrow<{kind}, {STORAGE[ARITHMETIC[to]]}>({value.text})"
        return [f"IN {kind} {head}", *lines, f"return {result};", "}"]
    address = f"{expr.buffer} + {printer.offset(expr.index)}"
    inside = "true" if expr.inside is None else printer.value(expr.inside).text
    same = ", ".join(p.split()[-1].lstrip("&") for p in parameters)
    return [
        f"IN bool {head.replace('(', '_in(', 1)}",
        *given,
        *printer.scopes[0].lines,
        f"return {inside};",
        "}",
        f"IN const {kind} *{head.replace('(', '_at(', 1)}",
        *given,
        f"return {address};",
        "}",
        f"IN {kind} {head}",
        f"return {name}_in({same}) ? *{name}_at({same}) : {kind}{{}};",
        "}",
    ]


def _steps(expr: Expr, name: str, terms: Sequence[Axis]) -> list[str]:
    step = _step(expr, terms)
    return [] if step is None else [f"IN I {name}_step() const {{ return {step.expr}; }}"]


def _put(c: Contraction, given: Sequence[str], sums: DType) -> list[str]:
    printer = Printer(None)
    printer.bind("acc", "acc", False, sums)
    for store in c.stores:
        printer.store(store)
    return [
        f"IN void put(const Row &row, I {c.n.name}, {STORAGE[sums]} acc) const {{",
        *given,
        *printer.scopes[0].lines,
        "}",
    ]
