"""The judge's hold on a runner whose kernels run on a GPU. In the judge."""

import socket
import time
from collections.abc import Mapping, Sequence
from typing import Any

from kernelevolve.evaluation import replies
from kernelevolve.evaluation.device import REST_SECONDS, Device, Reach
from kernelevolve.evaluation.layout import Array
from kernelevolve.evaluation.peek import Extent
from kernelevolve.evaluation.processes import Late, Runner
from kernelevolve.evaluation.tree import STOP_SECONDS


class DeviceRunner(Runner):
    """Its windows end when the device has no work left, whatever it answers.

    Outputs are read where they lie on the device. An allocation is within reach when the driver has
    handed it over once, which it is asked for when its memory could not be read.
    """

    on_device = True

    def __init__(
        self,
        control: socket.socket,
        status: socket.socket,
        log: int,
        *,
        isolated: bool,
        device: Device,
    ) -> None:
        super().__init__(control, status, log, isolated=isolated)
        self.device = device
        self._reach = Reach(device)
        self._wanted: Sequence[int] = ()
        self._answering = False
        self._freed: Any = None
        self.moved = False
        """Whether it gave memory back in its last window."""

    def _meet(self) -> None:
        super()._meet()
        self.peeks = bool(self.driver)

    def window_told(self, reply: Mapping[str, Any]) -> None:
        """Allocations that were given back may have become others: they are handed over again."""
        self.moved = reply.get("freed") != self._freed
        if self.moved:
            self._freed = reply.get("freed")
            self._reach.close()

    def _ended(self, seconds: float, *, still: bool) -> float:
        moment = self._rest()
        if still:
            self.stop()
            moment = moment if self.device.rests() else self._rest()
        return moment

    def _rest(self) -> float:
        """The moment when nobody worked on the device any more.

        Raises:
            Late: that never came; the runner is killed.
        """
        if (moment := self.device.rest()) is None:
            self.close()
            raise Late(REST_SECONDS)
        return moment

    def halt_midway(self) -> float:
        """Stop, and wait until the device has worked off what it was given until then."""
        self.stop()
        self._answering = True
        self._rest()
        return time.perf_counter()

    def go_on(self) -> None:
        """Undo `stop`."""
        self._answering = False
        super().go_on()

    def read(self, extents: Sequence[Extent], block: Array) -> bool:
        """Copy memory of the device; False where it is out of reach in the middle of an answer."""
        self._want(extents)
        return self._reach.read(extents, block)

    def keep(self, extents: Sequence[Extent], place: int) -> bool:
        """The same into the judge's memory on the device."""
        self._want(extents)
        return self._reach.keep(extents, place)

    def _want(self, extents: Sequence[Extent]) -> None:
        self._wanted = self._missing(extents)
        if self._wanted and not self._answering:
            self.reach_for()
            self._wanted = self._missing(extents)
            self.peeks = self.peeks and (self.device.shares or not self._wanted)

    def _missing(self, extents: Sequence[Extent]) -> Sequence[int]:
        return [e.address for e in extents if e.nbytes and self._reach.place(e) is None]

    @property
    def reaches(self) -> bool:
        """Whether memory could not be read yet, amid an answer, or never can be on this machine."""
        return bool(self._wanted) and (self._answering or not self.peeks)

    def reach_for(self) -> None:
        """Have the driver hand over memory that could not be read."""
        if self._answering or not self._wanted:
            return
        reply = self.ask("handles", STOP_SECONDS, addresses=list(self._wanted))
        self._reach.learn(replies.handles(reply))
        self.stop()

    def close(self) -> None:
        """Kill the whole tree and wait until it is gone."""
        self._reach.close()
        super().close()
