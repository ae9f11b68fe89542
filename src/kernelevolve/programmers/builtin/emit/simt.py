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

from kernelevolve.programmers.builtin.emit import simt_search
from kernelevolve.programmers.builtin.emit.expr import ARITHMETIC, STORAGE, Printer, Val
from kernelevolve.programmers.builtin.emit.mapreduce import column_axis
from kernelevolve.programmers.builtin.emit.simt_kernel import (
    MAP_THREADS,
    MOST_BLOCKS,
    Kernel,
    decoded,
    indented,
    signature,
)
from kernelevolve.programmers.builtin.emit.simt_scan import emit_scan
from kernelevolve.programmers.builtin.emit.simt_search import Trees
from kernelevolve.programmers.builtin.emit.spelling import Spelling
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
    Store,
    axes_of,
    table_of,
    walk,
)
from kernelevolve.programmers.builtin.prims import numel
from kernelevolve.programmers.builtin.schedule import Blocks

WARP = 32
CHUNK = 64
"""Elements that a thread may add up in float32; more lose accuracy that the reference keeps."""
MOST_KEPT = 64
"""Registers of a thread for values that several passes need."""
FOLD = {"sum": "Plus", "prod": "Times", "max": "Most", "min": "Least"}
FARTHEST = "0x7fffffffffffffffll"


def prelude(spelling: Spelling, dtypes: frozenset[DType], fast_math: bool) -> str:
    """What precedes all kernels of a file."""
    narrow = bool(dtypes & {"f16", "bf16"})
    head = "#define NARROW_FLOATS 1\n" if narrow else ""
    folder = files("kernelevolve.programmers.builtin.emit")
    texts = [folder.joinpath(f"{name}.h").read_text() for name in (spelling.name, "simt")]
    return "\n".join([f"{head}#define FAST_MATH {int(fast_math)}", *texts])


def emit(region: MapReduce | Scan, parameters: Sequence[str], blocks: Blocks) -> Kernel:
    """A region as one kernel; `parameters` are its buffers and all size symbols."""
    if isinstance(region, Scan):
        return emit_scan(region, parameters)
    if not any(p.reductions for p in region.passes):
        return _map(region, parameters, blocks)
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


def _map(region: MapReduce, parameters: Sequence[str], blocks: Blocks) -> Kernel:
    lines: list[str] = []
    printer = Trees(region, blocks.tree)
    threads, most = MAP_THREADS, MOST_BLOCKS
    planted = printer.planted()
    if planted:
        threads, most = simt_search.THREADS, printer.most_blocks
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
        f"const int64_t from = blockIdx.x * (int64_t){threads} + threadIdx.x;",
        f"const int64_t step = gridDim.x * (int64_t){threads};",
        *planted,
        *printer.scopes[0].lines,
    ]
    every = [numel(tuple(a.size for a in (*region.outer, *p.axes))) for p in region.passes]
    text = f"{signature(region.name, parameters, threads)}\n{indented([*head, *lines])}\n}}\n"
    points = max(every, key=lambda size: max(size.values))
    return Kernel(region.name, text, points, threads, (threads, 1), printer.shared, most)


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
        text = f"{signature(region.name, self.parameters, prod(block))}\n{indented(lines)}\n}}\n"
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
            tables = {table_of(e) for e in mine}
            mine = [e for e in mine if e not in tables]
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
