"""Calls of one runner on one workload: fill its slots, call it, take and judge its outputs.

In the judge. A runner's tree stands still except while it answers: contents change behind its back,
and what it does between two windows is done within requests whose processor time is counted.
"""

import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import Any, ClassVar

from kernelevolve.core.detector import Detector
from kernelevolve.core.task import Task
from kernelevolve.evaluation import places, replies
from kernelevolve.evaluation.blocks import BANKS, Block, same
from kernelevolve.evaluation.comparison import LEAST_SHARE, POISON, Comparison
from kernelevolve.evaluation.fresh import Crossing, Fresh
from kernelevolve.evaluation.layout import Array, Layout
from kernelevolve.evaluation.midway import Midway, Pace
from kernelevolve.evaluation.outputs import Outputs, Seen
from kernelevolve.evaluation.pool import Prepared
from kernelevolve.evaluation.probe import Probe
from kernelevolve.evaluation.processes import Runner
from kernelevolve.evaluation.slots import Slots
from kernelevolve.evaluation.stopwatch import Stopwatch
from kernelevolve.evaluation.verify import Broken, Objection, Verifier, Wrong
from kernelevolve.evaluation.window import Timed, Window

CHANGED = "forward changes its inputs; the reference leaves them as they are"
UNSETTLED = "an output still changed after forward had returned"
PAUSE_SECONDS = 1e-3
POISON_LIMIT = 8 << 20
CALIBRATIONS = 8
OVERHEAD_LIMIT = 200e-6
"""Seconds; no machine that can be measured on needs more to ask, answer and stop."""
COPIED_PER_SECOND = 1e8  # bytes, with the first touch of each page


