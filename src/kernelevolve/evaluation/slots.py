"""Where a session's input sets lie: in which slot which contents are, and how they change."""

from collections.abc import Iterable
from random import Random

import numpy as np

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
        self._size = prepared.inputs.nbytes
        self._room = ring.nbytes // self._size
        self._fresh: set[int] = set()
        """Slots whose contents are of no set any more; the ring's shadow has copies of them."""

    def __len__(self) -> int:
        """How many slots there are."""
        return len(self._contents)

    @property
    def nbytes(self) -> int:
        """Memory of all slots in use."""
        return len(self) * self._size

    def content(self, slot: int) -> int | None:
        """Which of the pool's input sets lies in a slot; None for fresh contents."""
        return None if slot in self._fresh else self._contents[slot]

    def values(self, slot: int) -> Array:
        """What lies in a slot, or should."""
        if slot in self._fresh:
            return self._ring.shadow[slot * self._size : (slot + 1) * self._size]
        return self._prepared.contents[self._contents[slot]]

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
            self._ring.put(slot, self.values(slot))

    def widen(self, count: int) -> bool:
        """Use that many slots from now on, as far as there is room; whether these are more."""
        before = len(self)
        sets = range(len(self._prepared.contents))
        self._contents += self._random.choices(sets, k=max(0, min(count, self._room) - before))
        self.fill(range(before, len(self)))
        return len(self) > before

    def unchanged(self, slots: Iterable[int] | None = None) -> bool:
        """Whether the inputs are as they were given."""
        return all(
            same(self.seen(slot), self.values(slot))
            for slot in (range(len(self)) if slots is None else slots)
        )

    def freshen(self, start: int, count: int) -> None:
        """Change the contents of `count` slots from `start`, while the runner stands still."""
        assert self._crossing is not None
        chosen = np.arange(start, start + count) % len(self)
        new = [slot for slot in chosen.tolist() if slot not in self._fresh]
        mine, theirs = self._rows(self._ring.shadow), self._rows(self._ring.bytes)
        for slot in new:
            mine[slot] = self.values(slot)
        self._fresh.update(new)
        self._crossing.blend(self._random, chosen, mine, theirs)
        change = self._crossing.prepare(self._random)
        for rows in (chosen, *[np.array(new, np.intp)] * (AT_FIRST - 1)):
            self._crossing.cross(change, self._random, rows, mine, theirs)
        for slot in chosen.tolist():
            self._ring.publish(slot, self._size)

    def _rows(self, memory: Array) -> Array:
        return memory[: self._room * self._size].reshape(self._room, self._size)

    def left_wrong(self, slots: Iterable[int], tolerance: Tolerance) -> str:
        """What is wrong with inputs that the reference changes, in slots called once; or empty."""
        left, given = self._prepared.left, self._prepared.contents
        for slot in slots if left.any else ():
            content = self._contents[slot]
            if fault := left.fault(content, given[content], self.seen(slot), tolerance):
                return fault
        return ""

    def seen(self, slot: int) -> Array:
        """What calls left in a slot."""
        return self._ring.seen(slot, self._size)

    def put(self, slot: int, content: Array) -> None:
        """Something else than the pool's contents, for one call."""
        self._ring.put(slot, content)
