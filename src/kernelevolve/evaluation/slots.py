"""Where a session's input sets lie: in which slot which contents are, and how they move."""

from collections.abc import Iterable
from random import Random

from kernelevolve.core.task import Tolerance
from kernelevolve.evaluation.blocks import Block, same
from kernelevolve.evaluation.layout import Array
from kernelevolve.evaluation.pool import Prepared

MOVED_BYTES = 1 << 20
"""As many contents move at once as this allows; two at least."""


class Slots:
    """Shared memory with one set of inputs in each slot, in a secret order that changes."""

    def __init__(self, prepared: Prepared, ring: Block, random: Random) -> None:
        self._prepared = prepared
        self._ring = ring
        self._random = random
        count = len(prepared.contents)
        self._contents = random.sample(range(count), count)
        self._moves: list[tuple[int, int]] = []

    def __len__(self) -> int:
        """How many slots there are."""
        return len(self._contents)

    def content(self, slot: int) -> int:
        """Which of the pool's input sets lies in a slot."""
        return self._contents[slot]

    def where(self, content: int) -> int:
        """In which slot one of the pool's input sets lies."""
        return self._contents.index(content)

    def secret(self) -> int:
        """A slot to begin with."""
        return self._random.randrange(len(self))

    def fill(self, slots: Iterable[int] | None = None) -> None:
        """Put the contents where they belong, everywhere or in some slots."""
        for slot in range(len(self)) if slots is None else slots:
            self.part(slot)[:] = self._prepared.contents[self._contents[slot]]

    def unchanged(self, slots: Iterable[int] | None = None) -> bool:
        """Whether the inputs are as they were given."""
        return all(
            same(self.part(slot), self._prepared.contents[self._contents[slot]])
            for slot in (range(len(self)) if slots is None else slots)
        )

    def left_wrong(self, slots: Iterable[int], tolerance: Tolerance) -> str:
        """What is wrong with inputs that the reference changes, in slots called once; or empty."""
        left, given = self._prepared.left, self._prepared.contents
        for slot in slots if left.any else ():
            content = self._contents[slot]
            if fault := left.fault(content, given[content], self.part(slot), tolerance):
                return fault
        return ""

    def choose(self, slot: int) -> None:
        """Exchange this slot's contents with another's at the next `move`; more where cheap."""
        others = [other for other in range(len(self)) if other != slot]
        order = [slot, *self._random.sample(others, len(others))]
        pairs = max(1, MOVED_BYTES // (2 * self._prepared.inputs.nbytes))
        self._moves = list(zip(order[::2], order[1::2], strict=False))[:pairs]

    @property
    def moving(self) -> set[int]:
        """Slots whose contents will change."""
        return {slot for pair in self._moves for slot in pair}

    def move(self) -> None:
        """Exchange what was chosen, while the runner stands still."""
        changed, contents = self.moving, self._contents
        for a, b in self._moves:
            contents[a], contents[b] = contents[b], contents[a]
        self.fill(changed)
        self._moves = []

    def stay(self) -> None:
        """Forget what was chosen to move."""
        self._moves = []

    def part(self, slot: int) -> Array:
        """A slot's memory."""
        return self._ring.part(slot, self._prepared.inputs.nbytes)
