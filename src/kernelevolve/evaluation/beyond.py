"""Generators of values that were not seen, where the reference gives something defined for them.

What the task draws says little about where a float may lie: uniform numbers between 0 and 1 are a
habit. Integers are another matter, because whoever indexes with them trusts their range: beyond it
only those are tried to which the reference itself gives a meaning.
"""

import numpy as np
from numpy.random import Generator as Random

from kernelevolve.evaluation.adversarial import CASES, FEW, Generator
from kernelevolve.evaluation.domain import Domain
from kernelevolve.evaluation.layout import Array

LARGEST = 15.0
"""Powers of ten of the usual spread: squares and their sums still fit into single precision, where
an honest kernel need not overflow as the reference does."""
LEAST = 3.0
SOME = 16
"""So many, and some of them are of the sign and size that tell."""
MARKED = 0.1
FAR = 200.0
"""Exponentials of it overflow."""
FARTHEST = 5.0
"""Power of ten of the spread; of float32, two digits are left of what differs in a row."""
HALF = 0.5
NEAR = 3.0
STRONG, USUAL, WEAK = 1.0, 0.5, 0.25


def _huge(values: Array, domain: Domain, random: Random, strength: float) -> Array:
    flat = values.reshape(-1)
    if domain.bounded:
        return flat
    count = max(1, round(flat.size * FEW), min(SOME, flat.size // SOME))
    places = random.choice(flat.size, count, replace=False)
    powers = random.uniform(LEAST, max(LEAST, LARGEST * strength), places.size)
    signs = domain.directions(random, places.size)
    flat[places] = (domain.spread * 10.0**powers * signs).astype(values.dtype)
    return flat


def _wide(values: Array, domain: Domain, random: Random, strength: float) -> Array:
    """At full strength of both signs, then of the signs that were seen, then not far."""
    if domain.bounded:
        if strength == STRONG and domain.low >= 0:
            values = 2 * values - 1
        values = values * values.dtype.type(NEAR if strength == WEAK else FAR)
    return values


def _exact_zeros(values: Array, domain: Domain, random: Random, strength: float) -> Array:
    """Exact zeros among values that were never zero."""
    flat = values.reshape(-1)
    if not domain.signed:
        places = random.choice(flat.size, max(1, round(flat.size * MARKED)), replace=False)
        flat[places] = 0
    return flat


def _at_thresholds(values: Array, domain: Domain, random: Random, strength: float) -> Array:
    """Values at which a comparison or a rounding in the reference changes its mind."""
    flat = values.reshape(-1)
    if domain.thresholds:
        places = random.choice(flat.size, max(1, round(flat.size * MARKED)), replace=False)
        known = random.permutation(np.array(domain.thresholds))
        flat[places] = np.resize(known, places.size).astype(values.dtype)
    return flat


def _far_rows(values: Array, domain: Domain, random: Random, strength: float) -> Array:
    """About half of the rows far to one side."""
    rows = values.reshape(-1, values.shape[-1] if values.ndim > 1 else values.size)
    if not domain.bounded:
        side = domain.directions(random, (len(rows), 1))
        far = domain.spread * 10.0 ** (FARTHEST * strength) * side
        rows += (far * (random.random((len(rows), 1)) < HALF)).astype(values.dtype)
    return rows


def _between(values: Array, domain: Domain, random: Random, strength: float) -> Array:
    drawn: Array = random.uniform(domain.low, domain.high, values.shape).astype(values.dtype)
    return drawn


def _marked(values: Array, domain: Domain, random: Random, strength: float) -> Array:
    """All markers, then those that are not negative, then one of them."""
    known = np.array(domain.markers, np.int64)
    if strength == USUAL:
        known = known[known >= 0]
    if known.size:
        known = random.choice(known, 1) if strength == WEAK else known
        flat = values.reshape(-1)
        places = random.choice(flat.size, max(1, round(flat.size * MARKED)), replace=False)
        flat[places] = np.resize(random.permutation(known), places.size).astype(values.dtype)
    return values


GENERATORS = (
    Generator("huge", "single values beyond all that was seen", CASES, _huge, unseen=True),
    Generator(
        "wide",
        "values beyond the range from 0 (or -1) to 1 that the task draws from",
        "do not rely on a range that only the drawn inputs have; "
        "where it is a rule, the reference should clamp its inputs to it",
        _wide,
        unseen=True,
        tries=(STRONG, USUAL, WEAK),
    ),
    Generator(
        "exact-zeros",
        "zeros among values that were never zero",
        "treat zero as the reference does",
        _exact_zeros,
        unseen=True,
        tries=(STRONG,),
    ),
    Generator(
        "thresholds",
        "values at which a comparison, a rounding or a table of the reference changes its mind",
        "compare and round as the reference does: > is not >=, and torch.round takes the even one",
        _at_thresholds,
        ties=True,
        exact=True,
        tries=(STRONG,),
    ),
    Generator(
        "far-rows",
        "some rows far to one side",
        "begin maxima and minima with a value of the row, not with a large number",
        _far_rows,
        unseen=True,
        tries=(1.0, 0.9, 0.8, 0.6),
    ),
    Generator(
        "between",
        "masks or codes between the few values that were seen",
        "compute with their values; they need not be those that the task draws",
        _between,
        ("levels",),
        tries=(STRONG,),
    ),
    Generator(
        "markers",
        "integers that the reference compares with or leaves out, such as ignore_index",
        "treat them as the reference does",
        _marked,
        ("integer",),
        unseen=True,
        tries=(STRONG, USUAL, WEAK),
    ),
)
