"""Records: inputs made for one purpose, and what to compare the outputs with. In the judge."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

from kernelevolve.core.detector import Detector
from kernelevolve.evaluation.expected import Reference, Yardstick
from kernelevolve.evaluation.inplace import NOTHING, Left
from kernelevolve.evaluation.layout import Array, Layout


class Skipped(Exception):
    """The reference cannot take this probe, or it would tell nothing; the message says why."""


@dataclass(frozen=True)
class Plan:
    """A probe that may not have been made yet."""

    name: str
    detector: Detector
    what: str
    """The inputs in words."""
    advice: str
    """What a kernel that fails on them should change."""
    undefined: bool = False
    """It holds NaN, which outputs are to pass on where the reference does."""
    exact: bool = False
    """Which values it holds is the point; what their neighbours give says nothing of them."""


@dataclass
class Probe:
    """Inputs, and what to compare the outputs with."""

    plan: Plan
    inputs: Layout
    content: Array
    expected: list[Reference]
    yardsticks: list[Yardstick]
    base: int | None = None
    """The set of the pool that it differs little from, and whose place it takes."""
    state_fd: int | None = None
    """State to be loaded for it, where parameters take part."""
    before: Sequence[Array] = ()
    """What is called right before it, in the same window."""
    left: Left = NOTHING
    """What the reference leaves in its inputs, where it changes them."""
    may_refuse: bool = False
    """A clear exception is an answer that a user can live with."""

    @property
    def nbytes(self) -> int:
        """Memory that it holds."""
        arrays = [a for e in self.expected for a in (e.native, e.oracle) if a is not None]
        return self.content.nbytes + sum(a.nbytes for a in arrays)

    def close(self) -> None:
        """Free what is outside Python's reach."""
        if self.state_fd is not None:
            os.close(self.state_fd)
