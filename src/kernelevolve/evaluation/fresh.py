"""Contents that nobody has seen, for timed calls: crossings of the pool's sets. In the judge.

Every element keeps its place, so what holds for each place (signs, ranges, the scale of a channel)
holds for the crossing too. What ascends, or seems to follow another rule along its rows, stays that
of one set; so do all integers and masks where the reference does not take them crossed. Tensors of
one size are crossed at the same places.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

import numpy as np

from kernelevolve.evaluation.bench import Bench
from kernelevolve.evaluation.domain import Domain, is_real, read
from kernelevolve.evaluation.expected import Reference, Yardstick
from kernelevolve.evaluation.layout import ITEM_SIZES, Array, Layout, Leaf
from kernelevolve.evaluation.probe import Skipped
from kernelevolve.evaluation.processes import Ended, Failed, Late
from kernelevolve.evaluation.wire import Malformed

ANOTHER_SET = 2.0
"""The pool's few sets do not hold the largest error of all: of thousands of calls of an honest
kernel one was off by 1.3 times a budget made of them."""
SHARE = 8
"""One element of so many changes each time, in small inputs."""
MOST = 1 << 13
"""Elements of one tensor that change at once."""
MOST_BLENDED = 1 << 16
"""Elements of a tensor that is mixed; of larger ones some elements are taken from others."""
BLENDED = ("float32", "float64")
SHARES = (0.1, 0.9)
FREE = ("real", "fixed")
"""Kinds of inputs whose elements are crossed one by one; `fixed` are complex and the like."""
UNSIGNED = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64, 16: np.complex128}
Change = dict[int, Array]
"""Places, by how many elements a tensor has."""


@dataclass(frozen=True)
class Field:
    """Where the elements of one tensor lie."""

    begin: int
    end: int
    size: int

    @property
    def count(self) -> int:
        """Elements in memory."""
        return (self.end - self.begin) // self.size

    def of(self, content: Array) -> Array:
        """Its elements, as they lie."""
        found: Array = content[self.begin : self.end].view(UNSIGNED[self.size])
        return found

    def among(self, block: Array, rows: Array, places: Array) -> tuple[Array, Array]:
        """All of a block of contents as elements, and where some places of some rows are."""
        elements: Array = block.reshape(-1).view(UNSIGNED[self.size])
        return elements, places + (rows * block.shape[1] + self.begin) // self.size


@dataclass(frozen=True)
class Blend:
    """A float tensor of few elements, every one of which changes: a mixture of two of the sets."""

    begin: int
    end: int
    domain: Domain
    sets: Array
    """One row for each."""

    @classmethod
    def of(cls, leaf: Leaf, domain: Domain, contents: Sequence[Array]) -> "Blend | None":
        """None for what can only be crossed."""
        if domain.kind != "real" or leaf.dtype not in BLENDED or leaf.elements > MOST_BLENDED:
            return None
        begin, end = leaf.offset, leaf.offset + leaf.span
        sets = np.stack([content[begin:end].view(leaf.dtype) for content in contents])
        return cls(begin, end, domain, sets) if np.isfinite(sets).all() else None

    def make(self, first: Array, second: Array, shares: Array) -> Array:
        """Bytes of mixtures, one for each share of the first of two sets."""
        mixed = self.sets[second]
        mixed += shares[:, None].astype(mixed.dtype) * (self.sets[first] - mixed)
        found: Array = np.clip(mixed, self.domain.low, self.domain.high, out=mixed).view(np.uint8)
        return found


class Crossing:
    """Mixes small tensors, and takes elements of others at random places from other sets."""

    def __init__(
        self,
        layout: Layout,
        domains: dict[int, Domain],
        contents: Sequence[Array],
        *,
        everything: bool,
    ) -> None:
        free = {i for i, d in domains.items() if d.kind in FREE}
        ruled = {i for i in domains.keys() - free if _follows_a_rule(layout.leaves[i], contents)}
        chosen = free if free and not everything else domains.keys() - ruled or domains.keys()
        chosen = {i for i in chosen if layout.leaves[i].span}
        blends = {i: Blend.of(layout.leaves[i], domains[i], contents) for i in sorted(chosen)}
        leaves = [layout.leaves[i] for i, blend in blends.items() if blend is None]
        self.blends = [blend for blend in blends.values() if blend is not None]
        self.fields = [Field(x.offset, x.offset + x.span, ITEM_SIZES[x.dtype]) for x in leaves]
        self._contents = contents

    @property
    def possible(self) -> bool:
        """Whether anything can be changed."""
        return bool(self.fields or self.blends) and len(self._contents) > 1

    def blend(self, random: Random, rows: Array, *blocks: Array) -> None:
        """Change `rows` of all of `blocks`, which are alike, in every element of small tensors.

        All tensors of a row are the same mixture, so that what is linear between them holds.
        """
        generator = np.random.default_rng(random.getrandbits(64))
        number, count = len(self._contents), len(rows)
        first = generator.integers(0, number, count)
        second = (first + generator.integers(1, number, count)) % number
        shares = generator.uniform(*SHARES, count)
        for blend in self.blends:
            values = blend.make(first, second, shares)
            for block in blocks:
                block[rows, blend.begin : blend.end] = values

    def prepare(self, random: Random) -> Change:
        """Random places for each size of tensor; they are shifted for each content."""
        generator = np.random.default_rng(random.getrandbits(64))
        found: Change = {}
        for count in {field.count for field in self.fields}:
            step = max(1, min(max(SHARE, count // MOST), count // 2))
            places = np.cumsum(generator.integers(1, 2 * step, max(1, count // step)))
            found[count] = places % count
        return found

    def cross(self, change: Change, random: Random, rows: Array, *blocks: Array) -> None:
        """Change `rows` of all of `blocks`, which are alike, each at its own secret places.

        Where the set that is drawn for a row has there what the row has, the next one is taken.
        """
        generator = np.random.default_rng(random.getrandbits(64))
        shifts = generator.integers(0, 1 << 30, (len(rows), 1))
        others = generator.integers(0, len(self._contents), len(rows))
        for _ in self._contents:
            moved = np.zeros(len(rows), bool)
            for number in np.unique(others):
                mine = others == number
                moved[mine] = self._take(number, change, rows[mine, None], shifts[mine], blocks)
            rows, shifts = rows[~moved], shifts[~moved]
            others = (others[~moved] + 1) % len(self._contents)

    def _take(
        self, number: int, change: Change, rows: Array, shifts: Array, blocks: Sequence[Array]
    ) -> Array:
        """Elements of one set into rows; which of the rows are others than before."""
        moved = np.zeros(len(rows), bool)
        for field in self.fields:
            places = change[field.count] + shifts % field.count
            np.subtract(places, field.count, out=places, where=places >= field.count)
            values = field.of(self._contents[number]).take(places, mode="clip")
            for position, block in enumerate(blocks):
                elements, where = field.among(block, rows, places)
                if not position:
                    moved |= (values != elements.take(where, mode="clip")).any(axis=1)
                elements.put(where, values, mode="clip")
        return moved


def _follows_a_rule(leaf: Leaf, contents: Sequence[Array]) -> bool:
    """Whether rows ascend or descend, hold no value twice, or have one sum.

    Offsets and padding, permutations, lengths and one-hot rows do.
    """
    rows = np.stack([np.atleast_1d(read(leaf, content)) for content in contents])
    sums = rows.sum(axis=-1, dtype=np.float64)
    return rows.shape[-1] > 1 and bool(
        (rows[..., 1:] >= rows[..., :-1]).all()
        or (rows[..., 1:] <= rows[..., :-1]).all()
        or (sums == sums.flat[0]).all()
        or (rows.dtype.kind in "iu" and _unique(rows))
    )


def _unique(rows: Array) -> bool:
    ordered = np.sort(rows, axis=-1)
    return bool((ordered[..., 1:] > ordered[..., :-1]).all())


@dataclass
class Fresh:
    """Of one workload: how contents are crossed, and what the reference gives for them."""

    bench: Bench
    _crossing: Crossing | None = None

    @property
    def crossing(self) -> Crossing | None:
        """None where the reference does not take crossed contents."""
        if self._crossing is None:
            prepared, domains = self.bench.prepared, self.bench.domains
            for everything in (True, False):
                self._crossing = Crossing(
                    prepared.inputs, domains, prepared.contents, everything=everything
                )
                self._possible = self._crossing.possible and self._taken(self._crossing)
                if self._possible:
                    break
        return self._crossing if self._possible else None

    def _taken(self, crossing: Crossing) -> bool:
        """Try it: rules between inputs, which are not known here, may forbid it."""
        prepared, random = self.bench.prepared, Random(f"{self.bench.seed}/crossing")
        content = prepared.contents[0].copy()
        crossing.blend(random, np.zeros(1, np.intp), content.reshape(1, -1))
        for _ in range(SHARE):
            change, row = crossing.prepare(random), np.zeros(1, np.intp)
            crossing.cross(change, random, row, content.reshape(1, -1))
        try:
            expected = self.expected(content)
        except (Skipped, Failed, Ended, Late, Malformed):
            self.bench.restart()
            return False
        natural = zip(expected, prepared.expected[0], strict=True)
        return not any(
            (np.isnan(mine.native) & ~np.isnan(theirs.native)).any()
            for mine, theirs in natural
            if is_real(mine.leaf)
        )

    @property
    def native_first(self) -> bool:
        """Whether the reference's own outputs can stand for the oracle's, which take longer."""
        return all(is_real(leaf) for leaf in self.bench.prepared.outputs.leaves)

    @property
    def yardsticks(self) -> list[Yardstick]:
        """What the budget for fresh contents is made of."""
        return [
            replace(y, rms=ANOTHER_SET * y.rms, maximum=ANOTHER_SET * y.maximum)
            for y in self.bench.prepared.yardsticks
        ]

    def native(self, content: Array) -> list[Reference]:
        """The reference's own outputs for fresh contents, as if they were exact.

        Raises:
            Skipped, Failed, Ended, Late, Malformed: the reference does not take them.
        """
        native = self.bench.native(content)
        return self.bench.answers().judge(self.bench.prepared.outputs, [native], [native])[0]

    def expected(self, content: Array) -> list[Reference]:
        """What the reference and the oracle give for fresh contents.

        Raises:
            Skipped, Failed, Ended, Late, Malformed: the reference does not take them.
        """
        native, oracle = self.bench.answer(content)
        return self.bench.answers().judge(self.bench.prepared.outputs, [native], [oracle])[0]
