"""Contractions as C++: a policy struct that says what meets what; `contraction.h` does the rest.

The emitted function is `extern "C" void NAME(buffers…, const T* ready, int64_t symbols…)`: the
buffers in the order of `buffers_of`, then what `NAME_pack` prepared (null if nothing), then all
size symbols. With `schedule.ahead` there are also `int64_t NAME_packed(symbols…)`, the elements of
the prepared weight, and `void NAME_pack(buffers…, T* ready, symbols…)`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import NamedTuple

from kernelevolve.programmers.builtin.emit.contraction_collapse import collapsed
from kernelevolve.programmers.builtin.emit.contraction_schedule import (
    ContractionSchedule,
    a_is_rows,
    accumulator,
    direct,
    legal,
    oriented,
    plain,
    resumable,
    steps_by_one,
)
from kernelevolve.programmers.builtin.emit.expr import STORAGE, VECTOR, Printer
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

FREE_N = "static constexpr int64_t FIXED_N = 0;"
Symbols = Mapping[str, Sequence[int]]
"""Every size symbol and its value at each capture."""


class BufferUse(NamedTuple):
    """A pointer argument of an emitted function."""

    name: str
    dtype: DType
    written: bool

    @property
    def declaration(self) -> str:
        """The C++ parameter, which is also the policy's member."""
        return f"{'' if self.written else 'const '}{STORAGE[self.dtype]}* {self.name}"


def contraction_prelude() -> str:
    """What every file with contractions holds once, after `expr.prelude`."""
    folder = files("kernelevolve.programmers.builtin.emit")
    return folder.joinpath("contraction.h").read_text()


def buffers_of(contraction: Contraction) -> tuple[BufferUse, ...]:
    """The buffers in the order of the emitted function's arguments: A, B, the rest, outputs."""
    values = (contraction.a, contraction.b, *(s.value for s in contraction.stores))
    jumps = [j.where for s in contraction.stores for j in s.index.jumps]
    read = [BufferUse(x.buffer, x.dtype, False) for e in (*values, *jumps) for x in loads_of(e)]
    written = {s.buffer: BufferUse(s.buffer, s.dtype, True) for s in contraction.stores}
    return tuple({**{b.name: b for b in read}, **written}.values())


def emittable(contraction: Contraction) -> bool:
    """Tell whether the operands are floating point; integer products are left to the library."""
    return all(e.dtype in ("f32", "f64", "bf16", "f16") for e in (contraction.a, contraction.b))


def emit_contraction(
    contraction: Contraction, schedule: ContractionSchedule, symbols: Symbols
) -> str:
    """The function `contraction.name`; see the module's docstring for its arguments."""
    contraction = collapsed(contraction)
    schedule = legal(contraction, schedule)
    name = contraction.name
    buffers = buffers_of(contraction)
    sizes = [f"int64_t {s}" for s in symbols]
    scalar = STORAGE[accumulator(contraction)]
    pointers = [b.declaration for b in buffers]
    parts = [
        emit_policy(contraction, schedule, symbols),
        f'extern "C" void {name}({", ".join([*pointers, f"const {scalar}* ready", *sizes])}) {{',
        *_dispatch(name, buffers, symbols, schedule.fixed),
        "}",
    ]
    if schedule.ahead:
        make = _make(name, "Any", buffers, symbols)
        nothing = _make(name, "Any", (), symbols)
        parts += [
            f'extern "C" int64_t {name}_packed({", ".join(sizes)}) {{',
            f"  const auto p = {nothing};",
            "  return packed_size(p, p.N());",
            "}",
            f'extern "C" void {name}_pack({", ".join([*pointers, f"{scalar}* ready", *sizes])}) {{',
            f"  const auto p = {make};",
            "  pack_b(p, 0, 0, p.N(), ready);",
            "}",
        ]
    return "\n".join(parts) + "\n"


def _make(name: str, sizes: str, buffers: Sequence[BufferUse], symbols: Symbols) -> str:
    base = ", ".join(symbols) if sizes == "Any" else ""
    pointers = "".join(f", {b.name}" for b in buffers)
    return f"{name}_parts::Policy<{name}_parts::{sizes}>{{{{{base}}}{pointers}}}"


