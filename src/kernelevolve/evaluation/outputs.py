"""Takes the outputs of calls out of a runner: as they lie in its memory, or as it copies them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from kernelevolve.core.detector import Detector
from kernelevolve.evaluation.blocks import BANKS, Mailbox
from kernelevolve.evaluation.layout import Array, Layout, Leaf, contiguous, packed, raw
from kernelevolve.evaluation.peek import Extent
from kernelevolve.evaluation.processes import Runner
from kernelevolve.evaluation.verify import Broken

SPREAD = 8
SPREAD_BYTES = 64 << 20
"""An output may be a part of a tensor that is larger by this much."""


@dataclass
class Seen:
    """What lay where the driver says that a call's outputs are, while its process stood still."""

    count: int
    """Calls that had ended."""
    pointers: list[int]


class Outputs:
    """Of one session. The first outputs are only described, so that later ones can be read."""

    def __init__(self, runner: Runner, plain: Layout, banks: int = BANKS) -> None:
        self._runner = runner
        self._plain = plain
        self.mailbox = Mailbox(len(plain.leaves), banks)
        self._lies: tuple[Leaf, ...] = ()
        """As described last; the extents of the next read."""
        self._taken: Array = np.empty(0, np.uint8)
        self._rows: Array = np.empty(0, np.uint8)

    @property
    def known(self) -> bool:
        """Whether outputs were described once."""
        return bool(self._lies) or not self._plain.leaves

    def look(self, back: int = 0) -> Seen:
        """Read outputs of the last ended call, or of one before it. The runner stands still.

        None has been seen to end where its outputs lie in memory that is not known yet.

        Raises:
            Broken: they are not where the driver noted.
        """
        seen = Seen(*self.mailbox.noted(back))
        if seen.count:
            extents = [
                Extent(pointer, leaf.offset, leaf.span)
                for pointer, leaf in zip(seen.pointers, self._lies, strict=False)
            ]
            if not self._read(extents):
                if self._runner.reaches:
                    return Seen(0, [])
                raise Broken(
                    Detector.SETTLED,
                    "a call's outputs are not in its process's memory when it has ended; return "
                    "tensors whose data is there, of the same extent in every call",
                )
        return seen

    def _read(self, extents: Sequence[Extent]) -> bool:
        return self._runner.read(extents, self._taken)

    def learn(self, reply: dict[str, Any]) -> bool:
        """Take note of a description; whether what was read before covers it."""
        count = len(self._plain.leaves)
        strides = reply["strides"][:count]
        described = [
            Leaf.parse([leaf.dtype, list(leaf.shape), stride, 0])
            for leaf, stride in zip(self._plain.leaves, strides, strict=True)
        ]
        covered = self.known and all(
            new.span <= old.span for new, old in zip(described, self._lies, strict=True)
        )
        if covered:
            self._lies = tuple(
                replace(new, offset=old.offset)
                for new, old in zip(described, self._lies, strict=True)
            )
            return True
        self._lies = packed([(d.dtype, d.shape, d.stride) for d in described])
        nbytes = Layout(None, self._lies).nbytes
        if nbytes > SPREAD * self._plain.nbytes + SPREAD_BYTES:
            raise Broken(
                Detector.SETTLED,
                f"the outputs are strewn over {nbytes >> 20} MB; return tensors of their own",
            )
        self._taken = np.zeros(nbytes, np.uint8)
        return False

    def confirm(self, seen: Seen, pointers: Sequence[object]) -> None:
        """The outputs that are described must be those that were read.

        Raises:
            Broken: others are described.
        """
        count = len(self._plain.leaves)
        if list(pointers[:count]) != seen.pointers[:count]:
            raise Broken(
                Detector.SETTLED,
                "other outputs are handed over than those that were there when the clock stopped",
            )

    def rows(self) -> Array:
        """What was read last, row-major."""
        if self._are_rows:
            return self._taken
        if not self._rows.size:
            self._rows = np.zeros(self._plain.nbytes, np.uint8)
        for lies, leaf in zip(self._lies, self._plain.leaves, strict=True):
            if leaf.elements:
                raw(leaf, self._rows)[...] = raw(lies, self._taken)
        return self._rows

    @property
    def _are_rows(self) -> bool:
        """Whether they lie row-major where they are."""
        return all(map(_is_row_major, self._lies, self._plain.leaves))

    def close(self) -> None:
        """Free the memory."""
        self.mailbox.close()


def _is_row_major(lies: Leaf, plain: Leaf) -> bool:
    if lies.offset != plain.offset:
        return False
    strides = zip(lies.shape, lies.stride, contiguous(lies.shape), strict=True)
    return lies.elements == 0 or all(n == 1 or mine == row for n, mine, row in strides)
