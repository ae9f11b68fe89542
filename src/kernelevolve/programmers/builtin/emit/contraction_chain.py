"""Several regions over the same rows as one function: what lies between them stays in the cache.

A chain goes through its rows block by block; each stage (a contraction, or a map/reduce over rows)
runs on one block before the next block starts. An intermediate that nobody else needs has room for
one block only: its pointer is set so that the regions' own indices meet it. Arguments of the
emitted function: buffers in the order of `chain_buffers`, `const T* ready`, all size symbols.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from kernelevolve.programmers.builtin.emit.contraction import (
    BufferUse,
    Symbols,
    buffers_of,
    captures_of,
    decode,
    emit_policy,
)
from kernelevolve.programmers.builtin.emit.contraction_rows import emit_row
from kernelevolve.programmers.builtin.emit.contraction_schedule import (
    ContractionSchedule,
    Limit,
    accumulator,
    legal,
    neighbours,
)
from kernelevolve.programmers.builtin.emit.contraction_stages import (
    Stage,
    accesses,
    batch_of,
    row_length,
    values_of,
)
from kernelevolve.programmers.builtin.emit.expr import STORAGE
from kernelevolve.programmers.builtin.ir import (
    Contraction,
    MapReduce,
    Size,
    axes_of,
    loads_of,
)


@dataclass(frozen=True)
class ChainSchedule:
    """How a chain runs."""

    rows: int = 64
    """Rows that go through all stages together."""
    stages: tuple[ContractionSchedule, ...] = ()
    """One for each contraction, in order; missing ones are the default."""
    fixed: bool = False
    """Also compile the captured sizes as constants."""
    parallel: bool = False
    """Divide the batch, or else the rows, among the OpenMP threads."""


def default_chain_schedules(stages: Sequence[Stage]) -> tuple[ChainSchedule, ...]:
    """Good places to start: blocks whose intermediates take about half of a 1 MB cache."""
    products = [s for s in stages if isinstance(s, Contraction)]
    widest = max(max(c.n.size.values) for c in products)
    deepest = max(max(c.k.size.values) for c in products)
    rows = max(24, min(192, 2**17 // max(1, widest) // 24 * 24))
    small = widest * deepest <= 128 * 128
    inner = ContractionSchedule(pack_a=False, m_block=0, pack_b=not small)
    first = ChainSchedule(rows, (inner,) * len(products), fixed=small)
    packed = replace(inner, pack_a=True, pack_b=True)
    other = replace(first, stages=(packed,) * len(products))
    wide = replace(first, stages=(replace(inner, rows=6, vectors=4),) * len(products))
    halved = replace(first, rows=max(24, rows // 2 // 24 * 24))
    return tuple(dict.fromkeys((first, wide, other, halved)))


def chain_neighbours(
    stages: Sequence[Stage], schedule: ChainSchedule, limit: Limit = "unknown"
) -> tuple[tuple[ChainSchedule, str], ...]:
    """Chain schedules one decision away, with reasons; what `limit` asks for comes first."""
    products = [s for s in stages if isinstance(s, Contraction)]
    missing = len(products) - len(schedule.stages)
    chosen = (*schedule.stages, *(ContractionSchedule(),) * missing)
    blocks = [
        (replace(schedule, rows=r), "cache bound: what lies between the stages must fit")
        for r in (24, 48, 96, 192, 384)
    ]
    fixed = [(replace(schedule, fixed=not schedule.fixed), "too small: sizes as constants")]
    inner = []
    for number, (product, own) in enumerate(zip(products, chosen, strict=True)):
        for option, reason in neighbours(product, own, limit, weight=own.ahead):
            if option.kernel == "tile" and not option.swap:
                changed = (*chosen[:number], option, *chosen[number + 1 :])
                inner.append((replace(schedule, stages=changed), f"{product.name}: {reason}"))
    found = [*inner, *blocks, *fixed] if limit == "compute" else [*blocks, *fixed, *inner]
    return tuple((option, reason) for option, reason in found if option != schedule)


def chain_buffers(stages: Sequence[Stage], local: Collection[str]) -> tuple[BufferUse, ...]:
    """The pointers of the emitted function; `local` are intermediates that only the chain needs."""
    found: dict[str, BufferUse] = {}
    for stage in stages:
        for use in stage_buffers(stage):
            old = found.get(use.name, use)
            found[use.name] = use._replace(written=use.written or old.written)
    return tuple(use for use in found.values() if use.name not in local)


def stage_buffers(stage: Stage) -> tuple[BufferUse, ...]:
    """The buffers of one stage, reads before writes."""
    if isinstance(stage, Contraction):
        return buffers_of(stage)
    loads = [x for e in values_of(stage) for x in loads_of(e)]
    reads = {x.buffer: BufferUse(x.buffer, x.dtype, False) for x in loads}
    writes = {s.buffer: BufferUse(s.buffer, s.dtype, True) for p in stage.passes for s in p.stores}
    return tuple({**reads, **writes}.values())


def emit_chain(
    name: str,
    stages: Sequence[Stage],
    local: Collection[str],
    schedule: ChainSchedule,
    symbols: Symbols,
) -> str:
    """The function `name`, after `contraction_prelude`; the stages must be `chainable`."""
    return _Writer(name, tuple(stages), frozenset(local), schedule, symbols).text()


class _Writer:
    def __init__(
        self,
        name: str,
        stages: tuple[Stage, ...],
        local: frozenset[str],
        schedule: ChainSchedule,
        symbols: Symbols,
    ) -> None:
        self.name, self.stages, self.local, self.symbols = name, stages, local, symbols
        self.schedule = schedule
        self.products = [s for s in stages if isinstance(s, Contraction)]
        given = dict(zip((c.name for c in self.products), schedule.stages, strict=False))
        self.schedule_of = {c.name: self._legal(c, given) for c in self.products}
        self.buffers = chain_buffers(stages, local)
        self.scalar = STORAGE[accumulator(self.products[0])]
        self.head = self.products[0]

    def _legal(self, c: Contraction, given: dict[str, ContractionSchedule]) -> ContractionSchedule:
        chosen = replace(given.get(c.name, ContractionSchedule()), swap=False, parallel=False)
        return legal(c, replace(chosen, fixed=self.schedule.fixed, kernel="tile"))

    def text(self) -> str:
        captures = captures_of(self.symbols) if self.schedule.fixed else []
        parts = [emit_policy(c, self.schedule_of[c.name], self.symbols) for c in self.products]
        parts += [self._row(s) for s in self.stages if isinstance(s, MapReduce)]
        parts += [self._body(f"Seen{i}", capture) for i, capture in enumerate(captures)]
        parts += [self._body("Any", {}), self._entry(captures)]
        return "\n".join([*parts, *self._ahead()]) + "\n"

    def _parameters(self) -> list[str]:
        return [b.declaration for b in self.buffers]

    def _sizes(self) -> list[str]:
        return [f"int64_t {s}" for s in self.symbols]

    def _row(self, stage: MapReduce) -> str:
        pointers = [b.declaration for b in stage_buffers(stage)]
        return emit_row(stage, [*pointers, *self._sizes()])

    def _entry(self, captures: Sequence[dict[str, int]]) -> str:
        ready = f"const {self.scalar}* ready"
        head = ", ".join([*self._parameters(), ready, *self._sizes()])
        names = [b.name for b in self.buffers]
        lines = [f'extern "C" void {self.name}({head}) {{']
        for i, capture in enumerate(captures):
            test = " && ".join(f"{s} == {v}" for s, v in capture.items()) or "true"
            call = f"{self.name}_Seen{i}({', '.join([*names, 'ready', *self.symbols])})"
            lines.append(f"  if ({test}) return {call};")
        lines.append(f"  {self.name}_Any({', '.join([*names, 'ready', *self.symbols])});")
        return "\n".join([*lines, "}"])

    def _body(self, kind: str, capture: dict[str, int]) -> str:
        """The loops over parts, batch and row blocks."""
        sizes = [f"int64_t {'' if not capture else 'given_'}{s}" for s in self.symbols]
        head = ", ".join([*self._parameters(), f"const {self.scalar}* ready", *sizes])
        volume = " + ".join(
            f"batch_ * rows_ * {c.n.size.expr} * {c.k.size.expr}" for c in self.products
        )
        parts = f"workers(({volume}) * PER_PRODUCT)" if self.schedule.parallel else "1"
        pragma = "#pragma omp parallel for schedule(static, 1) num_threads((int)parts)"
        m = self.head.m.size.expr
        lines = [
            f"static void {self.name}_{kind}({head}) {{",
            *(f"  constexpr int64_t {s} = {v};" for s, v in capture.items()),
            f"  const int64_t rows_ = {m}, batch_ = {batch_of(self.head).expr}, parts = {parts};",
            *([pragma] if self.schedule.parallel else []),
            "  for (int64_t at = 0; at < parts; ++at) {",
            f"    const Part part = rows_part(batch_, rows_, {self.schedule.rows}, at, parts);",
            *(f"    {line}" for line in self._scratch()),
            *self._panels(kind, each_batch=False),
            "    for (int64_t nth = part.b0; nth < part.b1; ++nth) {",
            *self._panels(kind, each_batch=True),
            f"      for (int64_t m0 = part.m0; m0 < part.m1; m0 += {self.schedule.rows}) {{",
            f"        const int64_t m1 = least(m0 + {self.schedule.rows}, part.m1);",
            *(f"        {line}" for line in self._shifted()),
            *(f"        {line}" for s in self.stages for line in self._stage(s, kind)),
            "      }",
            "    }",
            "  }",
            "}",
        ]
        return "\n".join(lines)

    def _scratch(self) -> list[str]:
        lines = []
        slot = 0
        for use, length in self._locals():
            kind = STORAGE[use.dtype]
            count = f"{self.schedule.rows} * ({length.expr})"
            lines.append(
                f"{kind}* const {use.name}_rows = scratch<{kind}>(FREE_SLOT + {slot}, {count});"
            )
            lines.append(f"{kind}* {use.name} = {use.name}_rows;")
            slot += 1
        for c in self.products:
            s = self.schedule_of[c.name]
            if s.pack_b and not s.ahead:
                made = f"packed_size({self._policy(c, 'Any', null=True)}, {c.n.size.expr})"
                lines.append(f"T_* const {c.name}_b = scratch<T_>(FREE_SLOT + {slot}, {made});")
                slot += 1
            elif s.pack_b:
                before = self._packed_before(c)
                lines.append(f"const T_* const {c.name}_b = ready + {before};")
            else:
                lines.append(f"const T_* const {c.name}_b = 0;")
        return [line.replace("T_", self.scalar) for line in lines]

    def _locals(self) -> list[tuple[BufferUse, Size]]:
        found: dict[str, tuple[BufferUse, Size]] = {}
        for stage in self.stages:
            for access in accesses(stage):
                if access.buffer in self.local and access.written and access.buffer not in found:
                    use = next(u for u in stage_buffers(stage) if u.name == access.buffer)
                    length = row_length(stage, access.where)
                    assert length is not None
                    found[access.buffer] = (use, length)
        return list(found.values())

    def _packed_before(self, contraction: Contraction) -> str:
        before = []
        for c in self.products:
            if c is contraction:
                break
            if self.schedule_of[c.name].ahead:
                before.append(f"packed_size({self._policy(c, 'Any', null=True)}, {c.n.size.expr})")
        return " + ".join(before) or "0"

    def _panels(self, kind: str, each_batch: bool) -> list[str]:
        lines = []
        for c in self.products:
            s = self.schedule_of[c.name]
            varies = bool(axes_of(c.b) & {a.name for a in c.batch})
            if s.pack_b and not s.ahead and varies == each_batch:
                nth = "nth" if each_batch else "0"
                p = self._policy(c, kind)
                lines.append(f"      pack_b({p}, {nth}, 0, {c.n.size.expr}, {c.name}_b);")
        return lines

    def _shifted(self) -> list[str]:
        """Pointers at which the regions' own indices hit this block's rows."""
        return [
            f"{use.name} = {use.name}_rows - (nth * rows_ + m0) * ({length.expr});"
            for use, length in self._locals()
        ]

    def _stage(self, stage: Stage, kind: str) -> list[str]:
        if isinstance(stage, Contraction):
            part = f"Part{{nth, nth + 1, m0, m1, 0, {stage.n.size.expr}}}"
            return [f"product({self._policy(stage, kind)}, nth, {part}, {stage.name}_b);"]
        names = [b.name for b in stage_buffers(stage)]
        arguments = [*names, *self.symbols, *(a.name for a in stage.outer)]
        return [
            "for (int64_t row = nth * rows_ + m0; row < nth * rows_ + m1; ++row) {",
            *decode(stage.outer, "row"),
            f"{stage.name}_row({', '.join(arguments)});",
            "}",
        ]

    def _policy(self, c: Contraction, kind: str, null: bool = False) -> str:
        base = ", ".join(self.symbols) if kind == "Any" else ""
        pointers = "".join(", nullptr" if null else f", {b.name}" for b in buffers_of(c))
        return f"{c.name}_parts::Policy<{c.name}_parts::{kind}>{{{{{base}}}{pointers}}}"

    def _ahead(self) -> list[str]:
        """What `prepare()` calls, where weights are packed before the clock."""
        packed = [c for c in self.products if self.schedule_of[c.name].ahead]
        if not packed:
            return []
        sizes = [
            f"packed_size({self._policy(c, 'Any', null=True)}, {c.n.size.expr})" for c in packed
        ]
        head = ", ".join([*self._parameters(), f"{self.scalar}* ready", *self._sizes()])
        unused = [f"  {STORAGE[use.dtype]}* {use.name} = nullptr;" for use, _ in self._locals()]
        packs = [
            f"  pack_b({self._policy(c, 'Any')}, 0, 0, {c.n.size.expr},"
            f" ready + {self._packed_before(c)});"
            for c in packed
        ]
        return [
            f'extern "C" int64_t {self.name}_packed({", ".join(self._sizes())}) {{',
            f"  return {' + '.join(sizes)};",
            "}",
            f'extern "C" void {self.name}_pack({head}) {{',
            *unused,
            *packs,
            "}",
        ]
