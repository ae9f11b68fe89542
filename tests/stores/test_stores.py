import inspect
import multiprocessing
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from kernelevolve import registry
from kernelevolve.core.errors import LeaseHeld, StoreError
from kernelevolve.core.events import Command, RunStopped
from kernelevolve.core.lease import SILENCE_SECONDS, Lease
from kernelevolve.stores import _schema
from kernelevolve.stores.sqlite import FILE, Sqlite
from kernelevolve.testing.contracts.store import HINT, StoreContract
from kernelevolve.testing.journals import proposed, started

SCHEMAS = Path(__file__).parent / "schemas"


class TestEveryStore(StoreContract):
    @pytest.fixture(params=registry.names("store"))
    def store(self, request, tmp_path):
        plugin = registry.load("store", request.param)
        takes_folder = "folder" in inspect.signature(plugin).parameters
        store = plugin(tmp_path) if takes_folder else plugin()
        yield store
        if takes_folder:
            store.close()


@pytest.fixture
def sqlite(tmp_path):
    store = Sqlite(tmp_path)
    yield store
    store.close()


def mine() -> str:
    return str(Lease.mine())


def test_another_handle_sees_each_append(sqlite, tmp_path):
    other = Sqlite(tmp_path)
    sqlite.append("run", [started()], mine())
    assert list(other.read("run")) == [started()]
    other.append("run", [HINT])
    assert list(sqlite.read("run", 1)) == [HINT]
    other.close()


def test_another_process_reads_while_a_transaction_is_open(sqlite, tmp_path):
    sqlite.append("run", [started()], mine())
    with sqlite._transaction():
        script = (
            "from kernelevolve.stores.sqlite import Sqlite;"
            f"print(len(Sqlite({str(tmp_path)!r}).read('run')))"
        )
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == "1\n", done.stderr


def test_processes_that_create_the_store_together_agree(tmp_path):
    context = multiprocessing.get_context("spawn")
    with context.Pool(3) as pool:
        assert pool.map(create, [tmp_path / "new"] * 6) == [_schema.VERSION] * 6


def create(folder: Path) -> int:
    store = Sqlite(folder)
    (row,) = store._query("SELECT value FROM meta WHERE key = 'schema'")
    store.close()
    return int(row[0])


def test_the_lease_of_a_killed_process_is_free(sqlite, tmp_path):
    script = (
        "from kernelevolve.stores.sqlite import Sqlite; from kernelevolve.core.lease import Lease;"
        "from kernelevolve.testing.journals import started; import sys;"
        f"Sqlite({str(tmp_path)!r}).append('run', [started()], str(Lease.mine()));"
        "print('held', flush=True); sys.stdin.read()"
    )
    writer = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert writer.stdout.readline() == b"held\n"
        with pytest.raises(LeaseHeld, match=str(writer.pid)):
            sqlite.append("run", [HINT], mine())
    finally:
        writer.kill()
        writer.communicate()
    sqlite.append("run", [HINT], mine())
    assert len(sqlite.read("run")) == 2


def test_a_zombie_does_not_hold_a_lease(sqlite):
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    fields = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
    lease = Lease.mine().model_copy(update={"pid": child.pid, "started": fields[19]})
    assert lease.alive(0)
    child.stdin.close()
    while Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
        pass
    assert not lease.alive(0)
    child.wait()


def test_a_silent_machine_is_taken_for_dead():
    away = Lease.mine().model_copy(update={"host": "elsewhere"})
    assert away.alive(SILENCE_SECONDS - 1)
    assert not away.alive(SILENCE_SECONDS + 1)


@pytest.mark.parametrize("fixture", sorted(SCHEMAS.glob("*.db")), ids=lambda p: p.stem)
def test_every_released_schema_opens(fixture, tmp_path):
    (tmp_path / FILE).write_bytes(fixture.read_bytes())
    store = Sqlite(tmp_path)
    assert store.runs() == ["recorded"]
    assert len(store.read("recorded")) > 20
    store.append("recorded", [HINT])
    store.close()


def test_the_current_schema_has_a_fixture():
    assert (SCHEMAS / f"v{_schema.VERSION}.db").exists()


