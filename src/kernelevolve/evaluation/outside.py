"""Whether a runner works while the clock does not run. In the judge."""

from collections.abc import Mapping, Sequence
from math import ceil

FACTOR = 3.0
SECONDS = 0.002
"""More than FACTOR times a baseline's processor time and this for one kind of request, and that
twice, is no chance: a collection of garbage or a late compilation happens once."""
SHARE = 0.15
"""Of many requests of a kind, so many must be more than that: on a busy machine some are. Whoever
works ahead for half of the windows, which the median needs, does so in more."""


def excess(
    spent: Mapping[str, Sequence[float]], honest: Mapping[str, Sequence[float]], threads: int
) -> str:
    """What was worked too much between the windows; empty where it is the driver's own work.

    Args:
        spent: processor seconds of the requests between windows, by request.
        honest: the same of a baseline.
        threads: that may still wait actively for their next work when a call has ended.
    """
    for op, seconds in spent.items():
        usual = max((0.0, *honest.get(op, ())))
        enough = max(2, ceil(SHARE * len(seconds)))
        least = sorted([0.0] * enough + list(seconds))[-enough]
        if least > threads * FACTOR * usual + SECONDS:
            return (
                f"{least * 1e3:.3g} ms of processor time between two windows, where the "
                f"reference's process takes {usual * 1e3:.3g} ms: work belongs into forward"
            )
    return ""
