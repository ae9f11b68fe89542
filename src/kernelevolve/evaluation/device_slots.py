"""Input sets on a device: the pool's sets lie there, slots are made of them. In the judge.

A call takes microseconds and its inputs may be large, so a window needs many slots, each with
contents of its own: they are copied and crossed on the device. The judge remembers how each was
made, and makes the same in its own memory for the few that are verified.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np

from kernelevolve.core.task import Tolerance
from kernelevolve.evaluation.device import Device, Shared
from kernelevolve.evaluation.fresh import Change, Crossing
from kernelevolve.evaluation.layout import PAGE, Array
from kernelevolve.evaluation.pool import Prepared

MOST_SLOTS = 512
LEAST_SLOTS = 4
SHARE = 4
"""Of a session's part of the device's memory, one part in so many is for its slots."""
LAYERS = 2
"""A slot's contents are crossed with so many other sets."""
CACHES = 2.5
"""Slots take at least this many times the last cache, so that no call finds its inputs there."""


class DeviceRing:
    """Memory for slots on a device, and for the pool's sets behind the judge's own door."""

    def __init__(self, device: Device, sets: Sequence[Array], nbytes: int, memory: int) -> None:
        self.device, self.size = device, nbytes
        room = max(LEAST_SLOTS, min(MOST_SLOTS, memory // SHARE // nbytes))
        self.slots = max(len(sets), room)
        self._memory = Shared(device, nbytes * self.slots + PAGE)
        self._masters = Shared(device, nbytes * (len(sets) + 1))
        self.scratch = self._masters.place + nbytes * len(sets)
        """Where the judge makes contents once more."""
        for number, content in enumerate(sets):
            self._masters.write(number * nbytes, content)
        self.nbytes = self.device_bytes = self._memory.nbytes

    @property
    def shared(self) -> int:
        """The descriptor of the memory that runners map."""
        return self._memory.fd

    def slot(self, number: int) -> int:
        """Where a slot lies on the device."""
        return self._memory.place + number * self.size

    def master(self, number: int) -> int:
        """Where one of the pool's sets lies on the device."""
        return self._masters.place + number * self.size

    def put(self, slot: int, content: Array, offset: int = 0) -> None:
        """Write into a slot."""
        self._memory.write(slot * self.size + offset, content)

    def fill(self, slot: int, number: int) -> None:
        """Copy one of the pool's sets into a slot."""
        self._copy(self.slot(slot), number)

    def renew(self, number: int) -> None:
        """Begin contents of the judge's own with one of the pool's sets."""
        self._copy(self.scratch, number)

    def correct(self, offset: int, values: Array) -> None:
        """Go on with other bytes of them."""
        self._masters.write(self.scratch - self._masters.place + offset, values)

    def _copy(self, target: int, number: int) -> None:
        given = (target, self.master(number), self.size, 0)
        self.device.call(self.device.cuda.cuMemcpyDtoDAsync(*given))

    def differs(self, slot: int, place: int) -> bool:
        """Whether a slot holds something else than what lies at a place."""
        return self.device.kernels.differ(self.slot(slot), place, self.size)

    def seen(self, slot: int) -> Array:
        """What calls left in a slot."""
        found = np.empty(self.size, np.uint8)
        self._memory.read(slot * self.size, found)
        return found

    def close(self) -> None:
        """Free the memory."""
        self._memory.close()
        self._masters.close()


@dataclass(frozen=True)
class Layer:
    """Elements of another set that a slot took."""

    change: Change
    other: int
    shift: int


@dataclass(frozen=True)
class Made:
    """How a slot's contents were made of the pool's sets."""

    base: int
    layers: tuple[Layer, ...] = ()
    blends: tuple[Array, ...] = ()
    """Bytes of small tensors, in the crossing's order."""


class DeviceSlots:
    """Slots on a device, each with one set of inputs, in a secret order."""

    def __init__(
        self, prepared: Prepared, ring: DeviceRing, random: Random, crossing: Crossing | None
    ) -> None:
        self._prepared, self._ring = prepared, ring
        self._random, self._crossing = random, crossing
        count = len(prepared.contents)
        self._made = [Made(number) for number in random.sample(range(count), count)]
        self._fresh: set[int] = set()
        self._known: tuple[Made, Array] | None = None

    def __len__(self) -> int:
        """How many slots there are."""
        return len(self._made)

    @property
    def nbytes(self) -> int:
        """Memory of all slots in use."""
        return len(self) * self._ring.size

    def content(self, slot: int) -> int | None:
        """Which of the pool's input sets lies in a slot; None for fresh contents."""
        return None if slot in self._fresh else self._made[slot].base

    def values(self, slot: int) -> Array:
        """What lies in a slot, or should."""
        made = self._made[slot]
        if slot not in self._fresh:
            return self._prepared.contents[made.base]
        if self._known is None or self._known[0] is not made:
            self._known = made, self._make(made)
        return self._known[1]

    def _make(self, made: Made) -> Array:
        assert self._crossing is not None
        content = self._prepared.contents[made.base].copy()
        for blend, values in zip(self._crossing.blends, made.blends, strict=True):
            content[blend.begin : blend.end] = values
        for layer in made.layers:
            other = self._prepared.contents[layer.other]
            for field in self._crossing.fields:
                places = (layer.change[field.count] + layer.shift) % field.count
                field.of(content)[places] = field.of(other)[places]
        return content

    def place(self, slot: int) -> int:
        """Where on the device lies what should lie in a slot, until this is asked again."""
        made, ring = self._made[slot], self._ring
        if slot not in self._fresh:
            return ring.master(made.base)
        assert self._crossing is not None
        ring.renew(made.base)
        for blend, values in zip(self._crossing.blends, made.blends, strict=True):
            ring.correct(blend.begin, values)
        for layer in made.layers:
            self._take(layer.change, [ring.scratch], [layer.other], np.array([layer.shift]))
        ring.device.finish()
        return ring.scratch

    def where(self, content: int) -> int:
        """In which slot one of the pool's input sets lies, before contents are freshened."""
        return next(i for i, made in enumerate(self._made) if made.base == content)

    def secret(self) -> int:
        """A slot to begin with."""
        return self._random.randrange(len(self))

    def reset(self) -> None:
        """The pool's sets everywhere, none of them fresh, in as many slots as there are sets."""
        del self._made[len(self._prepared.contents) :]
        bases = self._random.sample(range(len(self._made)), len(self._made))
        self._made = [Made(base) for base in bases]
        self._fresh.clear()
        self.fill()

    def fill(self, slots: Iterable[int] | None = None) -> None:
        """Put the contents where they belong, everywhere or in some slots."""
        for slot in range(len(self)) if slots is None else slots:
            if slot in self._fresh:
                self._ring.put(slot, self.values(slot))
            else:
                self._ring.fill(slot, self._made[slot].base)
        self._ring.device.finish()

    def put(self, slot: int, content: Array) -> None:
        """Something else than the pool's contents, for one call."""
        self._ring.put(slot, content)

    def seen(self, slot: int) -> Array:
        """What calls left in a slot."""
        return self._ring.seen(slot)

    def widen(self, count: int) -> bool:
        """Use that many slots from now on, as far as there is room; whether these are more."""
        before = len(self)
        cache = int(CACHES * self._prepared.place.cache) // self._ring.size
        more = min(max(count, cache), self._ring.slots) - before
        sets = range(len(self._prepared.contents))
        self._made += [Made(base) for base in self._random.choices(sets, k=max(0, more))]
        self.fill(range(before, len(self)))
        return len(self) > before

    def unchanged(self, slots: Iterable[int] | None = None) -> bool:
        """Whether the inputs are as they were given."""
        chosen = range(len(self._prepared.contents)) if slots is None else slots
        return not any(self._ring.differs(slot, self.place(slot)) for slot in chosen)

    def left_wrong(self, slots: Iterable[int], tolerance: Tolerance) -> str:
        """What is wrong with inputs that the reference changes, in slots called once; or empty."""
        left, given = self._prepared.left, self._prepared.contents
        for slot in slots if left.any else ():
            content = self._made[slot].base
            if fault := left.fault(content, given[content], self.seen(slot), tolerance):
                return fault
        return ""

    def freshen(self, start: int, count: int) -> None:
        """Other contents in `count` slots from `start`, while the runner stands still."""
        assert self._crossing is not None
        chosen = [(start + n) % len(self) for n in range(count)]
        generator = np.random.default_rng(self._random.getrandbits(64))
        sets = len(self._prepared.contents)
        bases = generator.integers(0, sets, count)
        for slot, base in zip(chosen, bases.tolist(), strict=True):
            self._ring.fill(slot, base)
        layers = [self._cross(chosen, bases, generator) for _ in range(LAYERS)]
        blends = self._blend(chosen, generator)
        for number, slot in enumerate(chosen):
            mine = tuple(layer[number] for layer in layers)
            blent = tuple(values[number] for values in blends)
            self._made[slot] = Made(int(bases[number]), mine, blent)
        self._fresh.update(chosen)
        self._ring.device.finish()

    def _cross(self, chosen: list[int], bases: Array, generator: Any) -> list[Layer]:
        """Elements of other sets into slots, each at its own secret places."""
        assert self._crossing is not None
        sets, count = len(self._prepared.contents), len(chosen)
        others = (bases + generator.integers(1, sets, count)) % sets
        shifts = generator.integers(0, 1 << 30, count)
        change = self._crossing.prepare(self._random)
        slots = [self._ring.slot(slot) for slot in chosen]
        self._take(change, slots, others.tolist(), shifts)
        mine = zip(others.tolist(), shifts.tolist(), strict=True)
        return [Layer(change, other, shift) for other, shift in mine]

    def _take(self, change: Change, targets: list[int], others: list[int], shifts: Array) -> None:
        """Elements of other sets to places on the device."""
        assert self._crossing is not None
        slots = np.array(targets, np.uint64)
        masters = np.array([self._ring.master(other) for other in others], np.uint64)
        for field in self._crossing.fields:
            begin, places = np.uint64(field.begin), change[field.count].astype(np.uint64)
            moved = (shifts % field.count).astype(np.uint64)
            self._ring.device.kernels.cross(
                field.size, field.count, places, slots + begin, masters + begin, moved
            )

    def _blend(self, chosen: list[int], generator: Any) -> list[Array]:
        """Small tensors of slots, every element of which is a mixture of two sets."""
        assert self._crossing is not None
        sets, count = len(self._prepared.contents), len(chosen)
        first = generator.integers(0, sets, count)
        second = (first + generator.integers(1, sets, count)) % sets
        shares = generator.uniform(0.1, 0.9, count)
        found = []
        for blend in self._crossing.blends:
            values = np.ascontiguousarray(blend.make(first, second, shares))
            for number, slot in enumerate(chosen):
                self._ring.put(slot, values[number], blend.begin)
            found.append(values)
        return found
