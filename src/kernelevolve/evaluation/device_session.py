"""One runner on one workload whose calls run on a GPU. In the judge."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from statistics import median
from typing import ClassVar

from kernelevolve.core.detector import Detector
from kernelevolve.evaluation.blocks import BANKS
from kernelevolve.evaluation.calls import CALIBRATIONS, Calls
from kernelevolve.evaluation.device_outputs import DeviceOutputs, Glance
from kernelevolve.evaluation.device_runner import DeviceRunner
from kernelevolve.evaluation.device_slots import SHARE, DeviceSlots
from kernelevolve.evaluation.fresh import Crossing
from kernelevolve.evaluation.midway import Midway
from kernelevolve.evaluation.outputs import Seen
from kernelevolve.evaluation.processes import Runner
from kernelevolve.evaluation.session import Session
from kernelevolve.evaluation.verify import Broken, Objection
from kernelevolve.evaluation.window import Timed

MOST_KEPT = 512
"""Outputs of one window, which take no more memory of the device than its slots."""
OVERHEAD_LIMIT = 1e-3
"""Seconds; no device needs more to change from the judge to a runner and back."""
WORKS_ON = "the device worked on when all calls had ended; leave no kernel running behind a call"


STIRS = "the device worked when new inputs were written, before the calls on them had begun"
STIRRED_SECONDS = 3e-4
"""No device at rest takes so long to answer, and none that works for somebody else is quicker."""
MOST_STIRS = 4
"""Windows before which that was seen; a judge that loses its core for a moment may think so."""


@dataclass
class DeviceSession(Session):
    """Slots lie on the device, and windows begin and end while it has no work."""

    stirs: int = 0
    """Windows before which the device did not answer at once, although all stood."""
    on_device: ClassVar[bool] = True

    def _slots(self, crossing: Crossing | None) -> DeviceSlots:
        return DeviceSlots(self.prepared, self.ring, self.random, crossing)

    def _outputs(self) -> DeviceOutputs:
        assert isinstance(self.runner, DeviceRunner)
        return DeviceOutputs(self.runner, self.prepared.plain, self._banks)

    def calibrate(self) -> None:
        """What an empty window usually costs: to change over from one process to another is long.

        Only a baseline says it, as a candidate could make it seem longer than it is.
        """
        if self.lenient:
            Calls.least_overhead = min(OVERHEAD_LIMIT, median(self._empty_windows()))

    def _empty_windows(self) -> Iterator[float]:
        """Seconds of windows without a call, behind contents that were made as for any other."""
        for _ in range(CALIBRATIONS):
            self._make_ready(self.slots.secret(), len(self.slots))
            yield self._timed(0, 0).took

    def health(self) -> dict[str, float]:
        """Clocks, heat and company of the device."""
        assert isinstance(self.runner, DeviceRunner)
        return self.runner.device.health()

    def _before_contents(self) -> None:
        """The device rests and the runner stands: nobody meets contents before the clock starts."""
        self.runner.stop()
        assert isinstance(self.runner, DeviceRunner)
        if self.runner.device.rest() is None:
            self.object_to(Broken(Detector.OUTSIDE_WORK, WORKS_ON))
        self.runner.device.forget()

    @property
    def _banks(self) -> int:
        """As many as memory allows: any call of a window may be the one that is verified."""
        nbytes = max(1, self.prepared.plain.nbytes)
        return max(BANKS, min(MOST_KEPT, self.prepared.place.memory // SHARE // nbytes) + 1)

    def _after_contents(self) -> None:
        """What the judge wrote into slots must not have set anything going."""
        assert isinstance(self.runner, DeviceRunner)
        self.stirs += self.runner.device.probe() > STIRRED_SECONDS
        if self.stirs >= MOST_STIRS:
            self.object_to(Broken(Detector.OUTSIDE_WORK, STIRS))

    def _back(self, ended: int) -> int:
        """A secret call among those whose outputs are kept, counted from the last one back."""
        return self.random.randrange(max(1, min(ended, self.outputs.mailbox.banks - 1)))

    def _judge(self, slot: int, count: int, *, buffers: bool, twice: bool, only: bool) -> None:
        """Any call of a timed window, once outputs like its own were described."""
        back = 0 if only or twice or buffers or not self._spots else self._back(count)
        seen = self.outputs.look(back) if back else None
        if seen is None or self.runner.reaches:
            super()._judge(slot, count, buffers=buffers, twice=twice, only=only)
            return
        if seen.count != count:
            text = f"the answer came when {seen.count} of {count} calls had ended"
            raise Broken(Detector.SETTLED, text)
        self._check_midway((slot - back) % len(self.slots))

    def _check_midway(self, slot: int) -> None:
        if not self._passes_there(slot):
            super()._check_midway(slot)

    def _passes_there(self, slot: int) -> bool:
        """Whether outputs were seen on the device to be right; large ones take long to fetch."""
        assert isinstance(self.runner, DeviceRunner) and isinstance(self.outputs, DeviceOutputs)
        place, fresh = self.outputs.place, self.fresh
        if place is None or fresh is None or self.slots.content(slot) is not None:
            return False
        if not fresh.native_first:
            return False
        verifier = self.prepared.verifier(self.task, self.without, buffers=False)
        glance = Glance(self.runner.device.kernels, verifier, fresh.yardsticks)
        return glance.accepts(place, fresh.bench.native_there(self.slots.place(slot)))

    def _look(self, midway: Midway | None = None) -> Seen:
        seen = super()._look()
        if midway is None or not seen.count:
            return seen
        midway.back = self._back(seen.count)
        older = self.outputs.look(midway.back)
        return Seen(seen.count if older.pointers else 0, older.pointers)

    def _still_there(self, midway: Midway, done: int, count: int) -> int:
        """Where memory was given back meanwhile, what was read may have been other memory by then.

        So it is read when the window has ended, as all its outputs are kept.
        """
        assert isinstance(self.runner, DeviceRunner)
        back = count - midway.looked_at(done)
        if not done or not self.runner.moved or back >= self.outputs.mailbox.banks - 1:
            return done
        return done if self.outputs.look(back).pointers else 0

    def _steady(self, midway: Midway, timed: Timed, count: int, done: int) -> bool:
        """Calls are given to the device ahead of their time: their count has no pace."""
        return True

    def _misplaced(self, seen: Seen) -> Iterable[Objection]:
        """Where outputs lie is seen when they are described."""
        return ()


def session_for(runner: Runner) -> type[Session]:
    """The kind of session that a runner's calls need."""
    return DeviceSession if runner.on_device else Session
