import asyncio
import gc
import threading

import pytest

from kernelevolve.core.candidate import Move
from kernelevolve.core.errors import HarnessError, LeaseHeld, ProgrammerError
from kernelevolve.core.evaluation import Stage, Status
from kernelevolve.core.events import Command, Proposed, RunStopped, Selected
from kernelevolve.core.graph import Graph
from kernelevolve.stores.memory import Memory
from kernelevolve.stores.sqlite import Sqlite
from kernelevolve.testing.journals import passed, refused
from tests.search.search_kit import TWICE, Device, Writer, numbered, run, session


def test_a_run_ends_with_exactly_the_nodes_asked_for_and_a_confirmed_best():
    store = Memory()
    graph = run(session(store, nodes=20))
    assert len(graph) == 20
    assert graph.open == []
    assert graph.stopped_by == "nodes"
    assert graph.best.confirmed
    assert vars(Graph.fold(store.read("run"))) == vars(graph)


def test_several_attempts_are_in_flight_and_never_more_than_asked():
    writer, device = Writer(), Device(slots=2)
    run(session(None, writer, device, workers=4, nodes=40))
    assert writer.most_at_work > 1
    assert device.most_at_work == 2

    writer = Writer()
    run(session(None, writer, Device(slots=8), workers=4, nodes=40))
    assert 1 < writer.most_at_work <= 4


def test_a_move_is_journaled_before_it_is_dispatched():
    store = Memory()
    run(session(store))
    opened: set[int] = set()
    for event in store.read("run"):
        if isinstance(event, Selected):
            opened.add(event.number)
        elif isinstance(event, Proposed):
            assert event.number in opened


def test_the_selection_is_repeatable_from_the_journal():
    asked = []

    class Watched:
        def select(self, graph, free, rng):
            asked.append((graph.length, rng.random()))
            return [Move()] * free

    run(session(policy=Watched(), workers=1, nodes=3, seed=7))
    first = dict(asked)
    asked.clear()
    run(session(policy=Watched(), workers=1, nodes=3, seed=7))
    assert dict(asked) == first


def test_identical_source_is_evaluated_once():
    device = Device()
    writer = Writer(lambda brief: f"source {brief.number % 5}")
    graph = run(session(None, writer, device, nodes=20))
    assert len(device.sources(Stage.BENCHMARK)) == 5
    assert device.measured() <= {1, TWICE}
    assert graph.by_status()["duplicate"] == 15
    for node in graph:
        if node.same_as:
            first = graph.nodes[node.same_as]
            assert first.proposal.candidate == node.proposal.candidate


def test_a_record_must_be_set_twice_and_the_worse_measurement_counts():
    lucky = iter([2.0, 3.0, 9.0, 1.5, 1.8])
    device = Device(lambda source, stage: passed(next(lucky, 1.0), stage))
    graph = run(session(None, Writer(), device, nodes=3, workers=1, confirm=1))
    assert [n.evaluation.score for n in graph] == [2.0, 1.5, 1.8]
    assert device.measured() == {1, TWICE}


def test_a_record_that_fails_when_it_is_repeated_has_failed():
    verdicts = iter([passed(2.0, Stage.BENCHMARK), refused(Status.WRONG)])
    device = Device(lambda source, stage: next(verdicts, passed(1.0, stage)))
    graph = run(session(None, Writer(), device, nodes=2, workers=1))
    assert [n.evaluation.status for n in graph] == [Status.WRONG, Status.OK]


def test_identical_source_is_evaluated_once_while_the_first_is_in_flight():
    async def scenario():
        device = Device(gate=asyncio.Event(), slots=3)
        search = session(None, Writer(lambda brief: "the same"), device, nodes=3, workers=3)
        running = asyncio.create_task(search.run())
        while search.graph.by_status().get("duplicate", 0) < 2:
            await asyncio.sleep(0)
        assert search.graph.nodes[1].open
        device.gate.set()
        return await running, device

    graph, device = asyncio.run(scenario())
    assert device.measured() <= {1, TWICE}
    assert graph.by_status().get("duplicate") == 2


def test_a_lost_evaluation_is_tried_three_times_then_recorded():
    device = Device(lambda source, stage: refused(Status.LOST))
    graph = run(session(None, Writer(), device, nodes=4))
    assert graph.by_status() == {"lost": 4}
    assert set(device.asked.values()) == {3}
    assert len({job.seed for job in device.jobs}) == len(device.jobs)


def test_a_lost_evaluation_that_is_found_again_counts():
    lost = iter([True, True, False])

    def judge(source, stage):
        return refused(Status.LOST) if next(lost, False) else passed(2.0, stage)

    graph = run(session(None, Writer(), Device(judge), nodes=1, confirm=1))
    assert graph.nodes[1].score == 2.0


