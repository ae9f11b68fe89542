"""Timed windows over one runner's calls on one workload, and stops in the middle of them.

In the judge.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kernelevolve.core.detector import Detector
from kernelevolve.evaluation import outside
from kernelevolve.evaluation.calls import Calls
from kernelevolve.evaluation.midway import Midway
from kernelevolve.evaluation.outputs import Seen
from kernelevolve.evaluation.verify import Broken, Unseen, Wrong
from kernelevolve.evaluation.window import Timed, Window

UNSEEN = "in {} windows no call was seen to end; measure again on a quieter machine"


@dataclass
class Session(Calls):
    """The same steps for a candidate and for a baseline, so that neither is favoured."""

    def window(self, count: int, *, twice: bool = False) -> Window:
        """A timed batch of `count` calls from a secret slot; the last call is verified."""
        start, buffers = self.slots.secret(), bool(self.prepared.mutated)
        return self._window(start, self._most(count), buffers=buffers, twice=twice)

    def spot(self, count: int) -> bool:
        """Stop a window at a secret moment and verify the call that had just ended; whether it did.

        Raises:
            Wrong: its outputs are not what they should be.
            Broken: the driver's count is not to be believed.
        """
        count = self._most(count)
        if count < 2 or not self._spots:
            return True
        start = self.slots.secret()
        found = list[Seen]()
        midway = Midway(
            ended=self.outputs.mailbox.ended,
            wanted=self.random.randrange(1, count),
            look=lambda: found.append(self._look(midway)),
        )
        self._make_ready(start, count)
        timed = self._timed(start, count, midway)
        self.clock.add("windows", timed.took * 1e3)
        done = found[0].count if found else 0
        self.runner.reach_for()
        done = self._still_there(midway, done, count)
        steady = self._steady(midway, timed, count, done)
        if done:
            self._check_midway((start + midway.looked_at(done) - 1) % len(self.slots))
        return 0 < done < count and steady

    def _still_there(self, midway: Midway, done: int, count: int) -> int:
        """How many calls had ended whose outputs were really seen: none where they had moved."""
        return done

    def _steady(self, midway: Midway, timed: Timed, count: int, done: int) -> bool:
        return self.pace.follow(midway, timed, count, done)

    def _check_midway(self, slot: int) -> None:
        try:
            self.compare(slot, self.outputs.rows())
        except Wrong as error:
            text = f"a call in the middle of a timed window: {error}"
            raise Wrong(Detector.TIMED_CALLS, text) from error

    def starts_threads(self) -> bool:
        """Whether threads or processes have started since this was asked last."""
        return self._does(Detector.TIMED_CALLS) and self.runner.starts_threads()

    def time_singly(self) -> None:
        """From now on each call is a window of its own, until everything was seen to stand."""
        self.singly = self.runner.tree.strict = True

    def unseen(self, windows: int) -> None:
        """So many windows were to be stopped midway, and in none was a call seen to end."""
        self.object_to(Unseen(Detector.TIMED_CALLS, UNSEEN.format(windows)))

    @property
    def _spots(self) -> bool:
        """Whether calls in the middle of windows can be verified."""
        sees = self.runner.peeks and self.outputs.known and self._does(Detector.TIMED_CALLS)
        return sees and self.runner.watched and not (self.lenient or self.prepared.buffers_matter)

    def check_aside(self, honest: Mapping[str, Sequence[float]], threads: int) -> None:
        """What was worked between the windows must be the driver's own work.

        Raises:
            Broken: it was clearly more than a baseline's, which was asked the same.
        """
        if reason := outside.excess(self.aside, honest, threads):
            self.object_to(Broken(Detector.OUTSIDE_WORK, reason))