def _dispatch(name: str, buffers: Sequence[BufferUse], symbols: Symbols, fixed: bool) -> list[str]:
    lines = []
    for i, capture in enumerate(captures_of(symbols) if fixed else ()):
        test = " && ".join(f"{s} == {v}" for s, v in capture.items()) or "true"
        lines.append(
            f"  if ({test}) return contract({_make(name, f'Seen{i}', buffers, symbols)}, ready);"
        )
    return [*lines, f"  contract({_make(name, 'Any', buffers, symbols)}, ready);"]


def captures_of(symbols: Symbols) -> list[dict[str, int]]:
    """The distinct assignments of sizes that were captured."""
    count = max((len(v) for v in symbols.values()), default=0)
    found = [{s: v[i if len(v) > 1 else 0] for s, v in symbols.items()} for i in range(count)]
    return [c for i, c in enumerate(found) if c not in found[:i]]


def emit_policy(contraction: Contraction, schedule: ContractionSchedule, symbols: Symbols) -> str:
    """The struct `NAME_parts::Policy<Sizes>` that `contraction.h` is instantiated with."""
    c, s = oriented(contraction, schedule.swap), legal(contraction, schedule)
    members = [f"{b.declaration};" for b in buffers_of(contraction)]
    using = [f"using Sizes::{x};" for x in symbols]
    body = [*using, *members, *_constants(c, s), *_extents(c), *_operands(c, s), *_results(c)]
    captures = captures_of(symbols) if s.fixed else []
    return "\n".join(
        [
            f"namespace {c.name}_parts {{",
            f"struct Any {{ {' '.join(f'int64_t {x};' for x in symbols)} {FREE_N} }};",
            *(_seen(i, capture, c.n.size) for i, capture in enumerate(captures)),
            "template <class Sizes> struct Policy : Sizes {",
            *(f"  {line}" for line in body),
            "};",
            "}",
        ]
    )


def _seen(number: int, capture: Mapping[str, int], n: Size) -> str:
    values = " ".join(f"static constexpr int64_t {x} = {v};" for x, v in capture.items())
    return f"struct Seen{number} {{ {values} static constexpr int64_t FIXED_N = {n.expr}; }};"


def _constants(c: Contraction, s: ContractionSchedule) -> list[str]:
    dtype = accumulator(c)
    shared = not axes_of(c.b) & {x.name for x in c.batch}
    numbers = {
        "MR": s.rows, "NV": s.vectors, "NR": f"{s.vectors} * W", "KC": s.k_block,
        "MC": s.m_block, "NC": s.n_block, "UNROLL": s.unroll, "PREFETCH": s.prefetch,
    }  # fmt: skip
    flags = {
        "PACK_A": s.pack_a, "PACK_B": s.pack_b, "A_ROWS": a_is_rows(c, s), "B_ROWS": _b_is_rows(c),
        "B_SHARED": shared, "DOT": s.kernel == "dot", "PLAIN": plain(c), "PARALLEL": s.parallel,
    }  # fmt: skip
    return [
        f"typedef {STORAGE[dtype]} T; typedef {VECTOR[dtype]} V;",
        f"static constexpr int {', '.join(f'{k} = {v}' for k, v in numbers.items())};",
        f"static constexpr bool {', '.join(f'{k} = {int(v)}' for k, v in flags.items())};",
    ]


def _b_is_rows(c: Contraction) -> bool:
    return steps_by_one(c.b, c.n.name) or not steps_by_one(c.b, c.k.name)


def _extents(c: Contraction) -> list[str]:
    batch = Size.of(1)
    for axis in c.batch:
        batch = batch * axis.size
    named = {"batch": batch, "M": c.m.size, "N": c.n.size, "K": c.k.size}
    return [f"IN int64_t {name}() const {{ return {size.expr}; }}" for name, size in named.items()]


