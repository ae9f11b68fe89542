"""Whether a runner works while the clock does not run. In the judge."""

from collections.abc import Mapping, Sequence

FACTOR = 3.0
SECONDS = 0.002
"""Twice more than FACTOR times a baseline's processor time and this for one kind of request is
no chance: a collection of garbage or a late compilation happens once."""


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
        second = sorted(seconds)[-2:][0]
        if second > threads * FACTOR * usual + SECONDS:
            return (
                f"{second * 1e3:.3g} ms of processor time between two windows, where the "
                f"reference's process takes {usual * 1e3:.3g} ms: work belongs into forward"
            )
    return ""
