"""Removes what old runs left: journals, blobs, builds, written results."""

import shutil
import time
from pathlib import Path

from kernelevolve.core.errors import LeaseHeld
from kernelevolve.core.record import Record
from kernelevolve.stores.sqlite import Sqlite

DAY = 86400.0
KEPT_BUILDS = "builds"
WRITTEN_RESULTS = "results"


class Cleaned(Record):
    """What was removed, or would be."""

    runs: tuple[str, ...]
    """Their names."""
    builds: int
    """Folders of builds."""
    bytes: int
    """Size of builds and results; a journal's size shows only when it is gone."""
    busy: tuple[str, ...] = ()
    """Runs that stay because a live process writes them."""


def clean(store: Sqlite, folder: Path, older_than_days: float, dry_run: bool) -> Cleaned:
    """Remove runs whose last event, and builds whose last use, is older than that."""
    before = time.time() - older_than_days * DAY
    old = [run for run in store.runs() if store.read(run)[-1].at < before]
    builds = [p for p in _children(folder / KEPT_BUILDS) if p.stat().st_mtime < before]
    results = [p for p in _children(folder / WRITTEN_RESULTS) if p.name in old]
    size = sum(_size(path) for path in (*builds, *results))
    if dry_run:
        return Cleaned(runs=tuple(old), builds=len(builds), bytes=size)
    busy = [run for run in old if not _deleted(store, run)]
    for path in (*builds, *(p for p in results if p.name not in busy)):
        shutil.rmtree(path, ignore_errors=True)
    size += store.vacuum()
    removed = tuple(run for run in old if run not in busy)
    return Cleaned(runs=removed, builds=len(builds), bytes=size, busy=tuple(busy))


def _deleted(store: Sqlite, run: str) -> bool:
    try:
        store.delete(run)
    except LeaseHeld:
        return False
    return True


def _children(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _size(path: Path) -> int:
    return sum(p.stat().st_size for p in path.rglob("*") if p.is_file())
