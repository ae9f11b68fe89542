"""Outputs of one session against what was expected, and which check found them wrong."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from kernelevolve.core.detector import Detector
from kernelevolve.core.task import Task
from kernelevolve.evaluation import sharing
from kernelevolve.evaluation.blocks import same
from kernelevolve.evaluation.fresh import Fresh
from kernelevolve.evaluation.layout import Array, Layout, paths
from kernelevolve.evaluation.pool import Prepared
from kernelevolve.evaluation.probe import Probe
from kernelevolve.evaluation.verify import Broken, Verifier, Wrong

CHEAP_BYTES = 2 << 20
LEAST_SHARE = 0.2
POISON = 0xFF
POISONED = 0.25
"""A wrong output of which this share is poison was taken as it was found."""


@dataclass
class Comparison:
    """Remembers what passed, so that equal outputs need no second comparison."""

    task: Task
    prepared: Prepared
    without: frozenset[Detector]
    verifiers: dict[bool, Verifier] = field(default_factory=dict)
    _passed: dict[int, Array] = field(default_factory=dict)

    @property
    def cheap(self) -> bool:
        """Whether every window can be verified."""
        return self.share == 1.0

    @property
    def share(self) -> float:
        """Of the windows that are verified, so that large workloads do not take for ever."""
        nbytes = self.prepared.plain.nbytes + self.prepared.inputs.nbytes
        return min(1.0, max(LEAST_SHARE, CHEAP_BYTES / max(1, nbytes)))

    def verifier(self, *, buffers: bool) -> Verifier:
        """The one that keeps the session's errors, for outputs alone or with mutated buffers."""
        if buffers not in self.verifiers:
            made = self.prepared.verifier(self.task, self.without, buffers=buffers)
            self.verifiers[buffers] = made
        return self.verifiers[buffers]

    def header(self, verifier: Verifier, reply: Mapping[str, Any]) -> None:
        """Check all of outputs but their values.

        Raises:
            Wrong: the structure differs.
            Broken: an output is no plain tensor, or shares memory that it must not share.
        """
        got = verifier.header(reply, may_alias=self.prepared.may_alias)
        extra = self._shared(got, reply)
        if extra and Detector.ALIASING not in self.without:
            raise Broken(Detector.ALIASING, extra)
        given = zip(got.leaves, reply["strides"], strict=True)
        if any(list(leaf.stride) != strides and leaf.elements > 1 for leaf, strides in given):
            verifier.flags.add("strides")

    def _shared(self, got: Layout, reply: Mapping[str, Any]) -> str:
        """What outputs share although the reference's do not; gradients may, as autograd does."""
        tree = self.prepared.plain.tree
        returned = len(paths(tree["list"][0] if self.task.backward else tree))
        return sharing.excess(got, reply, self.prepared.may_share, returned)

    def check(self, content: int, block: Array, *, buffers: bool = False) -> None:
        """Compare row-major outputs with those expected of a content.

        Raises:
            Wrong: they are not what they should be.
        """
        known = self._passed.get(content)
        if not buffers and known is not None:
            if self.equal(known, block):
                return
            if self.task.tolerance.bitwise_repeats and Detector.REPEATS not in self.without:
                text = "repeated calls on the same inputs differ, which this task forbids"
                raise Wrong(Detector.REPEATS, text)
        self._check(self.verifier(buffers=buffers), content, block)
        if not buffers and (self.cheap or self.task.tolerance.bitwise_repeats):
            self._passed[content] = block.copy()

    def check_fresh(self, fresh: Fresh, content: Array, block: Array) -> None:
        """Compare row-major outputs of a timed call with what the reference gives for its inputs.

        Raises:
            Wrong: they are not what they should be.
        """
        count, yardsticks = len(self.prepared.plain.leaves), fresh.yardsticks
        if fresh.native_first:
            first = self.prepared.verifier(self.task, self.without, buffers=False)
            with suppress(Wrong):
                first.check(fresh.native(content)[:count], block, yardsticks[:count])
                return
        try:
            expected = fresh.expected(content)[:count]
            self.verifier(buffers=False).check(expected, block, yardsticks[:count])
        except Wrong as error:
            text = f"workload {self.prepared.workload.name!r}: {error}"
            raise Wrong(error.detector, text) from error

    def check_probe(self, probe: Probe, block: Array, *, buffers: bool) -> None:
        """Compare row-major outputs with those expected of inputs made for a purpose.

        Raises:
            Wrong: they are not what they should be; the detector is the probe's.
        """
        verifier = self.verifier(buffers=buffers)
        expected = probe.expected[: len(verifier.layout.leaves)]
        try:
            verifier.check(expected, block, probe.yardsticks, probe.plan.detector)
        except Wrong as error:
            where = f"workload {self.prepared.workload.name!r}, {probe.plan.what}"
            raise Wrong(error.detector, f"{where}: {error}; {probe.plan.advice}") from error

    def _check(self, verifier: Verifier, content: int, block: Array) -> None:
        expected = self.prepared.expected[content][: len(verifier.layout.leaves)]
        try:
            verifier.check(expected, block)
        except Wrong as error:
            text = f"workload {self.prepared.workload.name!r}: {error}"
            raise Wrong(error.detector, text) from error

    def equal(self, a: Array, b: Array) -> bool:
        """Whether two row-major blocks hold the same bytes, whatever lies between the tensors."""
        leaves = self.prepared.plain.leaves
        parts = [slice(leaf.offset, leaf.offset + leaf.span) for leaf in leaves]
        return all(same(a[part], b[part]) for part in parts)

    def blame(self, error: Wrong, block: Array) -> Wrong:
        """Name the check that found a timed call wrong, whose likes were right before."""
        if error.detector not in (Detector.ERROR_BUDGET, Detector.EXACT):
            return error
        fresh = self.prepared.verifier(self.task, self.without, buffers=False)
        for other in range(len(self.prepared.contents)):
            try:
                self._check(fresh, other, block)
            except Wrong:
                continue
            text = f"{error}; it is the answer to inputs that had been in the same memory"
            return Wrong(Detector.FRESH_CONTENTS, text)
        poisoned = float((block == POISON).mean()) if block.size else 0.0
        detector = Detector.POISON if poisoned > POISONED else Detector.TIMED_CALLS
        return Wrong(detector, f"in a timed window: {error}")
