"""Schedules of contractions: what may vary, where to start, and what to try next and why."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from kernelevolve.programmers.builtin.emit.contraction_collapse import collapsed
from kernelevolve.programmers.builtin.ir import (
    Contraction,
    DType,
    Expr,
    Load,
    Ref,
    Size,
    axes_of,
    loads_of,
)

Limit = Literal["memory", "cache", "compute", "overhead", "unknown"]


@dataclass(frozen=True)
class ContractionSchedule:
    """How one contraction runs; `legal` turns any of these into one that can."""

    kernel: Literal["tile", "dot"] = "tile"
    """Outer products of register tiles, or dot products along a contiguous k (few rows)."""
    swap: bool = False
    """Compute the transposed product: rows become columns."""
    width: int = 16
    """Lanes of a vector; must be the width that the whole file's prelude is made for."""
    rows: int = 8
    """Rows of a register tile; of `dot`, columns that are summed at once."""
    vectors: int = 3
    """Vectors of columns of a register tile."""
    k_block: int = 0
    """Steps of k between visits to memory; 0 means all of them."""
    m_block: int = 192
    """Rows of A that stay in the second-level cache; 0 means all of them."""
    n_block: int = 0
    """Columns of B that are gone through before the next rows of A; 0 means all of them."""
    pack_a: bool = True
    """Copy blocks of A into rows of odd pitch, with the prologue applied."""
    pack_b: bool = True
    """Copy B into panels as wide as a tile, with the prologue applied."""
    ahead: bool = False
    """B is a weight that `prepare()` packs, through the function `<name>_pack`."""
    unroll: int = 1
    """Steps of k in the body of the innermost loop."""
    prefetch: int = 0
    """Steps of k (vectors of k in `dot`) that B is fetched ahead; 0 leaves it to the hardware."""
    fixed: bool = False
    """Also compile the captured sizes as constants; other sizes take the general path."""
    parallel: bool = False
    """Divide batch, rows or columns among the OpenMP threads."""


class Neighbour(NamedTuple):
    """A schedule one decision away, and the reason to try it."""

    schedule: ContractionSchedule
    reason: str


class Extents(NamedTuple):
    """Sizes at one capture."""

    batch: int
    m: int
    n: int
    k: int


TILES = ((8, 3), (14, 2), (12, 2), (6, 4), (4, 4), (24, 1), (4, 6), (2, 8))
"""Rows and vectors that keep sums, a row of B and a splat within 32 registers."""
NARROW_TILES = ((4, 3), (6, 2), (2, 4), (3, 4))
"""The same for 16 registers."""


def extents(contraction: Contraction, capture: int = 0) -> Extents:
    """The sizes of `contraction` at a capture."""

    def at(size: Size) -> int:
        return size.values[capture if len(size.values) > 1 else 0]

    batch = 1
    for axis in contraction.batch:
        batch *= at(axis.size)
    return Extents(batch, *(at(x.size) for x in (contraction.m, contraction.n, contraction.k)))


def accumulator(contraction: Contraction) -> DType:
    """The type that products are summed in."""
    loads = (*loads_of(contraction.a), *loads_of(contraction.b))
    double = any(load.dtype == "f64" for load in loads)
    return "f64" if double or "f64" in (contraction.a.dtype, contraction.b.dtype) else "f32"


def direct(contraction: Contraction, operand: Expr, axis: str) -> bool:
    """Tell whether `operand` can be read where it lies, in vectors along `axis`."""
    if not isinstance(operand, Load) or operand.index.jumps:
        return False
    return operand.dtype == accumulator(contraction) and steps_by_one(operand, axis)


def steps_by_one(operand: Expr, axis: str) -> bool:
    """Tell whether the operand's main load is contiguous along `axis`."""
    loads = sorted(loads_of(operand), key=lambda load: len(load.index.terms), reverse=True)
    return bool(loads) and loads[0].index.stride(axis).constant == 1


