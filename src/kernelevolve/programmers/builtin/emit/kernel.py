"""Regions to `kernel.cpp`: a function for each, and one entry for each run of native regions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from kernelevolve.programmers.builtin.emit.contraction import (
    contraction_prelude,
    emit_contraction,
)
from kernelevolve.programmers.builtin.emit.contraction_chain import (
    ChainSchedule,
    default_chain_schedules,
    emit_chain,
)
from kernelevolve.programmers.builtin.emit.contraction_schedule import (
    ContractionSchedule,
    accumulator,
    default_schedules,
    legal,
)
from kernelevolve.programmers.builtin.emit.contraction_stages import Chain, find_chains
from kernelevolve.programmers.builtin.emit.expr import BYTES, STORAGE, prelude
from kernelevolve.programmers.builtin.emit.mapreduce import emit_map_reduce
from kernelevolve.programmers.builtin.emit.scan import emit_scan
from kernelevolve.programmers.builtin.emit.steps import Chained, Step, pointers, reads, writes
from kernelevolve.programmers.builtin.emit.threads import (
    Divisible,
    part_of,
    shared_axis,
    shared_function,
    threads_prelude,
    worth,
)
from kernelevolve.programmers.builtin.ir import (
    Buffer,
    Contraction,
    DType,
    MapReduce,
    Opaque,
    Region,
    Scan,
    Size,
    loads_of,
)
from kernelevolve.programmers.builtin.prims import numel
from kernelevolve.programmers.builtin.regions import Partition
from kernelevolve.programmers.builtin.schedule import Plan

SLOTS_EACH = 16
ARENA = 4096


@dataclass(frozen=True)
class Segment:
    """A run of regions behind one call from Python."""

    name: str
    steps: tuple[Step, ...]
    pointers: tuple[str, ...]
    """Tensors to pass, in order: what it reads, then what it writes."""
    internal: tuple[str, ...]
    """Buffers that live and die inside."""
    packed: tuple[str, ...]
    """Steps whose weights `prepare` packs; their packed tensors follow the pointers."""
    threaded: bool = False
    """Some of its steps are shared by threads, how many of which is its last argument."""

    def packing(self) -> list[Contraction | Chained]:
        """The steps of `packed`."""
        able = [s for s in self.steps if isinstance(s, Contraction | Chained)]
        return [s for s in able if s.name in self.packed]


@dataclass(frozen=True)
class Setting:
    """What the regions are emitted under."""

    partition: Partition
    plan: Plan
    symbols: Mapping[str, Sequence[int]]
    dtypes: Mapping[str, DType]
    """Of every buffer and input."""
    weights: frozenset[str]
    """Names of inputs that are parameters or buffers of the module, or made of them ahead."""
    label: str = "run"
    """What the functions that Python calls are named after."""
    packs: bool = True
    """`prepare()` may pack the weights of products."""
    ahead: Setting | None = None
    """What `prepare()` computes; its outputs are held for forward, in order."""


def schedule_of(setting: Setting, region: Contraction) -> ContractionSchedule:
    """The plan's choice for a product, at the file's width."""
    weight = is_weight(setting, region)
    chosen = setting.plan.contraction(region.name)
    if chosen is None:
        products = [r for r in setting.partition.regions if isinstance(r, Contraction)]
        guess = default_schedules(region, weight)[0]
        chosen = replace(guess, fixed=guess.fixed and len(products) == 1)
    if chosen.ahead and not weight:
        chosen = replace(chosen, ahead=False)
    chosen = replace(chosen, parallel=threaded(setting, region))
    return legal(region, replace(chosen, width=setting.plan.loops.width))


def threaded(setting: Setting, step: Step) -> bool:
    """Tell whether the threads share a step."""
    if not setting.plan.parallel or not worth(step):
        return False
    return not isinstance(step, MapReduce | Scan) or shared_axis(step) is not None


def is_weight(setting: Setting, region: Contraction) -> bool:
    """Tell whether B is made of parameters only."""
    return all(load.buffer in setting.weights for load in loads_of(region.b))


def segments(setting: Setting) -> list[Segment | Opaque]:
    """The regions in runs; library calls stand alone."""
    partition = setting.partition
    kept = {name for name, _ in partition.outputs} | {name for _, name in partition.mutations}
    runs: list[list[Region]] = []
    for region in partition.regions:
        if isinstance(region, Opaque) or not runs or isinstance(runs[-1][0], Opaque):
            runs.append([])
        runs[-1].append(region)
    made: list[Segment | Opaque] = []
    for number, run in enumerate(runs):
        if isinstance(run[0], Opaque):
            made.append(run[0])
            continue
        others = [b for r in runs if r is not run for region in r for b in reads(region)]
        made.append(_segment(setting, f"{setting.label}{number}", run, kept | set(others)))
    return made


def _segment(setting: Setting, name: str, run: Sequence[Region], kept: set[str]) -> Segment:
    steps = _steps(setting, run, kept)
    read = list(dict.fromkeys(b for s in steps for b in reads(s)))
    written = list(dict.fromkeys(b for s in steps for b in writes(s)))
    packed = [s.name for s in steps if _packs(setting, s)]
    pointers = [b for b in read if b not in written] + [b for b in written if b in kept]
    internal = [b for b in written if b not in kept]
    shared = any(threaded(setting, s) for s in steps)
    return Segment(name, tuple(steps), tuple(pointers), tuple(internal), tuple(packed), shared)


def _steps(setting: Setting, run: Sequence[Region], kept: set[str]) -> list[Step]:
    """The run with what can be chained in chains, where the plan wants them."""
    if not setting.plan.chains:
        return list(run)
    chains = {c.stages[0].name: c for c in find_chains(run, kept)}
    steps: list[Step] = []
    inside: set[str] = set()
    for region in run:
        if region.name in chains:
            steps.append(_chained(setting, chains[region.name]))
            inside |= {s.name for s in chains[region.name].stages}
        elif region.name not in inside:
            steps.append(region)
    return steps


def _chained(setting: Setting, chain: Chain) -> Chained:
    guess = default_chain_schedules(chain.stages)[0]
    products = [s for s in chain.stages if isinstance(s, Contraction)]
    schedules = []
    for product, default in zip(products, guess.stages, strict=True):
        weight = is_weight(setting, product)
        chosen = setting.plan.contraction(product.name) or replace(
            default, ahead=weight, pack_b=default.pack_b or weight
        )
        chosen = replace(chosen, width=setting.plan.loops.width, swap=False, kernel="tile")
        chosen = replace(chosen, ahead=chosen.ahead and weight and chosen.pack_b)
        schedules.append(legal(product, chosen))
    schedule = ChainSchedule(
        rows=setting.plan.chain_rows or guess.rows,
        stages=tuple(schedules),
        fixed=guess.fixed,
        parallel=setting.plan.parallel and any(worth(s) for s in products),
    )
    return Chained(f"chain_{products[0].name}", chain.stages, chain.local, schedule)


def _packs(setting: Setting, step: Step) -> bool:
    if not setting.packs:
        return False
    if isinstance(step, Chained):
        return step.packs
    return isinstance(step, Contraction) and schedule_of(setting, step).ahead


def kernel_source(setting: Setting, parts: Sequence[Segment | Opaque]) -> str:
    """The text of `kernel.cpp`; empty where nothing is native."""
    settings = [(setting, p) for p in parts]
    if setting.ahead is not None:
        settings += [(setting.ahead, p) for p in segments(setting.ahead)]
    native = [(own, p) for own, p in settings if isinstance(p, Segment)]
    if not native:
        return ""
    text = [prelude(setting.plan.loops.width, setting.plan.fast_math)]
    if any(p.threaded for _, p in native):
        text.insert(0, threads_prelude())
    steps = [(own, s) for own, p in native for s in p.steps]
    if any(isinstance(s, Contraction | Chained) for _, s in steps):
        text.append(contraction_prelude())
    for number, (own, step) in enumerate(steps):
        text.append(_function(own, step, number))
    text += [_entry(own, segment) for own, segment in native]
    return "\n".join(text)


def _function(setting: Setting, region: Step, number: int) -> str:
    if isinstance(region, Chained):
        source = emit_chain(
            region.name, region.stages, region.local, region.schedule, setting.symbols
        )
        return source + _measure(setting, region)
    if isinstance(region, Contraction):
        source = emit_contraction(region, schedule_of(setting, region), setting.symbols)
        return source + _measure(setting, region)
    assert isinstance(region, MapReduce | Scan)
    parameters = parameters_of(setting, region) + [f"int64_t {s}" for s in setting.symbols]
    axis = shared_axis(region) if threaded(setting, region) else None
    if axis is None:
        return _loops(setting, region, region.name, parameters, number)
    part = [*parameters, "int64_t from_", "int64_t count_"]
    arguments = [*arguments_of(region), *setting.symbols]
    inner = _loops(setting, part_of(region, axis), f"{region.name}_part", part, number)
    return inner + shared_function(region, axis, parameters, arguments)


def _loops(
    setting: Setting, region: Divisible, name: str, parameters: Sequence[str], number: int
) -> str:
    body = (
        emit_map_reduce(region, setting.plan.loops)
        if isinstance(region, MapReduce)
        else emit_scan(region)
    )
    slot = f"enum {{ SLOT = {number * SLOTS_EACH} }};"
    lines = "\n".join(f"  {line}" for line in [slot, *body])
    return f"static void {name}({', '.join(parameters)}) {{\n{lines}\n}}\n"


def _measure(setting: Setting, region: Contraction | Chained) -> str:
    """The packed weights' length, through memory, because entries return nothing."""
    if not _packs(setting, region):
        return ""
    sizes = "".join(f", int64_t {s}" for s in setting.symbols)
    call = f"{region.name}_packed({', '.join(setting.symbols)})"
    return f'extern "C" void {region.name}_measure(int64_t* out{sizes}) {{ *out = {call}; }}\n'


