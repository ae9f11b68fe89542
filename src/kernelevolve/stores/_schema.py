"""The tables of the SQLite store, as the list of steps that lead to them."""

import sqlite3
from contextlib import closing
from pathlib import Path

from kernelevolve.core.errors import StoreError

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        "CREATE TABLE events (run TEXT NOT NULL, seq INTEGER NOT NULL, json TEXT NOT NULL,"
        " PRIMARY KEY (run, seq))",
        "CREATE TABLE blobs (ref TEXT PRIMARY KEY, at REAL NOT NULL, packed INTEGER NOT NULL,"
        " data BLOB NOT NULL)",
        "CREATE TABLE leases (run TEXT PRIMARY KEY, token TEXT NOT NULL, since REAL NOT NULL,"
        " beat REAL NOT NULL)",
    ),
)
"""Step n leads from schema version n to n + 1. A released step is never edited: add another,
and a fixture of the new version (`python tests/stores/make_fixture.py`)."""

VERSION = len(MIGRATIONS)
"""What this package reads and writes."""


def migrate(db: sqlite3.Connection, path: Path) -> None:
    """Bring the database up to `VERSION`; needs write access only when it is older.

    Raises:
        StoreError: a newer package wrote it, or it belongs to another program.
    """
    if _version(db, path) == VERSION:
        return
    db.execute("BEGIN IMMEDIATE")
    try:
        done = _version(db, path)
        db.execute("CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL)")
        for step in MIGRATIONS[done:]:
            for statement in step:
                db.execute(statement)
        db.execute(
            "INSERT INTO meta VALUES ('schema', ?)"
            " ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            (str(VERSION),),
        )
        db.execute("COMMIT")
    finally:
        if db.in_transaction:
            db.execute("ROLLBACK")


def _version(db: sqlite3.Connection, path: Path) -> int:
    with closing(db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")) as rows:
        tables = {name for (name,) in rows}
    if not tables:
        return 0
    if not {"meta", "events"} <= tables:
        raise StoreError(f"{path} is not a kernelevolve store: choose another folder with --store")
    version = int(db.execute("SELECT value FROM meta WHERE key = 'schema'").fetchone()[0])
    if version > VERSION:
        raise StoreError(
            f"{path} was written by a newer kernelevolve (schema {version}, this one knows "
            f"{VERSION}): upgrade with `pip install -U kernelevolve`, or choose another --store"
        )
    return version
