"""A stop in the middle of a timed window, and whether its count of calls is honest. In the judge.

The driver counts ended calls in a page that the judge watches. That word is believed only as far as
it goes on with the time: a count that lags behind hides calls that were not worked, and one that
leaps over calls hides those between.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from kernelevolve.core.detector import Detector
from kernelevolve.evaluation.verify import Broken
from kernelevolve.evaluation.window import Timed

ASTRAY = 0.25
"""Share of a window by which the count may lag behind its time."""
PACES = 3.0
"""Calls of one window may be so much faster than their mean: the first ones are cold."""
LEAST_CALL = 0.3e-6
"""Seconds; the driver's own loop takes longer for one call."""
WAITED = 0.9
"""At most this share of a window is taken for waiting, whatever its threads waited together."""
LIES = 6
"""So many windows whose count of ended calls lags behind their time by more are no chance."""
LEAPS = 2
"""So many whose count leaps over calls are none either."""


@dataclass
class Midway:
    """When to stop, and what was seen of the count until then."""

    ended: Callable[[], int]
    """How many calls have ended, by the driver's word."""
    wanted: int
    """So many bring about the stop."""
    look: Callable[[], object]
    """What to do while everything stands."""
    back: int | None = None
    """Which call is looked at, counted from the last one back, where outputs of many are kept."""
    begun: float = 0.0
    """When the window began, by the judge's clock in seconds."""
    last: int = 0
    """Calls that had ended when the judge last saw fewer than it waited for."""
    last_at: float = 0.0
    """When that was."""
    found: int = 0
    """Calls that had ended when it first saw as many; 0 where it never did."""
    found_at: float = 0.0
    """When that was."""

    def reached(self) -> bool:
        """Whether it is time to stop."""
        moment, ended = time.perf_counter(), self.ended()
        if ended < self.wanted:
            self.last, self.last_at = ended, moment
            return False
        self.found, self.found_at = ended, time.perf_counter()
        return True

    def begins(self, moment: float) -> None:
        """No call has ended yet."""
        self.begun = self.last_at = moment

    def looked_at(self, ended: int) -> int:
        """Which of the calls that had ended is verified: the one that brought the stop about.

        Where more than one has ended since, its outputs are gone, and the last one is; or one so
        many calls before that as it was decided to look `back`.
        """
        if self.back is not None:
            return ended - self.back
        return self.found if self.found == ended - 1 and self.found else ended

    def share(self, took: float) -> float:
        """How much of the window had gone by when the judge last saw fewer than it waited for."""
        return (self.last_at - self.begun) / took

    def lags(self, count: int, took: float, busy: float) -> bool:
        """Whether far fewer calls had ended than belong to the time; `busy` is the share waited."""
        return self.last < count * (self.share(took) - busy - ASTRAY) - 1

    def leaps(self, busy: float) -> bool:
        """Whether more calls ended between two looks than the time between them has room for.

        The pace is that of the calls before: what comes later, the judge's own delay too, is not
        in it.
        """
        if self.found < 2:
            return False
        pace = (self.found_at - self.begun) * (1 - min(busy, WAITED)) / self.found
        pace = max(pace, PACES * LEAST_CALL)
        return self.found - self.last > 1 + PACES * (self.found_at - self.last_at) / pace


@dataclass
class Pace:
    """Whether the count of one session's windows goes on with the time."""

    lies: int = 0
    """Windows in which it lagged behind."""
    leaps: int = 0
    """Windows in which it leapt."""

    def follow(self, midway: Midway, timed: Timed, count: int, done: int) -> bool:
        """Take one stopped window of `count` calls into account; whether it had no leap.

        Args:
            midway: what was seen of the count.
            timed: the window.
            count: its calls.
            done: how many had ended when everything stood; 0 where it was not stopped.

        Raises:
            Broken: the count is not to be believed.
        """
        leapt = midway.leaps(timed.busy)
        self.leaps += leapt
        self.lies += midway.lags(count, timed.took, timed.busy)
        if done > count or self.lies >= LIES or self.leaps >= LEAPS:
            said = f"{midway.share(timed.took):.0%} into a window {midway.last} of {count} calls"
            then = f", and then {midway.found} at once" if leapt else ""
            text = f"{said} had ended{then}; the calls of a window must be worked off"
            raise Broken(Detector.TIMED_CALLS, text)
        return not leapt
