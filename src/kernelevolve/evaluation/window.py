"""A timed batch of calls, as it was seen and as it counts."""

from dataclasses import dataclass


@dataclass
class Window:
    """One timed batch."""

    us: float
    """Per call, by the judge's clock."""
    own_us: float
    """Per call, by the runner's."""
    busy: float = 0.0
    """Share of the window in which something else had the core."""


@dataclass
class Timed:
    """What the judge saw, seconds."""

    took: float
    own: float
    """By the runner's clock."""
    waited: float
    """That its driver was ready and something foreign had its core."""

    @property
    def busy(self) -> float:
        """Share of it that was waited."""
        return self.waited / self.took

    def window(self, count: int, overhead: float, *, own: bool) -> Window:
        """For each of `count` calls, without `overhead`; by its `own` clock only for ablation."""
        own_us = self.own / count * 1e6
        us = own_us if own else (self.took - overhead) / count * 1e6
        return Window(us, own_us, self.busy)
