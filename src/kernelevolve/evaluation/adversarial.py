"""Inputs made to tell shortcuts from the computation: generators over observed domains.

A generator changes the task's own inputs within what their dtypes and domains allow. It sees raw
arrays only, so it runs in the judge, and the same seed makes the same inputs.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator as Random

from kernelevolve.evaluation.domain import Domain, read, write
from kernelevolve.evaluation.layout import Array, Layout
from kernelevolve.evaluation.rounding import EPSILON
from kernelevolve.evaluation.spread import flat_chunks, mapped

Change = Callable[[Array, Domain, Random, float], Array]
"""From values that it may change, their domain, chance, and a strength from 0 to 1."""
STRENGTHS = (1.0, 0.5, 0.2)
FEW = 1e-3


@dataclass(frozen=True)
class Generator:
    """One way to make inputs difficult."""

    name: str
    what: str
    """The inputs in words, for messages."""
    advice: str
    """What a kernel that fails on them should change."""
    change: Change
    kinds: tuple[str, ...] = ("real",)
    """Domains that it changes; others stay as they are."""
    ties: bool = False
    """It makes equal values, where orders, integer outputs and gradients may be ambiguous."""
    undefined: bool = False
    """It makes NaN, which outputs are to pass on where the reference does."""
    unseen: bool = False
    """It goes beyond what was seen, where the reference gives something defined."""
    exact: bool = False
    """Which values it makes is the point; what their neighbours give says nothing of them."""
    tries: tuple[float, ...] = STRENGTHS
    """Strengths, tried in turn until the reference takes the inputs."""


def make(
    generator: Generator,
    layout: Layout,
    domains: Mapping[int, Domain],
    content: Array,
    random: Random,
    strength: float,
) -> Array | None:
    """A changed copy of the inputs; None where nothing changes."""
    made = content.copy()
    for index, domain in domains.items():
        if domain.kind in generator.kinds:
            leaf = layout.leaves[index]
            with np.errstate(over="ignore", invalid="ignore"):
                values = generator.change(read(leaf, content), domain, random, strength)
                values = values if generator.unseen else domain.clip(values)
                write(leaf, made, values.reshape(leaf.shape))
    return None if np.array_equal(made, content) else made


def jitter(layout: Layout, domains: Mapping[int, Domain], content: Array, random: Random) -> Array:
    """The same inputs with each real value moved by at most one unit in the last place."""
    made = content.copy()
    for index, domain in domains.items():
        if domain.kind == "real":
            leaf = layout.leaves[index]
            values = np.ascontiguousarray(read(leaf, content))
            _nudge(values.reshape(-1), domain, EPSILON[leaf.dtype] / 2, random)
            write(leaf, made, values)
    return made


def _nudge(values: Array, domain: Domain, by: float, random: Random) -> None:
    """Each value up, down or not at all by a share of itself; what was allowed stays so."""
    seed = int(random.integers(1 << 62))

    def nudge(part: slice) -> None:
        chosen = values[part]
        steps = np.random.default_rng((seed, part.start)).integers(-1, 2, chosen.shape, np.int8)
        with np.errstate(over="ignore", invalid="ignore"):
            moved = chosen + chosen * (steps * values.dtype.type(by))
        seen = (chosen >= domain.low) & (chosen <= domain.high)
        values[part] = np.where(seen, domain.clip(moved), moved)

    mapped(nudge, flat_chunks(values))


def _rows(values: Array) -> Array:
    rows: Array = values.reshape(-1, values.shape[-1] if values.ndim > 1 else values.size)
    return rows


def _places(random: Random, size: int, share: float) -> Array:
    """Some places, at least one."""
    return random.choice(size, max(1, min(size, round(size * share))), replace=False, shuffle=False)


def _coarse(values: Array) -> Array:
    """Rounded to eight bits: equal values add up without error, in whatever order."""
    mantissa, exponent = np.frexp(values)
    found: Array = np.ldexp(np.round(mantissa * 256) / 256, exponent)
    return found


def _magnitudes(values: Array, domain: Domain, random: Random, strength: float) -> Array:
    rows = _rows(values)
    largest = 0.0 if np.isfinite(domain.high) else 3.0
    exponents = random.uniform(-3.0, largest, (rows.shape[0], 1)) * strength
    rows *= (10.0**exponents).astype(values.dtype)
    return rows


def _outliers(values: Array, domain: Domain, random: Random, strength: float) -> Array:
    """In the first half only, where a look at the rest does not see them."""
    flat = values.reshape(-1)
    _exceed(flat[: (flat.size + 1) // 2], domain, random, strength)
    return flat


def _late_outliers(values: Array, domain: Domain, random: Random, strength: float) -> Array:
    """In the second half only, where a look at the first rows does not see them."""
    flat = values.reshape(-1)
    _exceed(flat[flat.size // 2 :], domain, random, strength)
    return flat


def _exceed(part: Array, domain: Domain, random: Random, strength: float) -> None:
    places = _places(random, part.size, FEW)
    size = domain.spread * 10.0 ** (random.uniform(2.0, 3.0, places.size) * strength)
    signs = np.where(np.arange(places.size) % 2, domain.directions(random, places.size), 1)
    part[places] = size * (signs if domain.signed else domain.directions(random, places.size))


def _offset(values: Array, domain: Domain, random: Random, strength: float) -> Array:
    if domain.bounded:
        values *= 1 - 0.9 * strength
        values += 0.9 * strength * domain.high
    else:
        values += 100.0 * strength * domain.spread * domain.directions(random, 1)[0]
    return values


def _ties(values: Array, domain: Domain, random: Random, strength: float) -> Array:
    levels = _coarse(random.choice(values.reshape(-1), 4))
    found: Array = random.choice(levels, values.shape)
    return found


def _constant_rows(values: Array, domain: Domain, random: Random, strength: float) -> Array:
    rows = _rows(values)
    chosen = rows[np.arange(len(rows)), random.integers(0, rows.shape[1], len(rows))]
    rows[:] = _coarse(chosen)[:, None]
    return rows


def _zeros(values: Array, domain: Domain, random: Random, strength: float) -> Array:
    rows = _rows(values)
    gone = random.random(rows.shape) < 0.95 * strength
    if len(rows) > 1:
        gone |= random.random((len(rows), 1)) < 0.5
    gone.reshape(-1)[_places(random, gone.size, 0)] = False
    rows[gone] = 0
    return rows


def _blocks(values: Array, domain: Domain, random: Random, strength: float) -> Array:
    rows = _rows(values)
    gone = random.random((len(rows), 1)) < 0.5
    gone = gone != (random.random((1, rows.shape[1])) < 0.5)
    gone.reshape(-1)[_places(random, gone.size, FEW / 10)] = False
    rows[gone] = 0
    return rows


def _low_rank(values: Array, domain: Domain, random: Random, strength: float) -> Array:
    rows = _rows(values)
    factors = random.choice((-1.0, 0.5, 1.0, 2.0), (len(rows), 1)).astype(values.dtype)
    rows[:] = factors * rows[random.integers(0, len(rows))]
    return rows


def _one_sign(values: Array, domain: Domain, random: Random, strength: float) -> Array:
    if domain.signed:
        np.abs(values, out=values)
        values *= random.choice((-1, 1))
    return values


def _infinite(values: Array, domain: Domain, random: Random, strength: float) -> Array:
    """At full strength of both signs, then negative ones, then positive ones."""
    flat = values.reshape(-1)
    signs = {1.0: (-1.0, 1.0), 0.5: (-1.0,), 0.2: (1.0,)}[strength]
    ends = [s * np.inf for s in signs if np.isinf(domain.high if s > 0 else domain.low)]
    if ends:
        places = _places(random, flat.size, 10 * FEW)
        flat[places] = random.choice(ends, places.size)
    return flat


def _undefined(values: Array, domain: Domain, random: Random, strength: float) -> Array:
    flat = values.reshape(-1)
    flat[_places(random, flat.size, FEW)] = np.nan
    return flat


def _equal(values: Array, domain: Domain, random: Random, strength: float) -> Array:
    values[...] = values.reshape(-1)[random.integers(0, values.size)]
    return values


def _extremes(values: Array, domain: Domain, random: Random, strength: float) -> Array:
    ends = np.array([domain.levels[0], domain.levels[-1]]).astype(values.dtype)
    found: Array = ends[(random.random(values.shape) < 0.9).astype(int)]
    return found


def _row_extremes(values: Array, domain: Domain, random: Random, strength: float) -> Array:
    """Each row of one value: masks that leave out nothing, or everything."""
    rows = _rows(values)
    ends = np.array([domain.levels[0], domain.levels[-1]]).astype(values.dtype)
    rows[:] = random.choice(ends, (len(rows), 1))
    return rows


def _ascending(values: Array, domain: Domain, random: Random, strength: float) -> Array:
    """Other values between the same ends, some of them equal."""
    rows = values.reshape(-1, values.shape[-1])
    low, high = rows[:, :1].copy(), rows[:, -1:].copy()
    shares = random.integers(0, max(2, rows.shape[1] // 2), rows.shape) / max(1, rows.shape[1] // 2)
    rows[:] = np.sort(low + (shares * (high - low)).astype(values.dtype), axis=-1)
    rows[:, :1], rows[:, -1:] = low, high
    return rows


PRECISION = "keep the whole computation in the declared precision, whatever the magnitudes"
CASES = "do not choose a path by a look at some of the values; compute every case"
GENERATORS = (
    Generator("magnitudes", "rows of very different scales", PRECISION, _magnitudes),
    Generator("outliers", "single large values in the first half", CASES, _outliers),
    Generator("late-outliers", "single large values in the second half", CASES, _late_outliers),
    Generator(
        "offset",
        "values with a large common offset",
        "subtract the maximum or the mean before exponentials and squares",
        _offset,
    ),
    Generator("ties", "many equal values", CASES, _ties, ties=True, tries=(1.0,)),
    Generator("constant-rows", "rows of one value", CASES, _constant_rows, ties=True, tries=(1.0,)),
    Generator("zeros", "mostly zeros", CASES, _zeros, ties=True),
    Generator("blocks", "permuted blocks", CASES, _blocks, ties=True, tries=(1.0,)),
    Generator(
        "low-rank", "rows that are multiples of one", CASES, _low_rank, ties=True, tries=(1.0,)
    ),
    Generator("one-sign", "values of one sign", CASES, _one_sign, tries=(1.0, 0.5, 0.2)),
    Generator("infinities", "some infinite values", "treat infinities as the reference", _infinite),
    Generator(
        "nan",
        "some NaN",
        "treat NaN as the reference does: comparisons with it are false, maxima may drop it",
        _undefined,
        undefined=True,
        tries=(1.0,),
    ),
    Generator(
        "equal-integers",
        "integers or masks of one value",
        CASES,
        _equal,
        ("integer", "boolean", "levels"),
    ),
    Generator(
        "extreme-integers",
        "integers or masks at the ends of their range",
        CASES,
        _extremes,
        ("integer", "boolean", "levels"),
    ),
    Generator(
        "row-extremes",
        "integers or masks of one value in each row, some rows left out altogether",
        "treat rows of which nothing remains as the reference does",
        _row_extremes,
        ("integer", "boolean", "levels"),
        tries=(1.0,),
    ),
    Generator(
        "ascending",
        "other offsets or positions in the same order, some of them equal",
        "read offsets and positions; segments may be empty",
        _ascending,
        ("sorted",),
        tries=(1.0,),
    ),
)


def integers(
    layout: Layout, domains: Mapping[int, Domain], content: Array, random: Random
) -> Array | None:
    """Real inputs of -1, 0 and 1, as far as their domains allow; None where they do not."""
    made = content.copy()
    for index, domain in domains.items():
        if domain.kind == "real":
            if not (domain.holds(0.0) and domain.holds(1.0)):
                return None
            leaf = layout.leaves[index]
            least = -1 if domain.holds(-1.0) else 0
            write(leaf, made, random.integers(least, 2, leaf.shape).astype(np.float64))
    return made
