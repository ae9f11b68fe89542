"""One runner on one workload: fill its slots, call it, take and judge its outputs. In the judge."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from kernelevolve.core.detector import Detector
from kernelevolve.core.task import Task
from kernelevolve.evaluation.blocks import Block, same
from kernelevolve.evaluation.layout import Array, Layout
from kernelevolve.evaluation.pool import Prepared
from kernelevolve.evaluation.processes import Runner
from kernelevolve.evaluation.verify import Broken, Objection, Verifier, Wrong

PAUSE_SECONDS = 0.001
POISON = 0xFF
POISON_LIMIT = 8 << 20
CALIBRATIONS = 8
CHEAP_BYTES = 8 << 20
AUDITED_SHARE = 0.3


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
class Session:
    """The same steps for a candidate and for a baseline, so that neither is favoured."""

    runner: Runner
    task: Task
    prepared: Prepared
    random: Random
    seconds: float
    ring: Block
    outbox: Block
    without: frozenset[Detector] = frozenset()
    arrangement: list[int] = field(default_factory=list)
    overhead: float = 0.0
    verifiers: dict[bool, Verifier] = field(default_factory=dict)
    passed: dict[int, Array] = field(default_factory=dict)
    lenient: bool = False
    """A baseline that was verified once: later faults are noted, not raised."""
    thorough: bool = False
    """Every window's last call is verified, whatever that costs."""
    faults: set[str] = field(default_factory=set)
    audited: int = 0
    """Windows whose last call was verified."""
    timed: float = 0.0
    """Seconds of all windows so far."""

    @classmethod
    def open(
        cls, runner: Runner, task: Task, prepared: Prepared, random: Random, seconds: float
    ) -> "Session":
        """With memory of its own for slots and outputs."""
        return cls(runner, task, prepared, random, seconds, *prepared.blocks())

    def close(self) -> None:
        """Free the memory."""
        self.ring.close()
        self.outbox.close()

    def attach(self) -> None:
        """Fill the slots with the pool's contents in a secret order, and map them there."""
        count = len(self.prepared.contents)
        self.arrangement = self.random.sample(range(count), count)
        for slot in range(count):
            self._slot(slot)[:] = self.prepared.contents[self.arrangement[slot]]
        self.outbox.bytes[:] = POISON
        self._ask("attach", [self.ring.fd], layout=self.prepared.inputs.dump(), count=count)

    def _slot(self, slot: int) -> Array:
        return self.ring.part(slot, self.prepared.inputs.nbytes)

    def _ask(self, op: str, fds: Sequence[int] = (), **body: Any) -> dict[str, Any]:
        return self.runner.ask(op, self.seconds, fds, workload=self.prepared.workload.name, **body)

    def calibrate(self) -> None:
        """What an empty window costs at least, so that nothing is taken off that was worked."""
        name = self.prepared.workload.name
        empty = [
            self.runner.window(self.seconds, workload=name, start=0, count=0)[0]
            for _ in range(CALIBRATIONS)
        ]
        self.overhead = min(empty)

    def verify(self, sets: int) -> float:
        """Verify single calls on several slots; the first call's time in microseconds.

        Raises:
            Wrong: an output is not what it should be.
            Broken: a rule was broken.
        """
        slots = self.random.sample(range(len(self.arrangement)), min(sets, len(self.arrangement)))
        first = 0.0
        for number, slot in enumerate(slots):
            buffers = bool(self.prepared.mutated)
            window = self._window(slot, 1, buffers=buffers, twice=number == 0, only=True)
            first = first or window.us
        return first

    def window(self, count: int, *, twice: bool = False) -> Window:
        """A timed batch of `count` calls from a secret slot; the last call is verified."""
        return self._window(
            self.random.randrange(len(self.arrangement)), count, buffers=False, twice=twice
        )

    @property
    def _keeps(self) -> bool:
        """Whether verified outputs are kept, so that equal ones need no second comparison."""
        return self._cheap or self.task.tolerance.bitwise_repeats

    @property
    def _cheap(self) -> bool:
        return self.prepared.plain.nbytes + self.prepared.inputs.nbytes <= CHEAP_BYTES

    def _audits(self) -> bool:
        """Whether the next window's last call is verified: always where it is cheap or asked."""
        if self._cheap or self.thorough:
            return True
        return not self.lenient and self.random.random() < AUDITED_SHARE

    def _window(
        self, start: int, count: int, *, buffers: bool, twice: bool, only: bool = False
    ) -> Window:
        """`only` verifying: large contents then stay where they are."""
        audit = only or twice or self._audits()
        leaves = self.prepared.plain.leaves if audit else ()
        sizes = [leaf.span for leaf in leaves if 0 < leaf.span < POISON_LIMIT]
        self._ask("restore", poison=sizes[:8])
        name = self.prepared.workload.name
        before = self.runner.waited()
        took, own = self.runner.window(self.seconds, workload=name, start=start, count=count)
        waited = self.runner.waited() - before
        self.timed += took
        last = (start + count - 1) % len(self.arrangement)
        if audit and (count == 1 or not self.prepared.buffers_matter):
            self.audited += 1
            self._judge(last, buffers=buffers, twice=twice, move=self._cheap or not only)
        us = (took - self.overhead) / count * 1e6
        return Window(us, own / count * 1e6, busy=waited / took)

    def _judge(self, slot: int, *, buffers: bool, twice: bool, move: bool) -> None:
        try:
            self._settle(slot, buffers=buffers, twice=twice, move=move)
        except (Wrong, Broken) as error:
            if not self.lenient:
                raise
            self.faults.add(str(error))
            self.runner.go_on()

    def _settle(self, slot: int, *, buffers: bool, twice: bool, move: bool) -> None:
        """Judge the last outputs, then move contents about while the runner stands still."""
        verifier = self.verifiers.get(buffers)
        if verifier is None:
            verifier = self.prepared.verifier(self.task, self.without, buffers=buffers)
            self.verifiers[buffers] = verifier
        self._take(verifier, buffers=buffers)
        if twice:
            early = self.outbox.bytes.copy()
            time.sleep(PAUSE_SECONDS)
            self._take(verifier, buffers=buffers)
            if not same(early, self.outbox.bytes):
                self._object(
                    Broken(Detector.SETTLED, "an output still changed after forward had returned")
                )
        self.runner.stop()
        self._compare(verifier, slot, buffers=buffers)
        other = self.random.randrange(len(self.arrangement)) if move else slot
        self._check_inputs({slot, other})
        self._swap(slot, other)
        self.runner.go_on()

    def _take(self, verifier: Verifier, *, buffers: bool) -> None:
        reply = self._ask("outcome", [self.outbox.fd], buffers=buffers, nbytes=self.outbox.nbytes)
        got = verifier.header(reply, may_alias=self.prepared.may_alias)
        _flag_strides(verifier, got, reply)

    def _compare(self, verifier: Verifier, slot: int, *, buffers: bool) -> None:
        content = self.arrangement[slot]
        known = self.passed.get(content)
        if not buffers and known is not None:
            if same(known, self.outbox.bytes):
                return
            if self.task.tolerance.bitwise_repeats:
                text = "repeated calls on the same inputs differ, which this task forbids"
                self._object(Wrong(Detector.REPEATS, text))
        expected = self.prepared.expected[content][: len(verifier.layout.leaves)]
        try:
            verifier.check(expected, self.outbox.bytes)
        except Wrong as error:
            text = f"workload {self.prepared.workload.name!r}: {error}"
            raise Wrong(error.detector, text) from error
        if not buffers and self._keeps:
            self.passed[content] = self.outbox.bytes.copy()

    def _check_inputs(self, slots: set[int]) -> None:
        if self.prepared.mutates_inputs:
            return
        for slot in slots:
            if not same(self._slot(slot), self.prepared.contents[self.arrangement[slot]]):
                text = "forward changes its inputs; the reference leaves them as they are"
                self._object(Broken(Detector.INPUTS, text))

    def _object(self, objection: Objection) -> None:
        if objection.detector not in self.without:
            raise objection

    def _swap(self, a: int, b: int) -> None:
        arrangement = self.arrangement
        arrangement[a], arrangement[b] = arrangement[b], arrangement[a]
        if a != b or self.prepared.mutates_inputs:
            for slot in (a, b):
                self._slot(slot)[:] = self.prepared.contents[arrangement[slot]]
        if self.prepared.mutates_inputs:
            for slot, content in enumerate(arrangement):
                self._slot(slot)[:] = self.prepared.contents[content]

    def finish(self) -> None:
        """All inputs must be as they were given."""
        self._check_inputs(set(range(len(self.arrangement))))


def _flag_strides(verifier: Verifier, got: Layout, reply: dict[str, Any]) -> None:
    for leaf, strides in zip(got.leaves, reply["strides"], strict=True):
        if list(leaf.stride) != strides and leaf.elements > 1:
            verifier.flags.add("strides")
