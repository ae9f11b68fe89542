"""Where a session's input sets lie: in which slot which contents are, and how they change."""

from collections.abc import Iterable
from random import Random

from kernelevolve.core.task import Tolerance
from kernelevolve.evaluation.blocks import Block, same
from kernelevolve.evaluation.fresh import Crossing
from kernelevolve.evaluation.layout import Array
from kernelevolve.evaluation.pool import Prepared

AT_FIRST = 3
"""Sets are few: a slot's first fresh contents are crossed so often, to be like no other's."""


class Slots:
    """Shared memory with one set of inputs in each slot, in a secret order."""

    def __init__(
        self, prepared: Prepared, ring: Block, random: Random, crossing: Crossing | None = None
    ) -> None:
        self._prepared = prepared
        self._ring = ring
        self._random = random
        self._crossing = crossing
        count = len(prepared.contents)
        self._contents = random.sample(range(count), count)
        self._fresh: dict[int, Array] = {}
        """Our copies of what lies in slots whose contents are of no set any more."""

    def __len__(self) -> int:
        """How many slots there are."""
        return len(self._contents)

    @property
    def nbytes(self) -> int:
        """Memory of all slots in use."""
        return len(self) * self._prepared.inputs.nbytes

    def content(self, slot: int) -> int | None:
        """Which of the pool's input sets lies in a slot; None for fresh contents."""
        return None if slot in self._fresh else self._contents[slot]

    def values(self, slot: int) -> Array:
        """What lies in a slot, or should."""
        pristine = self._prepared.contents[self._contents[slot]]
        return self._fresh.get(slot, pristine)

    def where(self, content: int) -> int:
        """In which slot one of the pool's input sets lies, before contents are freshened."""
        return self._contents.index(content)

    def secret(self) -> int:
        """A slot to begin with."""
        return self._random.randrange(len(self))

    def reset(self) -> None:
        """The pool's sets everywhere, none of them fresh, in as many slots as there are sets."""
        self._fresh.clear()
        del self._contents[len(self._prepared.contents) :]
        self.fill()

    def fill(self, slots: Iterable[int] | None = None) -> None:
        """Put the contents where they belong, everywhere or in some slots."""
        for slot in range(len(self)) if slots is None else slots:
            self.part(slot)[:] = self.values(slot)

    def widen(self, count: int) -> bool:
        """Use that many slots from now on, as far as there is room; whether these are more."""
        before = len(self)
        room = self._ring.nbytes // max(1, self._prepared.inputs.nbytes)
        sets = range(len(self._prepared.contents))
        self._contents += self._random.choices(sets, k=max(0, min(count, room) - before))
        self.fill(range(before, len(self)))
        return len(self) > before

    def unchanged(self, slots: Iterable[int] | None = None) -> bool:
        """Whether the inputs are as they were given."""
        return all(
            same(self.part(slot), self.values(slot))
            for slot in (range(len(self)) if slots is None else slots)
        )

    def freshen(self, start: int, count: int) -> None:
        """Change the contents of `count` slots from `start`, while the runner stands still."""
        assert self._crossing is not None
        crossing = self._crossing
        change = crossing.prepare(self._random)
        for slot in (number % len(self) for number in range(start, start + count)):
            times = 1 if slot in self._fresh else AT_FIRST
            mine = self._fresh[slot] if slot in self._fresh else self.values(slot).copy()
            self._fresh[slot] = mine
            for _ in range(times):
                crossing.cross(change, self._random, mine, self.part(slot))

    def left_wrong(self, slots: Iterable[int], tolerance: Tolerance) -> str:
        """What is wrong with inputs that the reference changes, in slots called once; or empty."""
        left, given = self._prepared.left, self._prepared.contents
        for slot in slots if left.any else ():
            content = self._contents[slot]
            if fault := left.fault(content, given[content], self.part(slot), tolerance):
                return fault
        return ""

    def part(self, slot: int) -> Array:
        """A slot's memory."""
        return self._ring.part(slot, self._prepared.inputs.nbytes)