@dataclass
class Calls:
    """The same steps for a candidate and for a baseline, so that neither is favoured."""

    runner: Runner
    task: Task
    prepared: Prepared
    random: Random
    seconds: float
    ring: Any
    """Memory for slots: a `Block`, or a `DeviceRing`."""
    outbox: Block
    without: frozenset[Detector] = frozenset()
    fresh: Fresh | None = None
    """What makes contents that no call has seen; without it contents stay in their slots."""
    least_overhead: ClassVar[float] = OVERHEAD_LIMIT
    lenient: bool = False
    """A baseline that was verified once: later faults are noted, not raised."""
    thorough: bool = False
    """Every window's last call is verified, whatever that costs."""
    faults: set[str] = field(default_factory=set)
    usual_us: float = 0.0
    """A call's time when it was last measured; 0 before."""
    single_us: float = 0.0
    """The quickest call's that was verified alone."""
    clock: Stopwatch = field(default_factory=Stopwatch)
    """Of the judgement that it is part of."""
    aside: dict[str, list[float]] = field(default_factory=dict)
    """Processor seconds of the requests between windows, by request."""
    called: set[tuple[int, int | None]] = field(default_factory=set)
    """Slots and the sets on which they were verified there."""
    probed: Probe | None = None
    """What lies in the called slot instead of one of the pool's sets."""
    pace: Pace = field(default_factory=Pace)
    singly: bool = False
    """See `time_singly`."""
    on_device: ClassVar[bool] = False
    """Whether its calls run on a device, and not on the runner's processor."""

    def __post_init__(self) -> None:
        self.outputs = self._outputs()
        wanted = self._does(Detector.FRESH_CONTENTS) and not self.prepared.keeps_contents
        crossing = self.fresh.crossing if self.fresh and wanted else None
        self.freshens = crossing is not None
        self.slots = self._slots(crossing)
        self.comparison = Comparison(self.task, self.prepared, self.without)

    @property
    def _banks(self) -> int:
        """How many calls' outputs have an address at a time; those of all but one are kept."""
        return BANKS

    def _outputs(self) -> Outputs:
        return Outputs(self.runner, self.prepared.plain, self._banks)

    def _slots(self, crossing: Crossing | None) -> Any:
        return Slots(self.prepared, self.ring, self.random, crossing)

    def close(self) -> None:
        """Free the memory."""
        self.ring.close()
        self.outbox.close()
        self.outputs.close()

    def _does(self, detector: Detector) -> bool:
        return detector not in self.without

    def attach(self) -> None:
        """Fill the slots with the pool's contents in a secret order, and map them there."""
        self.slots.reset()
        self.outbox.bytes[:] = POISON
        self.map_slots(self.ring, self.prepared.inputs, len(self.slots))

    def widen(self, calls: int) -> None:
        """Have a slot for each call of a window, as far as there is room."""
        if self.freshens and self.slots.widen(calls):
            self.map_slots(self.ring, self.prepared.inputs, len(self.slots))

    def map_slots(self, block: Any, layout: Layout, count: int, keep: int = 0) -> None:
        """Map `count` slots behind the `keep` that stay, and the mailbox."""
        mailbox = self.outputs.mailbox
        self.ask(
            "attach",
            [block.shared, mailbox.fd],
            layout=layout.dump(),
            count=count,
            keep=keep,
            device_bytes=block.device_bytes,
            mailbox=mailbox.nbytes,
            outputs=mailbox.outputs,
            banks=mailbox.banks,
            guards=self._does(Detector.GUARDS),
        )

    def ask(self, op: str, fds: Sequence[int] = (), **body: Any) -> dict[str, Any]:
        """One request about this workload."""
        return self.runner.ask(op, self.seconds, fds, workload=self.prepared.workload.name, **body)

    def _ask_aside(self, op: str, fds: Sequence[int] = (), **body: Any) -> dict[str, Any]:
        """A request beside the windows; the tree stands still again when it is answered."""
        before = self.runner.tree.cpu()
        reply = self.ask(op, fds, **body)
        if self._does(Detector.OUTSIDE_WORK):
            self.runner.stop()
        name, free = (f"{op}, copied", body["nbytes"] / COPIED_PER_SECOND) if fds else (op, 0.0)
        self.aside.setdefault(name, []).append(self.runner.tree.cpu() - before - free)
        return reply

    def health(self) -> dict[str, float]:
        """Of the device that its calls run on."""
        return {}

    def calibrate(self) -> None:
        """What an empty window costs: the least ever seen, as all of a few may have waited."""
        empty = (self._timed(0, 0).took for _ in range(CALIBRATIONS))
        Calls.least_overhead = min(Calls.least_overhead, *empty)

    def verify(self, sets: int, first: int | None = None) -> float:
        """Verify single calls on several slots, one of them with the set `first`.

        Returns:
            The first call's time in microseconds.

        Raises:
            Wrong: an output is not what it should be.
            Broken: a rule was broken.
        """
        slots = self.random.sample(range(len(self.slots)), min(sets, len(self.slots)))
        if first is not None:
            wanted = self.slots.where(first)
            slots = [wanted, *(s for s in slots if s != wanted)][: len(slots)]
        if self.task.tolerance.bitwise_repeats:
            slots.append(slots[0])
        took = 0.0
        for number, slot in enumerate(slots):
            self.called.add((slot, self.slots.content(slot)))
            window = self.once(slot, twice=number == 0)
            took = took or window.us
        return took

    def once(self, slot: int, *, twice: bool = False, behind: int = 0) -> Window:
        """One verified call, behind others of the same window where nothing is changed by them."""
        mutated = bool(self.prepared.mutated)
        ring = max(len(self.slots), slot + 1)
        follows = self.probed is not None and bool(self.probed.before)
        changes = mutated or self.prepared.mutates_inputs
        behind = 0 if changes and not follows else min(behind, ring - 1)
        start = (slot - behind) % ring
        window = self._window(start, behind + 1, buffers=mutated, twice=twice, only=True)
        self.single_us = min(self.single_us or window.us, window.us)
        return window

    def _most(self, count: int) -> int:
        """No slot is called twice in a window; what calls change is good for one window."""
        if self.singly or (self.prepared.mutated and self._does(Detector.TIMED_CALLS)):
            return min(count, 1)
        once = self.freshens or self.prepared.mutates_inputs
        return min(count, len(self.slots)) if once else count

    def _audits(self) -> bool:
        """Whether the next window's last call is verified: always where it is cheap or asked."""
        share = LEAST_SHARE * self.comparison.cheap if self.lenient else self.comparison.share
        return self.thorough or self.random.random() < share

    def _window(
        self, start: int, count: int, *, buffers: bool = False, twice: bool, only: bool = False
    ) -> Window:
        """`only` verifying: contents then stay as they are."""
        with self.clock("" if only else "contents"):
            self._make_ready(start, 0 if only else count)
        timed = self._timed(start, count)
        if not only:
            self.clock.add("windows", timed.took * 1e3)
        twice = twice and not (self.lenient and not self.comparison.cheap)
        audit = only or (self._does(Detector.TIMED_CALLS) and (twice or self._audits()))
        if audit and (count == 1 or only or not self.prepared.buffers_matter):
            slot = (start + count - 1) % len(self.slots)
            buffers = buffers and (only or count == 1)
            with self.clock("" if only else "audits"):
                self._judge(slot, count, buffers=buffers, twice=twice, only=only)
        return timed.window(count, Calls.least_overhead, own=not self._does(Detector.CLOCK))

    def _make_ready(self, start: int, count: int) -> None:
        """Garbage away, poison laid, fresh contents; all windows alike, so that none stands out."""
        leaves = self.prepared.plain.leaves if self._does(Detector.POISON) else ()
        sizes = [leaf.span for leaf in leaves if 0 < leaf.span < POISON_LIMIT]
        self._ask_aside("restore", poison=sizes[:8])
        self._before_contents()
        fresh = count if self.freshens else 0
        if self.probed is None and (fresh or self.prepared.mutates_inputs):
            self.runner.stop()
            if fresh:
                self.slots.freshen(start, fresh)
            if self.prepared.mutates_inputs:
                self.slots.fill()
            self._after_contents()

    def _after_contents(self) -> None:
        """What must hold when contents have changed and the clock has not started."""

    def _timed(self, start: int, count: int, midway: Midway | None = None) -> Timed:
        before = self.runner.waited()
        self.outputs.mailbox.clear()
        took, own = self.runner.window(
            self.seconds,
            still=self._does(Detector.SETTLED),
            midway=midway,
            workload=self.prepared.workload.name,
            start=start,
            count=count,
        )
        return Timed(took, own, max(0.0, self.runner.waited() - before))

    def _before_contents(self) -> None:
        """What must hold before contents change: nobody may work on them until the clock starts."""

    def _judge(self, slot: int, count: int, *, buffers: bool, twice: bool, only: bool) -> None:
        try:
            self._verify(slot, count, buffers=buffers, twice=twice, only=only)
        except (Wrong, Broken) as error:
            if not self.lenient:
                raise
            self.faults.add(str(error))
        if not self._does(Detector.OUTSIDE_WORK):
            self.runner.go_on()

    def _verify(self, slot: int, count: int, *, buffers: bool, twice: bool, only: bool) -> None:
        """Judge the last outputs."""
        verifier = self.comparison.verifier(buffers=buffers)
        block = self._take(verifier, count, buffers=buffers, twice=twice, only=only)
        self.runner.stop()
        if self.probed is not None:
            self.comparison.check_probe(self.probed, block, buffers=buffers)
            return
        try:
            self.compare(slot, block, buffers=buffers)
        except Wrong as error:
            if block is not self.outbox.bytes:
                self._blame_lateness(verifier, slot)
            raise error if only else self.comparison.blame(error, block) from error
        self.check_inputs({slot})
        called = [(slot - n) % len(self.slots) for n in range(count)]
        if fault := self.slots.left_wrong(called, self.task.tolerance):
            self.object_to(Wrong(Detector.INPUTS, fault))

    def compare(self, slot: int, block: Array, *, buffers: bool = False) -> None:
        """With what is expected of what lies in the slot."""
        content = self.slots.content(slot)
        if content is not None:
            self.comparison.check(content, block, buffers=buffers)
            return
        assert self.fresh is not None
        self.comparison.check_fresh(self.fresh, self.slots.values(slot), block)

    def _take(
        self, verifier: Verifier, count: int, *, buffers: bool, twice: bool, only: bool
    ) -> Array:
        """The outputs, row-major: as they lay when the clock stopped, wherever they can be read."""
        settles = self._does(Detector.SETTLED)
        reads = settles and self.runner.peeks and self.outputs.known
        seen = (self._look() if twice else self.outputs.look()) if reads else None
        seen = None if self.runner.reaches else seen
        if seen is not None and seen.count != count:
            text = f"the answer came when {seen.count} of {count} calls had ended"
            raise Broken(Detector.SETTLED, text)
        copied = twice or buffers or seen is None
        reply = self._describe(verifier, buffers=buffers, copied=copied)
        covered = self.outputs.learn(reply)
        if seen is None:
            if twice and settles:
                self._again(verifier, buffers=buffers)
            return self.outbox.bytes
        self.outputs.confirm(seen, reply["pointers"])
        if covered:
            if copied and not self.comparison.equal(self.outputs.rows(), self.outbox.bytes):
                raise Broken(Detector.SETTLED, UNSETTLED)
            return self.outbox.bytes if buffers else self.outputs.rows()
        if not only:
            text = "an output lies otherwise in memory than when it was verified; return one kind"
            raise Broken(Detector.SETTLED, text)
        self._describe(verifier, buffers=buffers, copied=True)
        return self.outbox.bytes

    def _describe(self, verifier: Verifier, *, buffers: bool, copied: bool) -> dict[str, Any]:
        fds = [self.outbox.fd] if copied else []
        said = self._ask_aside("outcome", fds, buffers=buffers, nbytes=self.outbox.nbytes)
        reply = replies.outcome(said)
        self.comparison.header(verifier, reply)
        return reply

    def _again(self, verifier: Verifier, *, buffers: bool) -> None:
        """Where the runner's memory cannot be read, two copies must at least be the same."""
        early = self.outbox.bytes.copy()
        self.runner.go_on()
        time.sleep(PAUSE_SECONDS)
        self._describe(verifier, buffers=buffers, copied=True)
        if not same(early, self.outbox.bytes):
            raise Broken(Detector.SETTLED, UNSETTLED)

    def _look(self, midway: Midway | None = None) -> Seen:
        """Outputs as they lie while all stands, and whether all is where it belongs."""
        seen = self.outputs.look()
        if not seen.pointers:
            return seen
        if midway and midway.looked_at(seen.count) < seen.count:
            self.outputs.look(back=1)
        for objection in self._misplaced(seen):
            self.object_to(objection)
        return seen

    def _misplaced(self, seen: Seen) -> Iterable[Objection]:
        return places.objections(self.runner, self.ring, seen, self.prepared.may_alias)

    def _blame_lateness(self, verifier: Verifier, slot: int) -> None:
        """Outputs that were wrong when the clock stopped may be right by now."""
        self._describe(verifier, buffers=False, copied=True)
        with suppress(Wrong):
            self.compare(slot, self.outbox.bytes)
            raise Broken(Detector.SETTLED, "outputs were only finished when the clock had stopped")

    def check_inputs(self, slots: Iterable[int] | None = None) -> None:
        """Inputs must be as they were given, everywhere or in some slots."""
        if not self.prepared.mutates_inputs and not self.slots.unchanged(slots):
            self.object_to(Broken(Detector.INPUTS, CHANGED))

    def object_to(self, objection: Objection) -> None:
        if self._does(objection.detector):
            raise objection