def parameters_of(setting: Setting, region: Region) -> list[str]:
    """The C++ parameters of its buffers: what it reads only, then what it writes."""
    written = writes(region)
    names = [b for b in reads(region) if b not in written]
    read = [f"const {STORAGE[setting.dtypes[b]]}* __restrict {b}" for b in names]
    return read + [f"{STORAGE[setting.dtypes[b]]}* __restrict {b}" for b in written]


def arguments_of(region: Region) -> list[str]:
    """Its buffers, in the order of the parameters."""
    written = writes(region)
    return [b for b in reads(region) if b not in written] + list(written)


def _entry(setting: Setting, segment: Segment) -> str:
    """The function that Python calls."""
    written = {b for s in segment.steps for b in writes(s)}
    parameters = [
        f"{'' if b in written else 'const '}{STORAGE[setting.dtypes[b]]}* {b}"
        for b in segment.pointers
    ]
    for step in segment.packing():
        parameters.append(f"const {STORAGE[accumulated(step)]}* {step.name}_ready")
    parameters += [f"int64_t {s}" for s in setting.symbols]
    parameters += ["int64_t threads_"] if segment.threaded else []
    lines = [f'extern "C" void {segment.name}({", ".join(parameters)}) {{']
    lines += ["  allowed = threads_;"] if segment.threaded else []
    lines += _arena(setting, segment)
    if setting.plan.huge_pages:
        for name in segment.pointers:
            if name in written:
                elements = _elements(setting.partition.buffers[name])
                lines.append(f"  large_pages({name}, {elements});")
    lines += [f"  {_call(setting, segment, step)};" for step in segment.steps]
    return "\n".join([*lines, "}", ""])