def test_an_older_schema_is_brought_up_to_date(tmp_path, monkeypatch):
    Sqlite(tmp_path).close()
    step = ("ALTER TABLE blobs ADD COLUMN note TEXT",)
    monkeypatch.setattr(_schema, "MIGRATIONS", (*_schema.MIGRATIONS, step))
    monkeypatch.setattr(_schema, "VERSION", _schema.VERSION + 1)
    store = Sqlite(tmp_path)
    assert store._query("SELECT note FROM blobs") == []
    store.close()


def test_a_newer_schema_is_refused_and_left_alone(tmp_path):
    Sqlite(tmp_path).close()
    with sqlite3.connect(tmp_path / FILE) as db:
        db.execute("UPDATE meta SET value = '99'")
    db.close()
    with pytest.raises(StoreError, match=r"newer kernelevolve \(schema 99.*upgrade"):
        Sqlite(tmp_path)


def test_a_file_that_is_no_database_is_refused(tmp_path):
    (tmp_path / FILE).write_text("hello " * 1000)
    with pytest.raises(StoreError, match="not a database"):
        Sqlite(tmp_path)


def test_another_program_s_database_is_refused(tmp_path):
    with sqlite3.connect(tmp_path / FILE) as db:
        db.execute("CREATE TABLE recipes (name TEXT)")
    db.close()
    with pytest.raises(StoreError, match="not a kernelevolve store"):
        Sqlite(tmp_path)


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"file/store.*--store"):
        Sqlite(tmp_path / "file" / "store")


def test_a_full_disk_is_said_and_nothing_is_lost(sqlite):
    lease = mine()
    sqlite.append("run", [started()], lease)
    (pages,) = sqlite._query("PRAGMA page_count")
    sqlite._query(f"PRAGMA max_page_count = {pages[0] + 2}")
    with pytest.raises(StoreError, match="disk is full"):
        for number in range(1000):
            sqlite.append("run", [proposed(number, "x" * 4000)], lease)
    kept = len(sqlite.read("run"))
    sqlite._query(f"PRAGMA max_page_count = {pages[0] + 1000}")
    sqlite.append("run", [HINT], lease)
    assert len(sqlite.read("run")) == kept + 1


def test_a_store_that_cannot_be_written_is_said(sqlite):
    sqlite.append("run", [started()], mine())
    sqlite._query("PRAGMA query_only = 1")
    with pytest.raises(StoreError, match="cannot be written"):
        sqlite.append("run", [HINT])


def test_a_damaged_event_is_named(sqlite):
    sqlite.append("run", [started()], mine())
    sqlite._query("UPDATE events SET json = '{}'")
    with pytest.raises(StoreError, match="event 1 of run 'run'"):
        sqlite.read("run")


def test_clean_removes_a_run_and_what_only_it_named(sqlite):
    for run in ("old", "new"):
        files = {"model.py": sqlite.put_blob(f"source of {run}".encode())}
        event = proposed(1, run).model_copy(update={"files": files})
        sqlite.append(run, [started(), event, RunStopped(at=1, reason="nodes")], mine())
    ref = {run: sqlite.read(run)[1].files["model.py"] for run in ("old", "new")}
    sqlite.delete("old")
    sqlite.vacuum(grace_seconds=-1)
    assert sqlite.runs() == ["new"]
    assert sqlite.get_blob(ref["new"]) == b"source of new"
    with pytest.raises(StoreError, match="missing"):
        sqlite.get_blob(ref["old"])


def test_clean_spares_what_a_live_run_is_about_to_name(sqlite):
    sqlite.append("run", [started()], mine())
    ref = sqlite.put_blob(b"not yet named")
    sqlite.vacuum(grace_seconds=0)
    assert sqlite.get_blob(ref) == b"not yet named"


def test_clean_spares_a_blob_put_a_moment_ago(sqlite):
    ref = sqlite.put_blob(b"a run that starts this moment")
    sqlite.vacuum()
    assert sqlite.get_blob(ref)


def test_a_run_at_work_is_not_deleted(sqlite):
    sqlite.append("run", [started()], mine())
    with pytest.raises(LeaseHeld):
        sqlite.delete("run")
    assert sqlite.runs() == ["run"]


def test_a_command_is_validated_like_every_event(sqlite):
    sqlite.append("run", [started()], mine())
    sqlite.append("run", [Command(at=2, verb="pin", number=3)])
    assert sqlite.read("run", 1)[0].number == 3
