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


def _between(values: Array, domain: Domain, random: Random, strength: float) -> Array:
    drawn: Array = random.uniform(domain.low, domain.high, values.shape).astype(values.dtype)
    return drawn


def _marked(values: Array, domain: Domain, random: Random, strength: float) -> Array:
    """All markers, then one of them."""
    if domain.markers:
        known = np.array(domain.markers, np.int64)
        known = known if strength == STRONG else random.choice(known, 1)
        flat = values.reshape(-1)
        places = random.choice(flat.size, max(1, round(flat.size * MARKED)), replace=False)
        flat[places] = random.choice(known, places.size).astype(values.dtype)
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
