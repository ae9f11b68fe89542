import pytest

from kernelevolve.core.candidate import Move
from kernelevolve.core.errors import UsageError
from kernelevolve.core.lease import HEARTBEAT_SECONDS
from kernelevolve.search.journal import Journal
from kernelevolve.stores.memory import Memory
from kernelevolve.testing.contracts.store import HINT
from kernelevolve.testing.journals import TARGET, TASK
from tests.search.search_kit import Clock


def test_a_run_is_started_once():
    store = Memory()
    Journal(store, "run").start(TASK, TARGET, {})
    with pytest.raises(UsageError, match="kernelevolve resume run"):
        Journal(store, "run").start(TASK, TARGET, {})


def test_an_unknown_run_is_not_resumed():
    store = Memory()
    Journal(store, "known").start(TASK, TARGET, {})
    with pytest.raises(UsageError, match="unknown run 'run'; known: known"):
        Journal(store, "run").resume({})


def test_what_others_append_takes_its_place_before_our_next_event():
    store = Memory()
    journal = Journal(store, "run")
    journal.start(TASK, TARGET, {})
    store.append("run", [HINT])
    journal.selected(Move())
    assert [e.kind for e in store.read("run")] == ["run_started", "command", "selected"]
    assert journal.graph.length == 3
    assert journal.graph.hints == ["use tiles"]


def test_a_writer_that_only_waits_shows_that_it_lives():
    clock, appended = Clock(), []

    class Watched(Memory):
        def append(self, run, events, lease=None):
            appended.append(len(events))
            super().append(run, events, lease)

    journal = Journal(Watched(), "run", now=clock)
    journal.start(TASK, TARGET, {})
    journal.follow()
    clock.time += HEARTBEAT_SECONDS + 1
    journal.follow()
    journal.follow()
    assert appended == [1, 0]


def test_a_reader_takes_no_lease():
    store, clock = Memory(), Clock()
    writer = Journal(store, "run", now=clock)
    writer.start(TASK, TARGET, {})
    reader = Journal(store, "run", now=clock)
    clock.time += 2 * HEARTBEAT_SECONDS
    writer.selected(Move())
    reader.follow()
    assert len(reader.graph) == 1
    writer.stopped("nodes")
    assert store._leases == {}


def test_a_node_without_a_source_says_so():
    journal = Journal(Memory(), "run")
    journal.start(TASK, TARGET, {})
    journal.selected(Move())
    for number in (1, 2):
        with pytest.raises(UsageError, match=f"#{number} holds no source"):
            journal.candidate(number)
