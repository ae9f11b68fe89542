"""Which of several models is asked next: a bandit on gain per dollar.

Thompson sampling (W. R. Thompson, Biometrika 25, 1933) with a gamma posterior for the rate at which
a model's answers bring gains per unit of cost. All it knows is read from the journal, so a resumed
run goes on where it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from kernelevolve.core.candidate import Yield

PRIOR_GAIN = 0.2
"""What is believed of a model that nothing is known of: one gain of 22 % …"""
PRIOR_NODES = 2.0
"""… in so many answers."""


def choose(models: Sequence[str], yields: Sequence[Yield], rng: Random) -> str:
    """One of the models, more likely one that gained much for its cost."""
    if len(models) == 1:
        return models[0]
    known = {y.model: y for y in yields}
    unit = _cost_of_one(yields)
    return max(models, key=lambda name: _drawn(known.get(name), unit, rng))


def _drawn(seen: Yield | None, unit: float, rng: Random) -> float:
    """Gain per cost of one usual answer, drawn from what is believed of a model."""
    gain, cost = PRIOR_GAIN, PRIOR_NODES
    if seen is not None:
        gain += seen.gain
        cost += seen.dollars / unit if unit else seen.nodes
    return rng.gammavariate(gain / PRIOR_GAIN, PRIOR_GAIN / cost)


def _cost_of_one(yields: Sequence[Yield]) -> float:
    """Dollars of an answer in the mean of all models; 0 where a price is unknown."""
    if any(y.tokens and not y.dollars for y in yields):
        return 0.0
    nodes = sum(y.nodes for y in yields)
    return sum(y.dollars for y in yields) / nodes if nodes else 0.0
