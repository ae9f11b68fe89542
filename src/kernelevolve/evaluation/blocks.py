"""Shared memory on the judge's side."""

import ctypes
import fcntl
import mmap
import os
from functools import cached_property

import numpy as np

from kernelevolve.evaluation.layout import Array

HUGE_PAGE = 2 << 20
BANKS = 3
"""Of addresses in a mailbox, where a device does not allow for more."""
LIBC = ctypes.CDLL(None)
LIBC.memcmp.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)


class Block:
    """Anonymous memory that can be passed to a runner by its descriptor."""

    def __init__(self, nbytes: int) -> None:
        self.nbytes = max(nbytes, mmap.PAGESIZE)
        self.fd = os.memfd_create("block", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
        os.ftruncate(self.fd, self.nbytes)
        seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW
        fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, seals)
        self._map = mmap.mmap(self.fd, self.nbytes)
        if self.nbytes >= HUGE_PAGE:
            self._map.madvise(mmap.MADV_HUGEPAGE)
        self.bytes: Array = np.frombuffer(self._map, dtype=np.uint8)

    @cached_property
    def shadow(self) -> Array:
        """As much memory of the judge's own, for copies of what lies here; taken when touched."""
        return np.empty(self.nbytes, np.uint8)

    def part(self, index: int, nbytes: int) -> Array:
        """One of several equal parts."""
        return self.bytes[index * nbytes : (index + 1) * nbytes]

    def put(self, index: int, content: Array) -> None:
        """Fill one of several equal parts, for runners to see."""
        self.part(index, content.nbytes)[:] = content
        self.publish(index, content.nbytes)

    def seen(self, index: int, nbytes: int) -> Array:
        """One of several equal parts as runners left it."""
        self.fetch(index, nbytes)
        return self.part(index, nbytes)

    device_bytes: int = 0
    """Of the memory on a device that runners map instead; 0 where they map this one."""

    @property
    def shared(self) -> int:
        """The descriptor of the memory that runners map."""
        return self.fd

    def publish(self, index: int, nbytes: int) -> None:
        """Let runners see what was written to a part: they share this memory."""

    def fetch(self, index: int, nbytes: int) -> None:
        """See what runners wrote to a part: this memory is theirs."""

    def close(self) -> None:
        """Forget it; runners that mapped it keep their view."""
        os.close(self.fd)


class Mailbox(Block):
    """Where a driver notes, call by call, how many calls have ended and where their outputs lie.

    First the count, then banks of addresses that are used in turn: while one is written the others
    hold those of the calls before, whose outputs the driver keeps.
    """

    def __init__(self, outputs: int, banks: int = BANKS) -> None:
        self.outputs, self.banks = max(1, outputs), banks
        super().__init__(8 * (1 + banks * self.outputs))
        self._words = memoryview(self._map).cast("Q")

    def clear(self) -> None:
        """No call has ended yet."""
        self.bytes[:] = 0

    def ended(self) -> int:
        """How many calls of the window under way have ended, by the driver's word."""
        return self._words[0]

    def noted(self, back: int = 0) -> tuple[int, list[int]]:
        """Calls that ended, and addresses of the last one's outputs; while the runner stands.

        Of one so many calls before it with `back`. It is the runner's word: whatever it says must
        be seen in its memory.
        """
        words = self._words
        count = words[0]
        bank = 1 + ((count - 1 - back) % self.banks) * self.outputs
        return count, words[bank : bank + self.outputs].tolist()


def sealed_copy(data: Array) -> int:
    """A descriptor of the same bytes that nobody can change any more."""
    fd = os.memfd_create("sealed", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
    view = memoryview(data.data)
    while view:
        view = view[os.write(fd, view) :]
    seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd


def same(a: Array, b: Array) -> bool:
    """Whether two contiguous blocks hold the same bytes."""
    return a.nbytes == b.nbytes and not LIBC.memcmp(a.ctypes.data, b.ctypes.data, a.nbytes)
