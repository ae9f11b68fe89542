"""Map/reduce regions and scans to CUDA kernels: one thread for each element, row or column part.

*Maps*, without a reduction: a thread for each element. *Rows*, reduced along memory: the threads of
a block share a row, or each warp has one of its own. *Columns*, where memory is contiguous along an
outer axis: neighbouring threads have neighbouring columns, and the parts of a column are shared by
the other dimension of the block. Scans: a thread for each running value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from math import prod

from kernelevolve.programmers.builtin.emit.expr import ARITHMETIC, STORAGE, Printer, Val
from kernelevolve.programmers.builtin.emit.mapreduce import column_axis
from kernelevolve.programmers.builtin.emit.scan import START
from kernelevolve.programmers.builtin.emit.sweeps import values
from kernelevolve.programmers.builtin.ir import (
    Axis,
    Call,
    DType,
    Expr,
    Load,
    MapReduce,
    Pass,
    Reduction,
    Scan,
    Size,
    Store,
    axes_of,
    walk,
)
from kernelevolve.programmers.builtin.prims import numel
from kernelevolve.programmers.builtin.schedule import Blocks

MAP_THREADS = 256
WARP = 32
CHUNK = 64
"""Elements that a thread may add up in float32; more lose accuracy that the reference keeps."""
MOST_KEPT = 64
"""Registers of a thread for values that several passes need."""
MOST_BLOCKS = 1 << 20
"""Of a grid; where there are more points than that, blocks take several."""
FOLD = {"sum": "Plus", "prod": "Times", "max": "Most", "min": "Least"}
RUNNING = {"sum": "carry + {}", "prod": "carry * {}", "max": "vmax({}, carry)"}
FARTHEST = "0x7fffffffffffffffll"


@dataclass(frozen=True)
class Kernel:
    """One `__global__` function and how it is launched."""

    name: str
    text: str
    points: Size
    """What the grid divides."""
    each: int
    """Points of a block."""
    block: tuple[int, int]
    """Threads in x and y."""


def prelude(dtypes: frozenset[DType], fast_math: bool) -> str:
    """What precedes all kernels of a file."""
    narrow = bool(dtypes & {"f16", "bf16"})
    head = "#include <cuda_fp16.h>\n#include <cuda_bf16.h>\n#define NARROW_FLOATS 1\n"
    text = files("kernelevolve.programmers.builtin.emit").joinpath("simt.h").read_text()
    return f"{head if narrow else ''}#define FAST_MATH {int(fast_math)}\n{text}"


def emit(region: MapReduce | Scan, parameters: Sequence[str], blocks: Blocks) -> Kernel:
    """A region as one kernel; `parameters` are its buffers and all size symbols."""
    if isinstance(region, Scan):
        return _scan(region, parameters)
    if not any(p.reductions for p in region.passes):
        return _map(region, parameters)
    lane = column_axis(region)
    if lane is not None:
        return _Shared(region, parameters, lane, 1, blocks.parts).kernel()
    threads = blocks.threads or _fitting(region)
    rows = 1 if threads > WARP else blocks.rows
    return _Shared(region, parameters, None, rows, threads, blocks.keep).kernel()


def _fitting(region: MapReduce) -> int:
    """Threads for a row: about eight elements each at the longest captured size."""
    longest = max(prod(max(a.size.values) for a in p.axes) for p in region.passes)
    wanted = max(WARP, min(512, longest // 8))
    return int(2 ** (wanted - 1).bit_length())


def signature(name: str, parameters: Sequence[str], threads: int) -> str:
    """How a kernel begins."""
    return (
        f'extern "C" __global__ void __launch_bounds__({threads})\n'
        f"{name}({', '.join(parameters)}) {{"
    )


def _indented(lines: Sequence[str]) -> str:
    return "\n".join(f"  {line}" for line in lines)


def decoded(number: str, axes: Sequence[Axis], kind: str = "const int64_t") -> list[str]:
    """Statements that take a row-major number apart."""
    lines, rest = [], number
    for at, axis in reversed(list(enumerate(axes))):
        if axis.size.is_const(1):
            lines.append(f"{kind} {axis.name} = 0;")
        elif all(a.size.is_const(1) for a in axes[:at]):
            lines.append(f"{kind} {axis.name} = {rest};")
        else:
            over = f"{axis.name}_over"
            lines.append(f"{kind} {over} = quotient({rest}, {axis.size.expr});")
            lines.append(f"{kind} {axis.name} = {rest} - {over} * ({axis.size.expr});")
            rest = over
    return lines


def _map(region: MapReduce, parameters: Sequence[str]) -> Kernel:
    lines: list[str] = []
    printer = Printer(None)
    for p in region.passes:
        axes = (*region.outer, *p.axes)
        printer.open(*(a.name for a in axes))
        for store in p.stores:
            printer.store(store)
        body = printer.close()
        count = numel(tuple(a.size for a in axes)).expr
        lines += [
            f"for (int64_t at = from; at < {count}; at += step) {{",
            *decoded("at", axes),
            *body,
            "}",
        ]
    head = [
        f"const int64_t from = blockIdx.x * (int64_t){MAP_THREADS} + threadIdx.x;",
        f"const int64_t step = gridDim.x * (int64_t){MAP_THREADS};",
        *printer.scopes[0].lines,
    ]
    every = [numel(tuple(a.size for a in (*region.outer, *p.axes))) for p in region.passes]
    text = f"{signature(region.name, parameters, MAP_THREADS)}\n{_indented([*head, *lines])}\n}}\n"
    points = max(every, key=lambda size: max(size.values))
    return Kernel(region.name, text, points, MAP_THREADS, (MAP_THREADS, 1))


def _scan(region: Scan, parameters: Sequence[str]) -> Kernel:
    dtype = ARITHMETIC[region.dtype]
    wide: DType = "f64" if dtype == "f32" and region.kind == "sum" else dtype
    points = numel(tuple(a.size for a in region.outer))
    printer = Printer(None)
    printer.open(*(a.name for a in region.outer))
    printer.open(region.axis.name)
    value = printer.convert(printer.value(region.value), wide)
    printer.line(f"carry = {RUNNING[region.kind].format(value.text)};")
    printer.bind("carry", "carry", False, wide)
    printer.store(region.store)
    body = printer.close()
    of_point = printer.close()
    along, length = region.axis.name, region.axis.size.expr
    lines = [
        *printer.scopes[0].lines,
        f"const int64_t from = blockIdx.x * (int64_t){MAP_THREADS} + threadIdx.x;",
        f"for (int64_t point = from; point < {points.expr}; "
        f"point += gridDim.x * (int64_t){MAP_THREADS}) {{",
        *decoded("point", region.outer),
        *of_point,
        f"{STORAGE[wide]} carry = {START.get(region.kind, '0')};",
        f"for (int64_t {along} = 0; {along} < {length}; {along}++) {{",
        *body,
        "}",
        "}",
    ]
    text = f"{signature(region.name, parameters, MAP_THREADS)}\n{_indented(lines)}\n}}\n"
    return Kernel(region.name, text, points, MAP_THREADS, (MAP_THREADS, 1))


@dataclass
class _Shared:
    """A region whose reductions several threads share."""

    region: MapReduce
    parameters: Sequence[str]
    lane: Axis | None
    """Along which columns lie side by side; None for rows."""
    rows: int
    """Rows of a block, one for each warp; 1 where the whole block shares one."""
    threads: int
    """That share a row, or a column."""
    keep: bool = False
    """Hold in registers what several passes over a row need."""

    def kernel(self) -> Kernel:
        region, columns = self.region, self.lane is not None
        outer = [a for a in region.outer if a != self.lane]
        outer += [] if self.lane is None else [self.lane]
        points = numel(tuple(a.size for a in outer))
        block = (WARP, self.threads) if columns else (self.threads, self.rows)
        each = WARP if columns else self.rows
        inside = "threadIdx.y" if self.rows > 1 else "0"
        together = self.threads > (1 if columns else WARP)
        if columns:
            loop = [
                f"for (int64_t block = blockIdx.x; block * {WARP} < points; block += gridDim.x) {{",
                f"const bool mine = block * {WARP} + threadIdx.x < points;",
                f"const int64_t point = mine ? block * {WARP} + threadIdx.x : points - 1;",
            ]
        else:
            point = f"blockIdx.x * (int64_t){each} + {inside}"
            step = f"gridDim.x * (int64_t){each}"
            loop = [f"for (int64_t point = {point}; point < points; point += {step}) {{"]
        rooms, before, of_point = self._of_point(outer)
        lines = [
            *rooms,
            f"const int64_t points = {points.expr};",
            *before,
            *loop,
            *decoded("point", outer),
            *of_point,
            *(["__syncthreads();  // before the rooms are used again"] if together else []),
            "}",
        ]
        text = f"{signature(region.name, self.parameters, prod(block))}\n{_indented(lines)}\n}}\n"
        return Kernel(region.name, text, points, each, block)

    def _of_point(self, outer: Sequence[Axis]) -> tuple[list[str], list[str], list[str]]:
        """Shared memory, statements before all points, and those of a point."""
        rooms, before, lines = self._passes(outer, {}, 0)
        kept = self._kept() if self.keep else {}
        axes = next((p.axes for p in self.region.passes if p.axes), ())
        length = numel(tuple(a.size for a in axes))
        steps = -(-max(length.values) // self.threads)
        if not kept or steps * len(kept) > MOST_KEPT:
            return rooms, before, lines
        _, also, short = self._passes(outer, kept, steps)
        own = {e: STORAGE[ARITHMETIC[e.dtype]] for e in kept}
        registers = [f"{own[e]} {name}[{steps}];" for e, name in kept.items()]
        fits = f"if ({length.expr} <= {steps * self.threads}) {{"
        before = [*before, *(line for line in also if line not in before)]
        return rooms, before, [fits, *registers, *short, "} else {", *lines, "}"]

    def _kept(self) -> dict[Expr, str]:
        """The largest values that several passes over the first pass's axes need."""
        axes = next((p.axes for p in self.region.passes if p.axes), ())
        names = {a.name for a in axes}
        kept: dict[Expr, str] = {}
        seen: set[Expr] = set()
        for p in self.region.passes:
            if p.axes != axes:
                continue
            mine = [e for e in _inside(p) if axes_of(e) & names and e.dtype != "bool"]
            shared = [e for e in mine if e in seen and isinstance(e, Load | Call)]
            below = {c for e in shared if isinstance(e, Call) for a in e.args for c in walk(a)}
            for expr in shared:
                if expr not in below:
                    kept.setdefault(expr, f"kept{len(kept)}")
            seen.update(mine)
        return kept

    def _passes(
        self, outer: Sequence[Axis], kept: Mapping[Expr, str], steps: int
    ) -> tuple[list[str], list[str], list[str]]:
        printer = Printer(None)
        printer.open(*(a.name for a in outer))
        rooms: list[str] = []
        ready: set[Expr] = set()
        for p in self.region.passes:
            for r in p.reductions:
                printer.line(f"{self._kind(p, r)} {r.name}_own = {_identity(r)};")
            printer.open(*(a.name for a in p.axes))
            wanted = [e for e in _inside(p) if e in kept]
            for expr in ready.intersection(wanted):
                held = Val(f"{kept[expr]}[step]", False, ARITHMETIC[expr.dtype])
                printer.scopes[-1].memo[expr] = held
            for r in p.reductions:
                self._take_in(printer, p, r)
            for store in p.stores:
                self._store(printer, store, everyone=bool(p.axes))
            for expr in wanted:
                if expr not in ready:
                    printer.line(f"{kept[expr]}[step] = {printer.value(expr).text};")
            ready.update(wanted)
            body = printer.close()
            printer.scopes[-1].lines += self._sweep(p, body, steps if wanted else 0)
            for r in p.reductions:
                self._fold(printer, p, r, rooms)
        of_point = printer.close()
        return rooms, printer.scopes[0].lines, of_point

    def _sweep(self, p: Pass, body: Sequence[str], steps: int) -> list[str]:
        """The loop of a pass over its axes; of so many steps, unrolled, where that is known."""
        if not p.axes:
            return ["{", *body, "}"]
        length = numel(tuple(a.size for a in p.axes)).expr
        index = "threadIdx.y" if self.lane is not None else "threadIdx.x"
        if steps:
            return [
                "#pragma unroll",
                f"for (int step = 0; step < {steps}; step++) {{",
                f"const int64_t at = {index} + step * {self.threads};",
                f"if (at < {length}) {{",
                *decoded("at", p.axes),
                *body,
                "}",
                "}",
            ]
        return [
            f"for (int64_t at = {index}; at < {length}; at += {self.threads}) {{",
            *decoded("at", p.axes),
            *body,
            "}",
        ]

    def _take_in(self, printer: Printer, p: Pass, r: Reduction) -> None:
        value = printer.convert(printer.value(r.value), _arithmetic(r)).text
        value = f"best({value}, at)" if r.kind.startswith("arg") else value
        kind = self._kind(p, r)
        printer.line(f"{r.name}_own = {_fold(r)}::of({r.name}_own, ({kind}){value});")

    def _store(self, printer: Printer, store: Store, *, everyone: bool) -> None:
        conditions = [] if self.lane is None else ["mine"]
        if not everyone:
            conditions.append("threadIdx.y == 0" if self.lane is not None else "threadIdx.x == 0")
        before = len(printer.scopes[-1].lines)
        printer.store(store)
        if conditions:
            last = printer.scopes[-1].lines.pop()
            printer.line(f"if ({' && '.join(conditions)}) {last}")
        assert len(printer.scopes[-1].lines) > before

    def _kind(self, p: Pass, r: Reduction) -> str:
        """The C++ type of what a thread gathers; float64 for sums of many float32 numbers."""
        length = max(numel(tuple(a.size for a in p.axes)).values)
        many = r.kind == "sum" and length > CHUNK * self.threads
        return "double" if many and _arithmetic(r) == "f32" else _type(r)

    def _fold(self, printer: Printer, p: Pass, r: Reduction, rooms: list[str]) -> None:
        columns, room = self.lane is not None, f"{r.name}_room"
        size = self.threads * WARP if columns else WARP
        rooms.append(f"__shared__ {self._kind(p, r)} {room}[{size}];")
        how = "fold_column" if columns else "fold_row"
        call = f"{how}<{self.threads}, {_fold(r)}>({r.name}_own, {room})"
        result = f"{call}.at" if r.kind.startswith("arg") else call
        scalar = STORAGE[ARITHMETIC[r.dtype]]
        printer.line(f"const {scalar} {r.name} = ({scalar}){result};")
        printer.bind(r.name, r.name, False, r.dtype)


