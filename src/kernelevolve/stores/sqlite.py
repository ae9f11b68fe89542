"""The store of a user's machine: one SQLite file in WAL mode, read while a run writes."""

import re
import sqlite3
import threading
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from kernelevolve.core.errors import StoreError
from kernelevolve.core.events import EVENT, Command, Event, RunStopped
from kernelevolve.core.lease import Lease, check_free
from kernelevolve.core.protocols import Store
from kernelevolve.stores._schema import migrate

FILE = "kernelevolve.db"
_BUSY_SECONDS = 30.0
_PACK_FROM = 512
_GRACE_SECONDS = 60.0

_ADVICE = {
    "SQLITE_FULL": "the disk is full; free some space, then `kernelevolve resume` continues",
    "SQLITE_READONLY": "it cannot be written; change its permissions or choose another --store",
    "SQLITE_CANTOPEN": "it cannot be opened; check that the folder exists and can be written",
    "SQLITE_NOTADB": "it is not a database; move the file away or choose another --store",
    "SQLITE_CORRUPT": "the database is damaged; move the file away or choose another --store",
    "SQLITE_BUSY": f"another process has kept it locked for {_BUSY_SECONDS:.0f} s; try again",
    "SQLITE_IOERR": "the disk does not answer; check it, then `kernelevolve resume` continues",
}
"""What to do, by the stem of SQLite's error name."""


class Sqlite:
    """Journals and blobs in `folder/kernelevolve.db`; any thread may use it."""

    def __init__(self, folder: Path | str) -> None:
        self.path = Path(folder) / FILE
        self._lock = threading.RLock()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"store folder {folder}: {error.strerror}; choose another --store"
            ) from error
        with self._explained():
            self._db = sqlite3.connect(
                self.path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            try:
                migrate(self._db, self.path)
                if self._db.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
                    self._db.execute("PRAGMA journal_mode = WAL")
                self._db.execute("PRAGMA synchronous = NORMAL")
            except BaseException:
                self._db.close()
                raise

    def append(self, run: str, events: Sequence[Event], lease: str | None = None) -> None:
        """See `Store`."""
        with self._transaction() as db:
            last = self._length(run)
            if lease is None:
                self._check_commands(run, last, events)
            else:
                self._hold(run, lease, gives_up=any(isinstance(e, RunStopped) for e in events))
            db.executemany(
                "INSERT INTO events VALUES (?, ?, ?)",
                [(run, n, e.model_dump_json()) for n, e in enumerate(events, last + 1)],
            )

    def read(self, run: str, after: int = 0) -> Sequence[Event]:
        """See `Store`."""
        rows = self._query(
            "SELECT seq, json FROM events WHERE run = ? AND seq > ? ORDER BY seq", run, after
        )
        return [self._parse(run, seq, text) for seq, text in rows]

    def runs(self) -> Sequence[str]:
        """See `Store`."""
        return [run for (run,) in self._query("SELECT run FROM events WHERE seq=1 ORDER BY rowid")]

    def put_blob(self, data: bytes) -> str:
        """See `Store`."""
        ref = sha256(data).hexdigest()
        packed = zlib.compress(data, 1) if len(data) >= _PACK_FROM else data
        smaller = len(packed) < len(data)
        with self._transaction() as db:
            db.execute(
                "INSERT INTO blobs VALUES (?, ?, ?, ?)"
                " ON CONFLICT (ref) DO UPDATE SET at = excluded.at",
                (ref, time.time(), smaller, packed if smaller else data),
            )
        return ref

    def get_blob(self, ref: str) -> bytes:
        """See `Store`."""
        rows = self._query("SELECT packed, data FROM blobs WHERE ref = ?", ref)
        if not rows:
            raise StoreError(f"{self.path}: blob {ref} is missing; was it removed by hand?")
        packed, data = rows[0]
        return zlib.decompress(data) if packed else bytes(data)

    def delete(self, run: str) -> None:
        """Remove a run's journal; its blobs go with the next `vacuum`.

        Raises:
            LeaseHeld: a live process writes it.
        """
        with self._transaction() as db:
            self._hold(run, str(Lease.mine()), gives_up=True)
            db.execute("DELETE FROM events WHERE run = ?", (run,))

    def vacuum(self, grace_seconds: float = _GRACE_SECONDS) -> int:
        """Drop the blobs that no journal names, shrink the file; how many bytes it lost.

        Blobs that a run at work may be about to name stay: those put since the oldest live
        lease, less the grace that a run needs between its first blob and its first event.
        """
        before = self.path.stat().st_size
        with self._transaction() as db:
            now = time.time()
            held = db.execute("SELECT token, since, beat FROM leases").fetchall()
            alive = [since for token, since, beat in held if Lease.parse(token).alive(now - beat)]
            named = {
                ref
                for (text,) in db.execute("SELECT json FROM events")
                for ref in re.findall(r'"([0-9a-f]{64})"', text)
            }
            old = db.execute(
                "SELECT ref FROM blobs WHERE at <= ?", (min([now, *alive]) - grace_seconds,)
            ).fetchall()
            db.executemany("DELETE FROM blobs WHERE ref = ?", [r for r in old if r[0] not in named])
        self._query("VACUUM")
        self._query("PRAGMA wal_checkpoint(TRUNCATE)")
        return max(0, before - self.path.stat().st_size)

    def close(self) -> None:
        """Close the file; nothing else may be called afterwards."""
        with self._lock:
            self._db.close()

    def _length(self, run: str) -> int:
        row = self._db.execute("SELECT max(seq) FROM events WHERE run = ?", (run,)).fetchone()
        return row[0] or 0

    def _check_commands(self, run: str, length: int, events: Sequence[Event]) -> None:
        if length == 0:
            known = ", ".join(self.runs()) or "none"
            raise StoreError(f"{self.path}: unknown run {run!r}; known: {known}")
        if not all(isinstance(event, Command) for event in events):
            raise StoreError(f"run {run!r}: without its lease only commands may be appended")

    def _hold(self, run: str, lease: str, gives_up: bool) -> None:
        now = time.time()
        row = self._db.execute("SELECT token, beat FROM leases WHERE run = ?", (run,)).fetchone()
        holder, beat = row or (None, now)
        check_free(run, holder, lease, now - beat)
        if gives_up:
            self._db.execute("DELETE FROM leases WHERE run = ?", (run,))
        elif holder == lease:
            self._db.execute("UPDATE leases SET beat = ? WHERE run = ?", (now, run))
        else:
            self._db.execute("REPLACE INTO leases VALUES (?, ?, ?, ?)", (run, lease, now, now))

    def _parse(self, run: str, seq: int, text: str) -> Event:
        try:
            return EVENT.validate_json(text)
        except ValidationError as error:
            why = error.errors()[0]["msg"]
            raise StoreError(
                f"{self.path}: event {seq} of run {run!r} cannot be read: {why}; "
                "it was damaged, or written by another version of kernelevolve"
            ) from error

    def _query(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        with self._lock, self._explained():
            return self._db.execute(sql, values).fetchall()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._explained():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            finally:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            name = str(getattr(error, "sqlite_errorname", ""))
            advice = next((a for stem, a in _ADVICE.items() if name.startswith(stem)), str(error))
            raise StoreError(f"store {self.path}: {advice}") from error


plugin: type[Store] = Sqlite
