"""Where a device is simulated: windows that its simulator times. Runs in runners only."""

from collections.abc import Mapping

from kernelevolve import registry
from kernelevolve.core.target import TargetSpec
from kernelevolve.evaluation.modules import Subject
from kernelevolve.evaluation.tensors import flatten


class Simulator:
    """A target's own, and what it counted in the last window."""

    def __init__(self, spec: TargetSpec) -> None:
        self.spec = spec
        self.target = registry.load("target", spec.vendor)()
        self.counters: Mapping[str, float] = {}

    def calls(self, subject: Subject, start: int, count: int) -> float:
        """`Subject.calls`, simulated; seconds that it took here."""
        inputs = flatten(subject.slots[start % len(subject.slots)]["args"])[1]
        took = [0.0]

        def call() -> None:
            took[0] = subject.calls(start, count)

        self.counters = self.target.profile(self.spec, call, inputs)
        return took[0]
