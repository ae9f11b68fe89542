"""Reads a runner's memory as it stands, without asking the runner. In the judge."""

import ctypes
import errno
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from kernelevolve.evaluation.layout import Array

LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.process_vm_readv.restype = ctypes.c_ssize_t
MOST = 512
"""Extents of one system call."""


class Extent(NamedTuple):
    """Bytes of a process, and where they belong in the judge's block."""

    address: int
    offset: int
    nbytes: int


class _IoVec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("nbytes", ctypes.c_size_t))


def permitted(pid: int) -> bool:
    """Whether the memory of a process may be read; ask before it runs anybody's code."""
    byte = ctypes.c_char()
    got = _read(pid, [Extent(0, 0, 1)], ctypes.addressof(byte))
    return got >= 0 or ctypes.get_errno() == errno.EFAULT


def read(pid: int, extents: Sequence[Extent], block: Array) -> bool:
    """Copy extents into a block of bytes; False where some byte of them cannot be read."""
    wanted = [e for e in extents if e.nbytes]
    base = block.ctypes.data
    return all(
        _read(pid, wanted[i : i + MOST], base) == sum(e.nbytes for e in wanted[i : i + MOST])
        for i in range(0, len(wanted), MOST)
    )


def files_behind(pid: int, addresses: Sequence[int]) -> set[int]:
    """Inodes of the files that are mapped where these addresses lie; best while it stands."""
    found = set()
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            extent, _, _, _, inode, *_ = line.split(maxsplit=5)
            begin, end = (int(part, 16) for part in extent.split("-"))
            if inode != "0" and any(begin <= address < end for address in addresses):
                found.add(int(inode))
    return found


def _read(pid: int, extents: Sequence[Extent], base: int) -> int:
    ours = (_IoVec * len(extents))(*[_IoVec(base + e.offset, e.nbytes) for e in extents])
    theirs = (_IoVec * len(extents))(*[_IoVec(e.address, e.nbytes) for e in extents])
    count = ctypes.c_ulong(len(extents))
    return int(LIBC.process_vm_readv(pid, ours, count, theirs, count, ctypes.c_ulong(0)))
