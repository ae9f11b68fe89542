"""Metamorphic probes: a set of the pool, changed in a secret place until the reference moves."""

import numpy as np

from kernelevolve.evaluation.bench import BEYOND, Bench
from kernelevolve.evaluation.domain import Domain, read, write
from kernelevolve.evaluation.layout import Array
from kernelevolve.evaluation.probe import Plan, Probe, Skipped

WHAT = "inputs changed in one place at the same address"
ADVICE = "compute every call from all of its inputs; remember nothing that derives from inputs"
STEPS = (
    ("element", -2.5),
    ("element", 0.5),
    ("element", 2.0),
    ("row", 0.5),
    ("row", 2.0),
    ("part", 1.0),
)
"""What is changed, and by how many powers of ten of the usual spread, or less."""


def make(bench: Bench, plan: Plan, base: int, random: np.random.Generator) -> Probe:
    """A probe that differs from set `base` in one element, row or part.

    Raises:
        Skipped: the reference does not move, whatever is changed.
    """
    prepared = bench.prepared
    changeable = [i for i, d in bench.domains.items() if d.kind not in ("fixed", "sorted")]
    if not changeable:
        raise Skipped("no input can be changed")
    natural = prepared.expected[base]
    old = [reference.native for reference in natural]
    reason = ""
    for extent, power in STEPS:
        index = int(random.choice(changeable))
        leaf, domain = prepared.inputs.leaves[index], bench.domains[index]
        made = prepared.contents[base].copy()
        values = read(leaf, made)
        write(leaf, made, changed(values, domain, extent, power, random))
        try:
            probe = bench.probe(plan, made, natural, random)
        except Skipped as error:
            reason = str(error)
            continue
        probe.base = base
        probe.yardsticks = [
            mine.wider(theirs)
            for mine, theirs in zip(probe.yardsticks, prepared.yardsticks, strict=True)
        ]
        if bench.excess(probe, old) >= BEYOND:
            return probe
        reason = f"a change of one {extent} does not move the outputs beyond the budget"
    raise Skipped(reason)


def changed(
    values: Array, domain: Domain, extent: str, power: float, random: np.random.Generator
) -> Array:
    """The values with one element, row or part replaced by others of the domain."""
    flat = values.reshape(-1)
    width = values.shape[-1] if values.ndim else 1
    size = {"element": 1, "row": width, "part": max(1, flat.size // 4)}[extent]
    begin = int(random.integers(0, flat.size // size)) * size
    part = slice(begin, begin + size)
    flat[part] = _others(flat[part], domain, power, random)
    return flat.reshape(values.shape)


def _others(old: Array, domain: Domain, power: float, random: np.random.Generator) -> Array:
    if domain.kind == "boolean":
        return ~old
    if domain.kind == "integer":
        low, count = int(domain.low), int(domain.high) - int(domain.low) + 1
        step = random.integers(1, max(2, count), old.shape)
        return (low + (old.astype(np.int64) - low + step) % count).astype(old.dtype)
    if domain.kind == "levels":
        return random.choice(np.array(domain.levels, old.dtype), old.shape)
    if domain.bounded:
        middle = (domain.low + domain.high) / 2
        return np.where(old < middle, domain.high, domain.low).astype(old.dtype)
    least, most = sorted((power / 2, power))
    size = domain.spread * 10.0 ** random.uniform(least, most, old.shape)
    moved = old + size * domain.directions(random, old.shape)
    return domain.clip(moved.astype(old.dtype))