def _operands(c: Contraction, s: ContractionSchedule) -> list[str]:
    a_lane, b_lane = (c.k if a_is_rows(c, s) else c.m), (c.n if _b_is_rows(c) else c.k)
    lines = [
        *_vector_hook(c, "take_a", (c.m, c.k), a_lane, c.a),
        *_vector_hook(c, "take_b", (c.k, c.n), b_lane, c.b),
    ]
    if direct(c, c.a, a_lane.name):
        assert isinstance(c.a, Load)
        step = c.a.index.stride((c.m if a_is_rows(c, s) else c.k).name)
        lines += [
            *_pointer_hook(c, "const T* a_at", (c.m, c.k), c.a),
            f"IN int64_t a_step() const {{ return {step.expr}; }}",
        ]
    if direct(c, c.b, b_lane.name):
        assert isinstance(c.b, Load)
        lines += [
            *_pointer_hook(c, "const T* b_at", (c.k, c.n), c.b),
            f"IN int64_t b_step() const {{ return {c.b.index.stride(c.k.name).expr}; }}",
        ]
    return lines


def _results(c: Contraction) -> list[str]:
    head = _head(c, (c.m, c.n), "int lanes, V acc")
    lines = [
        f"template <bool FULL> IN void finish({head}",
        *_batch(c),
        *_both(_stores(c, None), _stores(c, "lanes")),
        "}",
    ]
    if resumable(c):
        printer = _printer(c, None)
        target = c.stores[0]
        address = f"{target.buffer} + {printer.offset(target.index)}"
        lines += [
            f"IN T* partial({_head(c, (c.m, c.n))}",
            *_batch(c),
            f"  return {address};",
            "}",
        ]
    return lines


def _stores(c: Contraction, lanes: str | None) -> list[str]:
    printer = _printer(c, c.n, lanes)
    printer.bind("acc", "acc", True, accumulator(c))
    for store in c.stores:
        printer.store(store)
    return printer.close()


def _vector_hook(
    c: Contraction, name: str, axes: tuple[Axis, Axis], lane: Axis, expr: Expr
) -> list[str]:
    full, part = (_value(c, lane, expr, lanes) for lanes in (None, "lanes"))
    return [
        f"template <bool FULL> IN V {name}({_head(c, axes, 'int lanes')}",
        *_batch(c),
        *_both(full, part),
        "}",
    ]


def _value(c: Contraction, lane: Axis, expr: Expr, lanes: str | None) -> list[str]:
    printer = _printer(c, lane, lanes)
    value = printer.vector(printer.convert(printer.value(expr), accumulator(c)))
    return [*printer.close(), f"return {value};"]


def _pointer_hook(
    c: Contraction, declaration: str, axes: tuple[Axis, Axis], load: Load
) -> list[str]:
    address = f"{load.buffer} + {_printer(c, None).offset(load.index)}"
    return [f"IN {declaration}({_head(c, axes)}", *_batch(c), f"  return {address};", "}"]


def _head(c: Contraction, axes: tuple[Axis, Axis], *rest: str) -> str:
    named = [f"int64_t at_{axis.name}" for axis in axes]
    return ", ".join(["int64_t nth", *named, *rest]) + ") const {"


def _printer(c: Contraction, lane: Axis | None, lanes: str | None = None) -> Printer:
    printer = Printer(lane.name if lane else None)
    printer.lanes = lanes
    printer.text_of = {axis.name: f"at_{axis.name}" for axis in (*c.batch, c.m, c.n, c.k)}
    return printer


def _batch(c: Contraction) -> list[str]:
    return [f"  {line}" for line in decode(c.batch, "nth", "at_")]


def decode(axes: Sequence[Axis], number: str, prefix: str = "") -> list[str]:
    """Statements that get `axes` from their row-major running number."""
    lines, left = [], number
    for axis in reversed(axes[1:]):
        lines.append(f"const int64_t {prefix}{axis.name} = {left} % ({axis.size.expr});")
        left = f"({left} / ({axis.size.expr}))"
    if axes:
        lines.append(f"const int64_t {prefix}{axes[0].name} = {left};")
    return lines


def _both(full: Sequence[str], part: Sequence[str]) -> list[str]:
    def block(lines: Sequence[str]) -> list[str]:
        return [f"    {line}" for line in lines]

    return ["  if constexpr (FULL) {", *block(full), "  } else {", *block(part), "  }"]
