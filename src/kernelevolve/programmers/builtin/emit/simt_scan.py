"""Scans to CUDA kernels: a thread for each running value, or blocks for the tiles of long ones.

Tiles hand their sums on: a block adds up what the tiles before it have, from the nearest one that
knows its whole prefix. The order in which that happens differs from run to run, so it is done to
integers only.
"""

from __future__ import annotations

from collections.abc import Sequence

from kernelevolve.programmers.builtin.emit.expr import ARITHMETIC, STORAGE, Printer
from kernelevolve.programmers.builtin.emit.scan import START
from kernelevolve.programmers.builtin.emit.simt_kernel import (
    MAP_THREADS,
    Kernel,
    decoded,
    indented,
    signature,
)
from kernelevolve.programmers.builtin.ir import DType, Scan, Size
from kernelevolve.programmers.builtin.prims import numel

RUNNING = {"sum": "carry + {}", "prod": "carry * {}", "max": "vmax({}, carry)"}
ITEMS = 8
"""Elements of a tile for each thread of its block."""
TILE = ITEMS * MAP_THREADS
FEW_POINTS, LONG = 1 << 14, 512
"""Fewer running values than this many, of at least this length, are not left to a thread each."""
MOST_TILES = (1 << 31) - 1


def emit_scan(region: Scan, parameters: Sequence[str]) -> Kernel:
    """A scan as one kernel."""
    points = numel(tuple(a.size for a in region.outer))
    few = max(points.values) < FEW_POINTS and max(region.axis.size.values) >= LONG
    whole = ARITHMETIC[region.dtype] in ("i32", "i64")
    if few and whole and region.kind == "sum":
        return _tiled(region, parameters, points)
    return _by_threads(region, parameters, points)


def _tiled(region: Scan, parameters: Sequence[str], points: Size) -> Kernel:
    kind = STORAGE[ARITHMETIC[region.dtype]]
    along, length = region.axis.name, region.axis.size
    printer = Printer(None)
    printer.open(*(a.name for a in region.outer))
    printer.open(along)
    value = printer.convert(printer.value(region.value), ARITHMETIC[region.dtype])
    printer.line(f"own[item] = {value.text};")
    taken = printer.close()
    printer.open(along)
    printer.bind("carry", "(own[item] + before)", False, region.dtype)
    printer.store(region.store)
    stored = printer.close()
    of_point = printer.close()
    tiles = (length + Size.of(TILE - 1)) // Size.of(TILE)
    every = points * tiles
    at = f"const int64_t {along} = begin + (threadIdx.x / 32 * {ITEMS} + item) * 32"
    items = f"for (int item = 0; item < {ITEMS}; item++) {{"
    lines = [
        *printer.scopes[0].lines,
        f"__shared__ {kind} room[{MAP_THREADS // 32}];",
        "__shared__ int64_t next;",
        f"const int64_t tiles = {tiles.expr}, every = {every.expr};",
        "const int64_t tile = next_tile(state, &next);",
        "if (tile >= every) return;",
        "const int64_t point = tile / tiles;",
        f"const int64_t begin = (tile - point * tiles) * {TILE};",
        *decoded("point", region.outer),
        *of_point,
        f"{kind} own[{ITEMS}], total = 0;",
        "#pragma unroll",
        items,
        f"{at} + threadIdx.x % 32;",
        "own[item] = 0;",
        f"if ({along} < {length.expr}) {{",
        *taken,
        "}",
        "own[item] = along_warp(own[item]) + total;",
        "total = lane_at(own[item], 31);",
        "}",
        f"const {kind} before = sum_before<{MAP_THREADS}>"
        "(total, tile, begin == 0, room, state, every);",
        "#pragma unroll",
        items,
        f"{at} + threadIdx.x % 32;",
        f"if ({along} < {length.expr}) {{",
        *stored,
        "}",
        "}",
    ]
    head = signature(region.name, [*parameters, "int64_t *state"], MAP_THREADS)
    text = f"{head}\n{indented(lines)}\n}}\n"
    return Kernel(region.name, text, every, 1, (MAP_THREADS, 1), most=MOST_TILES, state=3)


def _by_threads(region: Scan, parameters: Sequence[str], points: Size) -> Kernel:
    dtype = ARITHMETIC[region.dtype]
    wide: DType = "f64" if dtype == "f32" and region.kind == "sum" else dtype
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
    text = f"{signature(region.name, parameters, MAP_THREADS)}\n{indented(lines)}\n}}\n"
    return Kernel(region.name, text, points, MAP_THREADS, (MAP_THREADS, 1))
