"""From the plans and measurements so far to the next plan.

Guided moves look at what limits a parent and at what each decision gained wherever it was
measured; the random sampler, for comparison, draws every decision on its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from random import Random
from typing import Any, NamedTuple

from kernelevolve.programmers.builtin.effects import GROUPS, effects, expected, told, with_gains
from kernelevolve.programmers.builtin.emit.contraction_schedule import (
    ContractionSchedule,
    Limit,
    default_schedules,
    extents,
    legal,
    neighbours,
)
from kernelevolve.programmers.builtin.emit.kernel import is_weight, schedule_of
from kernelevolve.programmers.builtin.ir import Contraction
from kernelevolve.programmers.builtin.regions import NotPartitioned, cuttable
from kernelevolve.programmers.builtin.render import (
    Model,
    contractions_of,
    program_of,
    render,
)
from kernelevolve.programmers.builtin.schedule import Blocks, Engines, Loops, Plan, Tiles

HOPE = 0.1
"""What the decision that a limit asks for first is hoped to gain, as a logarithm, untried."""
FADING = 0.85
"""How much less is hoped of each decision after it."""
LOOP_CHOICES: dict[str, tuple[Any, ...]] = {
    "unroll": (1, 2, 4, 8),
    "columns": (1, 2, 4, 8),
    "stage": (True, False),
    "reciprocal": (True, False),
    "stream": (False, True),
    "width": (16, 8),
}
BLOCK_CHOICES: dict[str, tuple[Any, ...]] = {
    "threads": (0, 32, 64, 128, 256, 512, 1024),
    "rows": (1, 2, 4, 8),
    "parts": (1, 4, 8, 16, 32),
    "keep": (True, False),
    "tree": (0, 16, 32, 64, 128),
    "tile_m": (64, 128, 32),
    "tile_n": (64, 96, 128, 32),
    "tile_k": (32, 64, 16),
}
TILE_CHOICES: dict[str, tuple[Any, ...]] = {
    "warps": (0, 4, 8, 16, 2, 1),
    "map_block": (1024, 2048, 512, 4096, 256),
    "row_points": (0, 1, 2, 4, 8, 16),
    "row_most": (16384, 4096, 32768, 1024),
    "column_width": (64, 128, 32, 256, 16),
    "column_depth": (32, 16, 64, 8, 128),
    "splits": (0, 1, 4, 16, 64, 256),
    "dot_m": (64, 128, 32, 16),
    "dot_n": (128, 64, 256, 32, 16),
    "dot_k": (32, 64, 16, 128),
    "stages": (3, 4, 2, 5, 1),
    "group": (1, 8, 4, 16),
    "registers": (0, 168, 128, 224, 96, 64),
    "query_rows": (0, 64, 128, 32, 16),
    "key_block": (0, 64, 128, 32, 16),
}
ENGINE_CHOICES: dict[str, tuple[Any, ...]] = {
    "tile": (4096, 8192, 2048, 16384, 1024),
    "buffers": (2, 3, 1, 4),
    "functions": ("", "vector"),
    "share": (False, True),
    "both": (False, True),
    "side": (64, 128, 32, 256, 16),
    "terms": (128, 256, 64, 512, 32),
}
DEVICE_CHOICES: dict[str, tuple[Any, ...]] = {
    "fast_math": (False, True),
    "algebra": (True, False),
    "library": (False, True),
    "convolve": (False, True),
    "prologues": (False, True),
    "chains": (True, False),
    "graph": (False, True),
}
GROUP = {
    **dict.fromkeys(("cuda", "hip"), ("blocks", BLOCK_CHOICES)),
    "triton": ("tiles", TILE_CHOICES),
    "mtia_cpp": ("engines", ENGINE_CHOICES),
}
"""The group of decisions about regions on an accelerator, and its choices, by language."""
PLAN_CHOICES: dict[str, tuple[Any, ...]] = {
    "fast_math": (False, True),
    "prologues": (False, True),
    "algebra": (True, False),
    "chains": (True, False),
    "chain_rows": (0, 24, 48, 96, 192, 384),
    "library": (False, True),
    "huge_pages": (True, False),
    "tune": ("", "-mprefer-vector-width=512"),
}
ORDER: dict[str, tuple[str, ...]] = {
    "memory": ("stream", "huge_pages", "chain_rows", "unroll", "stage", "columns", "prologues"),
    "cache": ("unroll", "stream", "chain_rows", "columns", "fast_math", "huge_pages", "stage"),
    "compute": ("fast_math", "chain_rows", "unroll", "stage", "reciprocal", "width", "columns"),
    "overhead": ("graph", "unroll", "stage", "huge_pages", "columns", "library", "width"),
}
REASONS = {
    "stream": "writes need not pass through the caches",
    "huge_pages": "touching new outputs costs page faults",
    "unroll": "more vectors in flight hide latency, fewer save code and tails",
    "columns": "wider stripes of columns use whole cache lines",
    "stage": "keeping a costly value against computing it again",
    "reciprocal": "division against multiplying with a reciprocal",
    "width": "the other vector width may clock higher or waste fewer lanes",
    "fast_math": "a shorter polynomial for exp",
    "prologues": "an operand made while it is packed needs no memory of its own",
    "chains": "what lies between products can stay in the cache",
    "graph": "several kernels are launched as one graph",
    "chain_rows": "blocks of rows that fit the cache with what lies between",
    "algebra": "the order of arithmetic as written",
    "library": "the library's products",
    "convolve": "convolutions with what is around them in one kernel, or the library's",
    "parallel": "threads share what takes longer than waking them",
    "tune": "the compiler's own vectors at full width",
    "threads": "more threads share a row, or fewer have more to do each",
    "rows": "rows of a block",
    "parts": "more threads share a column, or fewer",
    "tree": "searches begin in shared memory, or more blocks have room",
    "tile_m": "other tiles of a product: less traffic, or more blocks",
    "tile_n": "other tiles of a product: less traffic, or more blocks",
    "tile_k": "more of a product in shared memory at once, or more blocks",
    "warps": "more threads share a block, or fewer have more to do each",
    "map_block": "more elements for each program, or more programs",
    "row_points": "several rows for each program, or more programs",
    "row_most": "longer rows in registers, or smaller blocks of them",
    "column_width": "wider stripes of columns, or more programs",
    "column_depth": "more of a column on its way at once, or fewer registers",
    "splits": "more programs share a long reduction, or no second kernel",
    "dot_m": "other blocks of a product: less traffic, or more programs",
    "dot_n": "other blocks of a product: less traffic, or more programs",
    "dot_k": "more terms of a product at once, or less shared memory",
    "stages": "more operands on their way, or less shared memory",
    "group": "programs that run together share operands in the cache",
    "registers": "more programs at once, or more registers for each",
    "query_rows": "other blocks of attention: less traffic, or more programs",
    "key_block": "more keys at once, or less shared memory",
    "keep": "values in registers against reading and computing them again",
    "tile": "longer commands wait less often, shorter ones divide better",
    "buffers": "more tiles on their way, or larger ones",
    "functions": "tables and series on the SIMD engine, or the vector core",
    "share": "one read for a row of processing elements, or none that wait for others",
    "side": "other tiles of a product: less traffic, or more of them",
    "terms": "longer commands of a product, or larger tiles",
    "both": "engines go on with one core's tile while the other's waits, or have more room",
    "cuts": "a value that several places compute may be cheaper in memory",
}


@dataclass(frozen=True)
class Result:
    """A plan and how it did."""

    plan: Plan
    score: float | None
    limit: Limit = "unknown"


class Step(NamedTuple):
    """A next plan and the reason for it."""

    plan: Plan
    reason: str


def initial_plans(model: Model) -> list[Plan]:
    """Where a search starts, best guess first; those that give equal sources appear once.

    Products have decisions of their own, without effect where there are none. Of the loops', the
    two that most often gain are tried apart and together.
    """
    plans = [Plan(), Plan(library=True), Plan(graph=True), Plan(chains=False), Plan(prologues=True)]
    loops = [Loops(stream=True), Loops(unroll=4), Loops(stream=True, unroll=4), Loops(width=8)]
    blocks = [Blocks(tree=128), Blocks(tree=32), Blocks(threads=256), Blocks(threads=32)]
    blocks += [Blocks(parts=32), Blocks(threads=1024)]
    tiles = [Tiles(warps=8), Tiles(row_points=1, map_block=2048)]
    tiles += [Tiles(dot_m=128, stages=4, group=8)]
    tiles += [Tiles(dot_n=64, column_width=128), Tiles(splits=64), Tiles(warps=4, dot_k=64)]
    plans += [*(Plan(loops=x) for x in loops), *(Plan(blocks=x) for x in blocks)]
    plans += [Plan(tiles=x) for x in tiles]
    engines = [
        Engines(both=True),
        Engines(both=True, tile=2048),
        Engines(tile=8192),
        Engines(tile=2048),
        Engines(buffers=3, share=True),
    ]
    engines += [Engines(functions="vector"), Engines(tile=16384), Engines(tile=1024, buffers=4)]
    plans += [Plan(engines=x) for x in engines]
    if model.language in GROUP:
        own = [Plan(convolve=True), Plan(convolve=True, blocks=Blocks(tile_m=128, tile_n=128))]
        plans = [plans[0], *own, *plans[1:], Plan(algebra=False), Plan(fast_math=True)]
    plans += [Plan(algebra=False)]
    plans = [p.model_copy(update={"parallel": model.threads > 1}) for p in plans]
    seen: dict[str, Plan] = {}
    for plan in plans:
        seen.setdefault(fingerprint(model, plan.model_dump_json()), plan)
    return list(seen.values())


@lru_cache(maxsize=2048)
def fingerprint(model: Model, plan: str) -> str:
    """What is equal for plans that render to the same files."""
    files = render(model, Plan.model_validate_json(plan)).files
    return "\0".join(f"{name}\0{files[name]}" for name in sorted(files))


def mutate(
    model: Model,
    parent: Result,
    measured: Sequence[tuple[Plan, float]],
    tried: Iterable[str],
    rng: Random,
) -> Step:
    """A plan near `parent` whose source is not yet `tried`; `measured` are plans and scores."""
    known = {fingerprint(model, plan) for plan in tried}
    known.add(fingerprint(model, parent.plan.model_dump_json()))
    last = Step(parent.plan, "nothing new is left")
    return _first_new(model, _guided(model, parent, measured, rng), known, last)


def draw(model: Model, tried: Iterable[str], rng: Random) -> Step:
    """A plan whose every decision is drawn at random, whose source is not yet `tried`."""
    known = {fingerprint(model, plan) for plan in tried}
    return _first_new(model, _random(model, rng), known, Step(Plan(), "the default"))


def _first_new(model: Model, steps: Iterator[Step], known: set[str], last: Step) -> Step:
    for step in steps:
        last = step
        if fingerprint(model, step.plan.model_dump_json()) not in known:
            break
    return last


def merge(first: Plan, second: Plan, rng: Random) -> Plan:
    """A plan with each differing decision taken from one of two."""
    merged = first.model_dump()
    other = second.model_dump()
    for name, value in other.items():
        if name in GROUPS:
            merged[name] = {k: rng.choice([merged[name][k], v]) for k, v in value.items()}
        elif name == "contractions":
            names = {*merged[name], *value}
            pick = {n: rng.choice([merged[name].get(n), value.get(n)]) for n in sorted(names)}
            merged[name] = {n: v for n, v in pick.items() if v is not None}
        else:
            merged[name] = rng.choice([merged[name], value])
    return Plan.model_validate(merged)


def _random(model: Model, rng: Random) -> Iterator[Step]:
    for _ in range(50):
        group, grouped = _grouped(model)
        drawn = {group: {name: rng.choice(v) for name, v in grouped.items()}}
        drawn |= {n: rng.choice(v) for n, v in _plan_choices(model).items()}
        plan = Plan.model_validate(drawn)
        plan = plan.model_copy(update={"cuts": _random_cuts(model, plan, rng)})
        yield Step(_with_random_products(model, plan, rng), "drawn at random")


def _random_cuts(model: Model, plan: Plan, rng: Random) -> tuple[int, ...]:
    options = _cuts(model, plan)
    return tuple(sorted(rng.sample(options, k=min(len(options), rng.choice((0, 0, 1, 2))))))


def _with_random_products(model: Model, plan: Plan, rng: Random) -> Plan:
    chosen: dict[str, dict[str, Any]] = {}
    for region, weight, _ in _products(model, plan):
        schedule = rng.choice(default_schedules(region, weight))
        for _ in range(rng.randrange(5)):
            near = neighbours(region, schedule, "unknown", weight)
            schedule = rng.choice(near).schedule if near else schedule
        chosen[region.name] = asdict(schedule)
    return plan.model_copy(update={"contractions": chosen})


def _products(model: Model, plan: Plan) -> list[tuple[Contraction, bool, ContractionSchedule]]:
    """Products, whether their B is a weight, and their schedule; the largest first."""
    try:
        setting, regions = contractions_of(model, plan)
    except NotPartitioned:
        return []
    regions.sort(key=lambda r: -math.prod(extents(r)))
    return [(r, is_weight(setting, r), schedule_of(setting, r)) for r in regions]


def _cuts(model: Model, plan: Plan) -> list[int]:
    return cuttable(program_of(model, plan.algebra, plan.library, plan.convolve).forward)


def _guided(
    model: Model, parent: Result, measured: Sequence[tuple[Plan, float]], rng: Random
) -> Iterator[Step]:
    """What gained elsewhere, together; then near plans, by what they should gain."""
    gained = effects(measured)
    better = with_gains(parent.plan, gained)
    if better != parent.plan:
        gains = told(better, parent.plan)
        yield Step(better, f"what gained in other attempts, together: {gains}")
    options = list(_near(model, parent))
    worth = [
        expected(gained, parent.plan, step.plan, HOPE * FADING**place)
        for place, step in enumerate(options)
    ]
    ranked = sorted(range(len(options)), key=lambda i: -worth[i])
    if len(ranked) > 3 and rng.random() < 0.2:
        ranked.insert(0, ranked.pop(rng.randrange(len(ranked))))
    first = [options[i] for i in ranked]
    yield from first
    for step in first:
        near = Result(step.plan, None, parent.limit)
        yield from _near(model, near)


def _near(model: Model, parent: Result) -> Iterator[Step]:
    """Plans one decision away; products and loops in turn, products first where they dominate."""
    limit: Limit = parent.limit
    loops = list(_loop_steps(model, parent.plan, limit))
    products = [
        Step(_with_product(parent.plan, region, s), f"{region.name}: {reason}")
        for region, weight, schedule in _products(model, parent.plan)
        for s, reason in neighbours(region, schedule, limit, weight)
    ]
    while products or loops:
        yield from products[:2]
        yield from loops[:1] if products else loops
        products, loops = products[2:], loops[1:] if products else []


def _with_product(plan: Plan, region: Contraction, schedule: ContractionSchedule) -> Plan:
    """The plan with another schedule for one product, at the width that it asks for."""
    schedule = legal(region, schedule)
    loops = plan.loops.model_copy(update={"width": 8 if schedule.width <= 8 else 16})
    chosen = {**plan.contractions, region.name: asdict(schedule)}
    return plan.model_copy(update={"contractions": chosen, "loops": loops})


def _loop_steps(model: Model, plan: Plan, limit: Limit) -> Iterator[Step]:
    asked = ORDER.get(limit, ORDER["cache"])
    choices = _plan_choices(model)
    group, grouped = _grouped(model)
    rest = [n for n in (*grouped, *choices) if n not in asked]
    for name in (*asked, *rest):
        within = group if name in grouped else ""
        for plan_to in _changes(plan, name, within, {**grouped, **choices}.get(name, ())):
            yield Step(plan_to, f"{told(plan_to, plan)}: {REASONS[name]}, at the {limit} limit")
    for cut in _cuts(model, plan):
        cuts = tuple(sorted({*plan.cuts} ^ {cut}))
        yield Step(plan.model_copy(update={"cuts": cuts}), REASONS["cuts"])


def _plan_choices(model: Model) -> dict[str, tuple[Any, ...]]:
    """What a plan may choose from for this model; threads where there are several."""
    if model.language in GROUP:
        return DEVICE_CHOICES
    return PLAN_CHOICES | ({"parallel": (True, False)} if model.threads > 1 else {})


def _grouped(model: Model) -> tuple[str, dict[str, tuple[Any, ...]]]:
    """The group of decisions about map/reduce regions, and its choices."""
    return GROUP.get(model.language, ("loops", LOOP_CHOICES))


def _changes(plan: Plan, name: str, group: str, able: tuple[Any, ...]) -> Iterator[Plan]:
    if group:
        together = getattr(plan, group)
        now = getattr(together, name)
        order = sorted(able, key=lambda v: abs(able.index(v) - able.index(now)))
        for value in order[1:]:
            yield plan.model_copy(update={group: together.model_copy(update={name: value})})
        return
    for value in able:
        if value != getattr(plan, name):
            yield plan.model_copy(update={name: value})