def _arena(setting: Setting, segment: Segment) -> list[str]:
    """Memory for the internal buffers; those that share a slot get the largest's size."""
    slots = _slots(segment)
    lines = []
    for slot in sorted(set(slots.values())):
        names = [n for n in segment.internal if slots[n] == slot]
        sizes = []
        for name in names:
            elements = _elements(setting.partition.buffers[name])
            sizes.append(f"(usize)({elements}) * {BYTES[setting.dtypes[name]]}")
        lines.append(f"  void* slot{slot} = scratch<{ARENA + slot}>(largest({', '.join(sizes)}));")
        lines += [f"  auto {n} = ({STORAGE[setting.dtypes[n]]}*)slot{slot};" for n in names]
    return lines


def _elements(buffer: Buffer) -> str:
    total: Size = numel(buffer.shape)
    return total.expr


def _slots(segment: Segment) -> dict[str, int]:
    """A piece of the arena for each internal buffer, used again after its last reader."""
    last = {b: i for i, s in enumerate(segment.steps) for b in (*reads(s), *writes(s))}
    slots: dict[str, int] = {}
    free_at: dict[int, int] = {}
    for i, step in enumerate(segment.steps):
        for name in writes(step):
            if name in segment.internal and name not in slots:
                slot = next((s for s, end in free_at.items() if end < i), len(free_at))
                slots[name], free_at[slot] = slot, last[name]
    return slots


def accumulated(step: Contraction | Chained) -> DType:
    """What the products of a step add up in, which packed weights are kept in."""
    return step.accumulator if isinstance(step, Chained) else accumulator(step)


def _call(setting: Setting, segment: Segment, region: Step) -> str:
    if isinstance(region, Contraction | Chained):
        ready = f"{region.name}_ready" if region.name in segment.packed else "nullptr"
        names = [*pointers(region), ready]
    else:
        names = arguments_of(region)
    return f"{region.name}({', '.join([*names, *setting.symbols])})"