def test_seeds_are_secret_and_journaled():
    device = Device(lambda source, stage: passed(2.0, stage))
    graph = run(session(None, Writer(), device, nodes=2, seed=5))
    assert {n.evaluation.seed for n in graph} <= {job.seed for job in device.jobs}
    again = Device(lambda source, stage: passed(2.0, stage))
    run(session(None, Writer(), again, nodes=2, seed=5))
    assert not {j.seed for j in device.jobs} & {j.seed for j in again.jobs}


def test_a_programmer_without_an_answer_fails_its_node_only():
    def write(brief):
        if brief.number % 2:
            raise ProgrammerError("no idea")
        return numbered(brief)

    graph = run(session(None, Writer(write), nodes=10))
    assert graph.by_status()["failed"] == 5
    assert graph.nodes[1].failure == "no idea"


def test_a_fault_in_a_programmer_fails_its_node_only(caplog):
    def write(brief):
        if brief.number == 2:
            raise KeyError("tile")
        return numbered(brief)

    graph = run(session(None, Writer(write), nodes=4))
    assert graph.nodes[2].failure == "KeyError: 'tile'"
    assert "the programmer has a fault" in caplog.text
    assert len(graph) == 4


def test_broken_machinery_ends_the_run_which_can_be_resumed(caplog):
    def breaks(job):
        raise HarnessError("no sandbox")

    store = Memory()
    with pytest.raises(HarnessError, match="no sandbox"):
        run(session(store, device=Device(on_evaluate=breaks), nodes=6))
    assert Graph.fold(store.read("run")).stopped_by == "error"
    gc.collect()
    assert caplog.text == ""
    assert len(run(session(store, nodes=6))) == 6


def test_a_policy_that_wants_nothing_ends_the_run():
    class Idle:
        def select(self, graph, free, rng):
            return [Move()] * free if len(graph) < 2 else []

    graph = run(session(policy=Idle(), nodes=9, workers=1))
    assert (len(graph), graph.stopped_by) == (2, "exhausted")


def test_a_policy_that_asks_for_too_much_gets_what_is_free():
    class Greedy:
        def select(self, graph, free, rng):
            return [Move()] * 50

    writer = Writer()
    graph = run(session(None, writer, policy=Greedy(), nodes=7, workers=2))
    assert len(graph) == 7
    assert writer.most_at_work <= 2


def test_a_reporter_observes_every_event_and_influences_nothing(caplog):
    seen = []

    class Broken:
        def report(self, event, graph):
            seen.append((event, graph.length))
            raise RuntimeError("no terminal")

    store = Memory()
    run(session(store, reporters=[Broken()], nodes=3))
    assert [event for event, _ in seen] == list(store.read("run"))
    assert [length for _, length in seen] == list(range(1, len(seen) + 1))
    assert "no terminal" in caplog.text


def test_the_goal_must_survive_confirmation():
    """The first 3.0 is luck: confirm says 1.2, so the search goes on to the second."""

    def judge(source, stage):
        number = int(source.split()[1])
        if number == 2:
            return passed(1.2 if stage is Stage.CONFIRM else 3.0, stage)
        return passed(3.0 if number == 8 else 1.1, stage)

    graph = run(session(None, Writer(), Device(judge), nodes=30, goal=2.5, workers=1, confirm=1))
    assert graph.stopped_by == "goal"
    assert graph.best.number == 8
    assert len(graph) == 8


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_commands_of_others_take_effect_in_the_store_s_order(kind, tmp_path):
    store = Memory() if kind == "memory" else Sqlite(tmp_path)
    other = store if kind == "memory" else Sqlite(tmp_path)
    writer = Writer()

    def command(job):
        number = len(device.jobs)
        if number == 3:
            other.append("run", [Command(at=1, verb="hint", text="use tiles")])
        if number == 6:
            other.append("run", [Command(at=1, verb="ban", number=1)])
            other.append("run", [Command(at=1, verb="stop")])

    device = Device(on_evaluate=command)
    graph = run(session(store, writer, device, nodes=500))
    assert graph.stopped_by == "command"
    assert len(graph) < 20
    assert graph.hints == ["use tiles"]
    assert writer.briefs[-1].hints == ("use tiles",)
    assert 1 in graph.banned
    assert vars(Graph.fold(other.read("run"))) == vars(graph)
    if isinstance(store, Sqlite):
        store.close()
        other.close()


def test_pause_holds_back_new_attempts_until_resume():
    store = Memory()
    paused_at: list[int] = []

    class Watch:
        def report(self, event, graph):
            if isinstance(event, Selected) and event.number == 5:
                store.append("run", [Command(at=1, verb="pause")])
            if isinstance(event, Command) and event.verb == "pause":
                threading.Timer(0.05, go_on, [graph]).start()
            if isinstance(event, Selected) and graph.paused:
                paused_at.append(event.number)

    def go_on(graph):
        assert len(graph) < 10
        store.append("run", [Command(at=1, verb="resume")])

    graph = run(session(store, reporters=[Watch()], nodes=10))
    assert len(graph) == 10
    assert len(paused_at) <= 3


