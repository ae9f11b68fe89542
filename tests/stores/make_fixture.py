"""Writes `schemas/v<n>.db` of the current schema; run once per released version, then commit it."""

import shutil
import tempfile
from pathlib import Path
from random import Random

from kernelevolve.core.lease import Lease
from kernelevolve.stores._schema import VERSION
from kernelevolve.stores.sqlite import FILE, Sqlite
from kernelevolve.testing.journals import random_journal

FOLDER = Path(__file__).parent / "schemas"


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        store = Sqlite(scratch)
        away = Lease(pid=1, host="elsewhere", started="1", nonce="00000000")
        store.append("recorded", random_journal(Random(1), 12), str(away))
        store.put_blob(b"a blob" * 200)
        store.close()
        FOLDER.mkdir(exist_ok=True)
        shutil.copy(Path(scratch) / FILE, FOLDER / f"v{VERSION}.db")


if __name__ == "__main__":
    main()