def _inside(p: Pass) -> list[Expr]:
    """Every value that a pass computes, operands before users."""
    return list(dict.fromkeys(e for v in values(p) for e in walk(v)))


def _arithmetic(r: Reduction) -> DType:
    return ARITHMETIC[r.value.dtype if r.kind.startswith("arg") else r.dtype]


def _type(r: Reduction) -> str:
    plain = STORAGE[_arithmetic(r)]
    return f"Best<{plain}>" if r.kind.startswith("arg") else plain


def _fold(r: Reduction) -> str:
    if r.kind.startswith("arg"):
        return f"First<{'true' if r.kind == 'argmax' else 'false'}>"
    return FOLD[r.kind]


def _identity(r: Reduction) -> str:
    if r.kind in ("sum", "prod"):
        return "0" if r.kind == "sum" else "1"
    dtype, least = _arithmetic(r), r.kind.endswith("max")
    if dtype in ("f32", "f64"):
        value = f"({STORAGE[dtype]}){'-' if least else ''}__builtin_inf()"
    else:
        bits = {"i64": FARTHEST, "bool": "1"}.get(dtype, "0x7fffffff")
        lowest = "false" if dtype == "bool" else f"-{bits} - 1"
        value = lowest if least else bits
    return f"best({value}, {FARTHEST})" if r.kind.startswith("arg") else value