def resumable(contraction: Contraction) -> bool:
    """Tell whether partial sums can wait in the output between blocks of k."""
    store = contraction.stores[0]
    one = store.index.stride(contraction.n.name).constant == 1
    return one and store.dtype == accumulator(contraction) and len(contraction.stores) == 1


def plain(contraction: Contraction) -> bool:
    """Tell whether the sums themselves are the output."""
    return resumable(contraction) and isinstance(contraction.stores[0].value, Ref)


def oriented(contraction: Contraction, swap: bool) -> Contraction:
    """The contraction, or its transposed twin."""
    if not swap:
        return contraction
    c = contraction
    return replace(c, m=c.n, n=c.m, a=c.b, b=c.a)


def legal(contraction: Contraction, schedule: ContractionSchedule) -> ContractionSchedule:
    """The nearest schedule that this contraction can run under."""
    c = oriented(contraction, schedule.swap)
    one_b = not axes_of(contraction.b) & {axis.name for axis in contraction.batch}
    s = replace(schedule, ahead=schedule.ahead and one_b and not schedule.swap)
    if s.kernel == "dot" and not direct(c, c.b, c.k.name):
        s = replace(s, kernel="tile")
    in_place = direct(c, c.a, c.k.name if a_is_rows(c, s) else c.m.name)
    if s.kernel == "dot":
        s = replace(s, pack_b=False, ahead=False, k_block=0)
    elif not direct(c, c.b, c.n.name) or s.ahead:
        s = replace(s, pack_b=True)
    panel = s.vectors * s.width
    return replace(
        s,
        pack_a=s.pack_a or not in_place,
        k_block=s.k_block if resumable(c) else 0,
        n_block=-(-s.n_block // panel) * panel,
    )


def a_is_rows(contraction: Contraction, schedule: ContractionSchedule) -> bool:
    """Tell whether A, as oriented, is read along k; if not, it is transposed and read along m."""
    c = contraction
    if schedule.kernel == "dot":
        return True
    return steps_by_one(c.a, c.k.name) or not steps_by_one(c.a, c.m.name)


def default_schedules(
    contraction: Contraction, weight: bool = False
) -> tuple[ContractionSchedule, ...]:
    """Good places to start, best guess first; `weight` says that B is made of parameters only."""
    contraction = collapsed(contraction)
    size = extents(contraction)
    store = contraction.stores[0].index
    transposed = store.stride(contraction.n.name).constant != 1
    swap = (transposed and store.stride(contraction.m.name).constant == 1) or size.n < min(
        8, size.m
    )
    width = 8 if accumulator(contraction) == "f64" else 16
    s = ContractionSchedule(swap=swap, ahead=weight and not swap, width=width)
    m, n = (size.n, size.m) if swap else (size.m, size.n)
    if m <= 8:
        c = oriented(contraction, swap)
        found = _skinny(s, m, dots=direct(c, c.b, c.k.name))
    elif m * n * size.k <= 128**3:
        found = _small(s, m, n)
    else:
        found = _large(s, size.k)
    return tuple(dict.fromkeys(legal(contraction, f) for f in found))


def _skinny(s: ContractionSchedule, m: int, dots: bool) -> tuple[ContractionSchedule, ...]:
    tile = replace(s, rows=m, vectors=8 if m <= 2 else 4, m_block=0, pack_a=False)
    dot = replace(s, kernel="dot", rows=8 if m == 1 else 4, pack_a=False)
    strided = replace(tile, pack_b=False, ahead=False, vectors=4, k_block=16)
    in_place = dot if dots else strided
    return (tile, in_place) if s.ahead else (in_place, tile)


def _small(s: ContractionSchedule, m: int, n: int) -> tuple[ContractionSchedule, ...]:
    vectors = min((4, 3, 2), key=lambda v: (-n % (v * s.width), -v))
    most = {4: 6, 3: 8, 2: 14}[vectors]
    rows = min(range(2, most + 1), key=lambda r: (-(-m // r), r))
    fit = replace(s, rows=rows, vectors=vectors, m_block=0, pack_a=False, pack_b=False, fixed=True)
    found = (fit, replace(fit, pack_b=True), replace(s, pack_a=False), s)
    halved = replace(fit, width=8, rows=8, vectors=3)
    return (*found, halved) if 0 < n % 16 <= 8 else found


def _large(s: ContractionSchedule, k: int) -> tuple[ContractionSchedule, ...]:
    block = 512 if k > 640 else 0
    first = replace(s, k_block=block)
    return first, replace(first, rows=14, vectors=2), replace(first, k_block=256, m_block=96)


def neighbours(
    contraction: Contraction,
    schedule: ContractionSchedule,
    limit: Limit = "unknown",
    weight: bool = False,
) -> tuple[Neighbour, ...]:
    """Schedules one decision away; those that `limit` (what binds now) asks for come first."""
    order: dict[Limit, int] = {"compute": 0, "cache": 1, "memory": 2, "overhead": 3}
    groups = [_registers(schedule), _blocks(schedule), _traffic(schedule), _fixed_costs(schedule)]
    first = order.get(limit, 0)
    groups.insert(0, groups.pop(first))
    found: dict[ContractionSchedule, str] = {}
    start = legal(contraction, schedule)
    for group in groups:
        for option, reason in group:
            if option.ahead and not weight:
                continue
            option = legal(contraction, option)
            if option != start:
                found.setdefault(option, reason)
    return tuple(Neighbour(s, reason) for s, reason in found.items())


def _registers(s: ContractionSchedule) -> Iterator[tuple[ContractionSchedule, str]]:
    for rows, vectors in TILES if s.width >= 16 else (*NARROW_TILES, *TILES):
        reason = f"compute bound below peak: a {rows} by {vectors} tile loads less per multiply"
        yield replace(s, rows=rows, vectors=vectors), reason
    for unroll in (1, 2, 4):
        yield replace(s, unroll=unroll), "compute bound: fewer branches per step of k"
    other = 8 if s.width >= 16 else 16
    yield replace(s, width=other), "compute bound: the other vector width may clock higher"


def _blocks(s: ContractionSchedule) -> Iterator[tuple[ContractionSchedule, str]]:
    for k_block in (0, 128, 256, 384, 512):
        yield replace(s, k_block=k_block), "cache bound: panels of B that fit the first level"
    for m_block in (48, 96, 192, 384, 0):
        yield replace(s, m_block=m_block), "cache bound: a block of A that fits the second level"
    for n_block in (0, 768, 1536):
        yield replace(s, n_block=n_block), "cache bound: a block of B that fits the last level"
    yield replace(s, pack_a=True), "cache bound: rows of A at a power-of-two pitch evict each other"


def _traffic(s: ContractionSchedule) -> Iterator[tuple[ContractionSchedule, str]]:
    yield replace(s, ahead=True, kernel="tile"), "memory bound: pack the weight before the clock"
    yield replace(s, kernel="dot"), "memory bound: read B once, where it lies"
    yield replace(s, kernel="tile"), "memory bound: reuse B for several rows"
    for prefetch in (0, 8, 24):
        yield replace(s, prefetch=prefetch), "memory bound: ask for B earlier"
    yield replace(s, swap=not s.swap), "memory bound: stream the larger operand only once"


def _fixed_costs(s: ContractionSchedule) -> Iterator[tuple[ContractionSchedule, str]]:
    yield replace(s, fixed=not s.fixed), "too small for its loops: sizes as constants"
    yield replace(s, pack_a=False, m_block=0), "packing overhead: read A where it lies"
    yield replace(s, pack_b=False, ahead=False), "packing overhead: read B where it lies"
    yield replace(s, k_block=0, m_block=0, n_block=0), "too small for blocking: one block"
    for vectors in (1, 2, 4):
        yield replace(s, vectors=vectors), "too small: tiles that waste fewer lanes"
