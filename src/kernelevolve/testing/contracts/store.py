"""What every store must do."""

import platform
import threading
from collections.abc import Callable, Sequence
from random import Random

import pytest

from kernelevolve.core.candidate import Move
from kernelevolve.core.errors import LeaseHeld, StoreError
from kernelevolve.core.events import Command, Event, RunStopped, Selected
from kernelevolve.core.lease import Lease
from kernelevolve.core.protocols import Store
from kernelevolve.testing.journals import random_journal, started

HINT = Command(at=1.0, verb="hint", text="use tiles")


class StoreContract:
    """Subclass with a pytest fixture `store`, empty at the start of each test."""

    def test_reads_events_in_order_and_from_a_place(self, store: Store) -> None:
        journal = random_journal(Random(5), 20)
        lease = _lease()
        for event in journal:
            store.append("run", [event], lease)
        assert list(store.read("run")) == journal
        assert list(store.read("run", 7)) == journal[7:]
        assert list(store.read("run", len(journal))) == []

    def test_one_append_may_hold_many_events(self, store: Store) -> None:
        journal = random_journal(Random(6), 10, noise=False)
        store.append("run", journal, _lease())
        assert list(store.read("run")) == journal

    def test_an_unknown_run_is_empty(self, store: Store) -> None:
        assert list(store.read("nothing")) == []
        assert list(store.runs()) == []

    def test_runs_do_not_mix_and_are_listed_oldest_first(self, store: Store) -> None:
        store.append("later", [started(1.0)], _lease())
        store.append("a", [started(2.0)], _lease())
        store.append("later", [HINT])
        assert list(store.runs()) == ["later", "a"]
        assert list(store.read("a")) == [started(2.0)]

    def test_anybody_may_append_commands_to_a_known_run_only(self, store: Store) -> None:
        with pytest.raises(StoreError, match="unknown run"):
            store.append("run", [HINT])
        store.append("run", [started()], _lease())
        store.append("run", [HINT])
        with pytest.raises(StoreError, match="commands"):
            store.append("run", [HINT, Selected(at=0, number=1, move=Move())])
        assert list(store.read("run")) == [started(), HINT]

    def test_one_live_writer_per_run(self, store: Store) -> None:
        mine = _lease()
        store.append("run", [started()], mine)
        with pytest.raises(LeaseHeld, match=f"process {Lease.parse(mine).pid}"):
            store.append("run", [HINT], _lease())
        store.append("other", [started()], _lease())
        store.append("run", [HINT], mine)
        assert len(store.read("run")) == 2

    def test_stopping_gives_the_lease_up(self, store: Store) -> None:
        first, second = _lease(), _lease()
        store.append("run", [started(), RunStopped(at=1, reason="nodes")], first)
        store.append("run", [HINT], second)
        with pytest.raises(LeaseHeld):
            store.append("run", [HINT], first)

    def test_a_dead_writer_s_lease_is_taken_over(self, store: Store) -> None:
        gone = Lease.mine().model_copy(update={"started": "1"})
        store.append("run", [started()], str(gone))
        store.append("run", [HINT], _lease())
        assert len(store.read("run")) == 2

    def test_a_writer_on_another_machine_is_believed_while_it_speaks(self, store: Store) -> None:
        away = Lease.mine().model_copy(update={"host": f"not-{platform.node()}"})
        store.append("run", [started()], str(away))
        with pytest.raises(LeaseHeld, match="not-"):
            store.append("run", [HINT], _lease())

    def test_an_empty_append_takes_the_lease_and_writes_nothing(self, store: Store) -> None:
        store.append("run", [], _lease())
        assert list(store.read("run")) == []
        with pytest.raises(LeaseHeld):
            store.append("run", [started()], _lease())

    def test_blobs_are_named_by_content(self, store: Store) -> None:
        long = b"tile " * 5000
        refs = [store.put_blob(data) for data in (b"", b"\x00\xff", long, long)]
        assert len(set(refs)) == 3
        assert [store.get_blob(ref) for ref in refs] == [b"", b"\x00\xff", long, long]
        with pytest.raises(StoreError, match="blob"):
            store.get_blob("0" * 64)

    def test_threads_lose_no_event(self, store: Store) -> None:
        lease = _lease()
        store.append("run", [started()], lease)

        def commands() -> None:
            for _ in range(20):
                store.append("run", [HINT])

        def writes() -> None:
            for number in range(1, 21):
                store.append("run", [Selected(at=0, number=number, move=Move())], lease)

        _together(commands, commands, writes)
        events = store.read("run")
        assert len(events) == 61
        assert _numbers(events) == list(range(1, 21))


def _lease() -> str:
    return str(Lease.mine())


def _numbers(events: Sequence[Event]) -> list[int]:
    return [e.number for e in events if isinstance(e, Selected)]


def _together(*works: Callable[[], None]) -> None:
    threads = [threading.Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