def test_a_first_interrupt_confirms_the_best_and_leaves_open_nodes_for_later():
    store = Memory()
    writer = Writer()
    search = session(store, writer, nodes=50)

    class Stops:
        def report(self, event, graph):
            if graph.scored and len(graph) >= 10 and writer.gate is None:
                writer.gate = asyncio.Event()
                search.stop("interrupted")

    search.journal._reporters = [Stops()]
    graph = run(search)
    assert graph.stopped_by == "interrupted"
    assert graph.best.confirmed
    assert sum(1 for n in graph if n.confirmation) >= 1
    assert graph.open
    left = len(graph)
    assert left < 50

    device = Device()
    graph = run(session(store, Writer(), device, nodes=left + 2))
    assert (len(graph), graph.open, graph.stopped_by) == (left + 2, [], "nodes")


def test_a_second_interrupt_leaves_at_once():
    async def scenario():
        store = Memory()
        device = Device(lambda source, stage: passed(2.0, stage))
        search = session(store, Writer(), device, nodes=3)

        def on_evaluate(job):
            if job.stage is Stage.CONFIRM:
                device.gate = asyncio.Event()
                search.stop()
                asyncio.get_running_loop().call_later(0.01, search.stop)

        device.on_evaluate = on_evaluate
        return await search.run(), asyncio.current_task().cancelling()

    graph, cancelling = asyncio.run(scenario())
    assert graph.stopped_by == "interrupted"
    assert cancelling == 0
    assert not graph.best.confirmed


def test_an_interrupt_while_confirming_waits_for_one_confirmed_node_only():
    async def scenario():
        never = asyncio.Event()

        class Stuck(Device):
            async def evaluate(self, job):
                if job.stage is Stage.CONFIRM and self.sources(Stage.CONFIRM):
                    search.stop()
                    await never.wait()
                return await super().evaluate(job)

        search = session(None, Writer(), Stuck(lambda s, stage: passed(2.0, stage)), nodes=3)
        return await search.run()

    graph = asyncio.run(scenario())
    assert graph.best.confirmed
    assert sum(1 for n in graph if n.confirmation) == 1


def test_cancelling_from_outside_is_journaled_and_goes_on_upwards():
    async def scenario():
        search = session(None, Writer(gate=asyncio.Event()))
        running = asyncio.create_task(search.run())
        while not search.graph.open:
            await asyncio.sleep(0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        return search.graph

    assert asyncio.run(scenario()).stopped_by == "interrupted"


def test_every_prefix_of_a_journal_resumes_to_the_exact_count():
    """What kill -9 leaves is some prefix of the journal; the blobs of its events are there."""
    recorded = Memory()
    run(session(recorded, Writer(lambda b: f"source {b.number % 9}"), nodes=12, confirm=2))
    journal = recorded.read("run")
    for cut in range(1, len(journal)):
        store = Memory()
        store._runs["run"] = list(journal[:cut])
        store._blobs = dict(recorded._blobs)
        evaluated = {
            node.proposal.candidate
            for node in Graph.fold(journal[:cut])
            if node.evaluation and node.proposal
        }
        device = Device()
        graph = run(session(store, Writer(lambda b: f"source {b.number % 9}"), device, nodes=12))
        numbers = [e.number for e in store.read("run") if isinstance(e, Selected)]
        assert numbers == list(range(1, 13)), cut
        assert graph.open == []
        again = {j.candidate.id for j in device.jobs if j.stage is Stage.BENCHMARK}
        assert not again & evaluated, cut
        assert device.measured() <= {1, TWICE}, cut
        assert graph.best.confirmed


def test_a_finished_run_can_be_resumed_for_more():
    store, device = Memory(), Device()
    run(session(store, device=device, nodes=5))
    before = dict(device.asked)
    run(session(store, device=device, nodes=5))
    assert dict(device.asked) == before
    graph = run(session(store, device=device, nodes=9))
    assert len(graph) == 9
    assert device.measured() <= {1, TWICE}


def test_more_open_nodes_than_workers_are_taken_up_a_few_at_a_time():
    store = Memory()
    search = session(store, nodes=8)
    for _ in range(6):
        search.journal.selected(Move())
    search.journal.stopped("interrupted")
    writer = Writer()
    graph = run(session(store, writer, nodes=8, workers=2))
    assert len(graph) == 8
    assert writer.most_at_work <= 2
    assert [b.number for b in writer.briefs] == list(range(1, 9))


def test_two_sessions_at_once_are_refused():
    store = Memory()
    first = session(store)
    with pytest.raises(LeaseHeld):
        session(store)
    assert len(run(first)) == 20


def test_only_the_stop_releases_the_lease():
    store = Memory()
    run(session(store, nodes=2))
    assert isinstance(store.read("run")[-1], RunStopped)
    assert store._leases == {}
