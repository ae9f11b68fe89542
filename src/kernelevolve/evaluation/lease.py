"""Who may use the processor for what: timing alone, builds together. Across processes and runs."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kernelevolve.config import cache_folder

FEW_CORES = 4


@contextmanager
def timing() -> Iterator[None]:
    """Exclusive: nobody else times, and on a small machine nobody builds."""
    with _held("gate", fcntl.LOCK_EX):
        lock = _lock("timing", fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(lock)


@contextmanager
def device(index: int) -> Iterator[None]:
    """Exclusive: one judge at a time works on a GPU, as each must see whether it rests."""
    with _held(f"device{index}", fcntl.LOCK_EX):
        yield


@contextmanager
def building() -> Iterator[None]:
    """Shared with other builds; waits for a timing on a machine with few processor cores."""
    if (os.cpu_count() or 1) >= FEW_CORES:
        yield
        return
    with _held("gate", fcntl.LOCK_EX):
        lock = _lock("timing", fcntl.LOCK_SH)
    try:
        yield
    finally:
        os.close(lock)


@contextmanager
def _held(name: str, kind: int) -> Iterator[None]:
    lock = _lock(name, kind)
    try:
        yield
    finally:
        os.close(lock)


def _lock(name: str, kind: int) -> int:
    folder: Path = cache_folder() / "lanes"
    folder.mkdir(parents=True, exist_ok=True)
    fd = os.open(folder / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    fcntl.flock(fd, kind)
    return fd
