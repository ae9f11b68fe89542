from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from kernelevolve.core.candidate import Candidate, Move, SourceFile, Usage
from kernelevolve.core.evaluation import Evaluation, Stage, Status
from kernelevolve.core.events import (
    EVENT,
    Admitted,
    Command,
    Confirmed,
    Evaluated,
    Failed,
    Quarantined,
    RunResumed,
    RunStopped,
    Selected,
)
from kernelevolve.core.graph import Graph, is_ok
from kernelevolve.core.job import Admission
from kernelevolve.testing.journals import passed, proposed, random_journal, refused, started

journals = st.builds(
    lambda seed, nodes: random_journal(Random(seed), nodes), st.integers(0), st.integers(0, 25)
)


@settings(max_examples=60, deadline=None)
@given(journal=journals, data=st.data())
def test_any_prefix_folds_and_the_rest_leads_to_the_same_graph(journal, data):
    cut = data.draw(st.integers(0, len(journal)))
    graph = Graph.fold(journal[:cut])
    assert graph.length == cut
    for event in journal[cut:]:
        graph.apply(event)
    assert vars(graph) == vars(Graph.fold(journal))


@settings(max_examples=40, deadline=None)
@given(journal=journals)
def test_events_survive_json(journal):
    again = [EVENT.validate_json(event.model_dump_json()) for event in journal]
    assert again == journal


@settings(max_examples=40, deadline=None)
@given(journal=journals)
def test_what_always_holds(journal):
    graph = Graph.fold(journal)
    assert list(graph.nodes) == list(range(1, len(graph) + 1))
    assert sum(graph.by_status().values()) == len(graph)
    scores = [n.score for n in graph.scored]
    assert scores == sorted(scores, reverse=True)
    for node in graph:
        assert all(parent < node.number for parent in node.move.parents)
        assert {a.number for a in graph.ancestors(node.number)} <= set(range(1, node.number))
        assert all(node.number in graph.children[parent] for parent in node.move.parents)


@settings(max_examples=80, deadline=None)
@given(journal=journals)
def test_what_quarantine_takes_and_what_it_leaves(journal):
    graph = Graph.fold(journal)
    sources = {graph.nodes[n].proposal.candidate for n in graph.quarantines if _source(graph, n)}
    for node in graph:
        if node.quarantined is None:
            assert node.quarantined_for is None
            assert not any(graph.nodes[p].quarantined for p in node.move.parents)
            assert _source(graph, node.number) not in sources
        else:
            assert node.score is None
            assert not node.confirmed
            assert node.quarantined_for in graph.quarantines
            assert node.guilty == (node.number in graph.quarantines)
            assert all(graph.nodes[d].quarantined for d in graph.descendants(node.number))
    assert graph.best is None or graph.best.quarantined is None
    for candidate, number in graph.by_candidate.items():
        assert graph.nodes[number].quarantined is None or candidate in sources


def _source(graph: Graph, number: int) -> str | None:
    proposal = graph.nodes[number].proposal
    return proposal.candidate if proposal else None


def graph_of(*scores: float) -> Graph:
    graph = Graph.fold([started(100.0)])
    for number, score in enumerate(scores, 1):
        parents = (number - 1,) if number > 1 else ()
        graph.apply(Selected(at=100, number=number, move=Move(parents=parents)))
        graph.apply(proposed(number, f"source {number}", at=100))
        graph.apply(Evaluated(at=100, number=number, evaluation=passed(score)))
    return graph


def confirmed(number: int, evaluation: Evaluation) -> Confirmed:
    return Confirmed(at=100, number=number, evaluation=evaluation)


def test_best_is_the_highest_score_until_something_is_confirmed():
    graph = graph_of(1.5, 3.0, 2.0)
    assert graph.best.number == 2
    graph.apply(confirmed(3, passed(1.9, Stage.CONFIRM)))
    assert graph.best.number == 3


def measured(score: float, low: float, high: float) -> Evaluation:
    verdict = passed(score, Stage.CONFIRM)
    ends = {"low": low, "high": high}
    timings = tuple(t.model_copy(update=ends) for t in verdict.timings)
    return verdict.model_copy(update={"timings": timings})


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
def test_of_the_confirmed_the_best_is_at_least_the_fastest(order):
    graph = graph_of(9.0, 9.0)
    steady, uncertain = order
    graph.apply(confirmed(steady, measured(2.0, 1.9, 2.1)))
    graph.apply(confirmed(uncertain, measured(3.0, 1.5, 6.0)))
    assert graph.best.number == steady


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
def test_without_intervals_the_confirmed_are_compared_by_their_scores(order):
    graph = graph_of(9.0, 9.0)
    for number, score in zip(order, (2.0, 3.0), strict=True):
        verdict = passed(score, Stage.CONFIRM).model_copy(update={"timings": ()})
        graph.apply(confirmed(number, verdict))
    assert graph.best.number == order[1]


def test_a_final_check_that_timed_nothing_comes_last():
    graph = graph_of(9.0, 9.0)
    graph.apply(confirmed(1, Evaluation(status=Status.OK, stage=Stage.VERIFY)))
    graph.apply(confirmed(2, passed(0.5, Stage.CONFIRM)))
    assert graph.best.number == 2


def test_a_refuted_node_is_never_the_best():
    graph = graph_of(1.5, 3.0)
    graph.apply(confirmed(2, refused(Status.WRONG, Stage.CONFIRM)))
    assert graph.nodes[2].score is None
    assert graph.best.number == 1
    assert not graph.best.confirmed


def test_a_lost_confirm_refutes_nothing():
    graph = graph_of(3.0)
    graph.apply(confirmed(1, refused(Status.LOST, Stage.CONFIRM)))
    assert graph.nodes[1].score == 3.0
    assert not graph.nodes[1].confirmed


def test_a_confirmed_score_replaces_a_lucky_one():
    graph = graph_of(3.0)
    graph.apply(confirmed(1, passed(1.1, Stage.CONFIRM)))
    assert graph.scored[0].score == 1.1


def test_quarantine_takes_the_descendants_along():
    graph = graph_of(1.0, 2.0, 3.0)
    graph.apply(Quarantined(at=100, number=2, reason="read the clock"))
    assert [n.number for n in graph.scored] == [1]
    assert graph.nodes[3].quarantined == "descends from #2: read the clock"
    assert not is_ok(graph.nodes[3])


def test_a_node_opened_from_what_is_tainted_is_tainted_from_the_start():
    graph = graph_of(1.0, 2.0)
    graph.apply(Quarantined(at=100, number=1, reason="read the clock"))
    graph.apply(Selected(at=100, number=3, move=Move(parents=(2,))))
    assert graph.nodes[3].quarantined == "descends from #1: read the clock"
    assert graph.nodes[3].quarantined_for == 1


def test_a_merge_with_one_tainted_parent_is_tainted():
    graph = graph_of(1.0)
    graph.apply(Selected(at=100, number=2, move=Move()))
    graph.apply(Selected(at=100, number=3, move=Move(parents=(2, 1), memory="merge")))
    graph.apply(Quarantined(at=100, number=1, reason="read the clock"))
    assert graph.nodes[3].quarantined_for == 1
    assert graph.nodes[2].quarantined is None


def test_the_same_source_shares_the_verdict_whenever_it_is_proposed():
    graph = graph_of(1.0, 2.0)
    for number in (3, 4):
        graph.apply(Selected(at=100, number=number, move=Move()))
    graph.apply(proposed(3, "source 2", at=100))
    graph.apply(Quarantined(at=100, number=2, reason="read the clock"))
    graph.apply(proposed(4, "source 2", at=100))
    for number in (3, 4):
        assert graph.nodes[number].quarantined == "same source as #2: read the clock"
    assert graph.by_candidate[graph.nodes[4].proposal.candidate] == 2


def test_a_source_that_was_first_proposed_elsewhere_is_guilty_of_a_repetition():
    graph = graph_of(1.0)
    for number in (2, 3):
        graph.apply(Selected(at=100, number=number, move=Move()))
    graph.apply(proposed(2, "source 1", at=100))
    graph.apply(Quarantined(at=100, number=2, reason="read the clock"))
    graph.apply(proposed(3, "source 1", at=100))
    for number in (1, 3):
        assert graph.nodes[number].quarantined == "same source as #2: read the clock"


def test_what_a_guilty_node_proposes_later_is_guilty_wherever_it_is():
    graph = graph_of(1.0)
    graph.apply(Selected(at=100, number=2, move=Move()))
    graph.apply(Command(at=100, verb="quarantine", number=2))
    assert graph.nodes[2].quarantined == "a person's decision"
    graph.apply(proposed(2, "source 1", at=100))
    assert graph.nodes[1].quarantined == "same source as #2: a person's decision"
    assert graph.best is None


def test_a_source_is_not_guilty_of_its_nodes_parents():
    graph = graph_of(1.0, 2.0)
    candidate = graph.nodes[2].proposal.candidate
    graph.apply(Quarantined(at=100, number=1, reason="read the clock"))
    assert candidate not in graph.by_candidate
    graph.apply(Selected(at=100, number=3, move=Move()))
    graph.apply(proposed(3, "source 2", at=100))
    assert graph.by_candidate[candidate] == 3
    assert graph.nodes[3].quarantined is None


def test_a_node_that_is_itself_guilty_stays_so_when_its_parent_is_found_guilty():
    graph = graph_of(1.0, 2.0)
    graph.apply(Quarantined(at=100, number=2, reason="read the clock"))
    graph.apply(Quarantined(at=100, number=1, reason="kept answers"))
    assert graph.nodes[2].guilty
    assert graph.nodes[2].quarantined == "read the clock"
    assert list(graph.quarantines) == [2, 1]


def test_the_first_proof_counts():
    graph = graph_of(1.0)
    graph.apply(Quarantined(at=100, number=1, reason="read the clock"))
    graph.apply(Quarantined(at=101, number=1, reason="kept answers"))
    assert graph.nodes[1].quarantined == "read the clock"


def test_a_guilty_source_stays_so_when_its_evaluation_was_lost():
    graph = Graph.fold([started(100.0), Selected(at=100, number=1, move=Move())])
    graph.apply(Command(at=100, verb="quarantine", number=1, text="looks odd"))
    graph.apply(proposed(1, "odd", at=100))
    lost = Evaluation(status=Status.LOST, stage=Stage.VERIFY, message="the judge died")
    graph.apply(Evaluated(at=100, number=1, evaluation=lost))
    graph.apply(Selected(at=100, number=2, move=Move()))
    graph.apply(proposed(2, "odd", at=100))
    assert graph.nodes[2].quarantined_for == 1


def test_a_person_may_put_a_node_into_quarantine():
    graph = graph_of(1.0, 2.0)
    graph.apply(Command(at=100, verb="quarantine", number=1, text="copied from the test"))
    graph.apply(Command(at=100, verb="quarantine", number=99))
    assert graph.nodes[1].quarantined == "copied from the test"
    assert graph.nodes[2].quarantined_for == 1
    assert graph.quarantines[1].detector is None
    assert graph.best is None


def test_a_confirmed_best_leaves_when_it_is_found_guilty():
    graph = graph_of(1.5, 3.0)
    graph.apply(confirmed(2, passed(3.0, Stage.CONFIRM)))
    graph.apply(Quarantined(at=100, number=2, reason="read the clock"))
    assert graph.best.number == 1


def test_a_banned_node_is_not_ranked():
    graph = graph_of(1.0, 2.0)
    graph.apply(Command(at=100, verb="ban", number=2))
    assert [n.number for n in graph.scored] == [1]


def test_commands_and_resume():
    graph = graph_of(1.0)
    for verb in ("pause", "stop"):
        graph.apply(Command(at=100, verb=verb))
    graph.apply(Command(at=100, verb="hint", text="use tiles"))
    assert graph.paused
    assert graph.stop_wanted
    assert graph.hints == ["use tiles"]
    graph.apply(Command(at=100, verb="resume"))
    assert not graph.paused
    graph.apply(Command(at=100, verb="pause"))
    graph.apply(RunStopped(at=100, reason="command"))
    assert graph.stopped_by == "command"
    graph.apply(RunResumed(at=200, config={"nodes": 3}))
    assert not graph.paused
    assert not graph.stop_wanted
    assert graph.stopped_by is None
    assert graph.config == {"nodes": 3}


def test_a_run_begins_with_what_was_asked_for():
    graph = Graph.fold([started(100.0, {"nodes": 30})])
    assert graph.task.name == "made_up"
    assert graph.target.arch == "x86_64"
    assert graph.config == {"nodes": 30}
    assert graph.started_at == 100.0
    assert not graph.paused
    assert not graph.stop_wanted
    assert graph.best is None
    assert graph.admission is None
    graph.apply(Admitted(at=101.0, admission=Admission(admitted=True, memory_bytes=7)))
    assert graph.admission.memory_bytes == 7


def test_nodes_are_open_until_they_end_in_one_of_many_ways():
    graph = graph_of(1.0)
    for number in (2, 3, 4, 5):
        graph.apply(Selected(at=100, number=number, move=Move()))
    graph.apply(proposed(2, "idea", at=100))
    graph.apply(Failed(at=100, number=3, message="no idea"))
    graph.apply(Evaluated(at=100, number=4, evaluation=refused(Status.WRONG)))
    assert [n.number for n in graph.open] == [2, 5]
    assert graph.by_status() == {"ok": 1, "open": 2, "failed": 1, "wrong": 1}
    assert graph.nodes[3].failure == "no idea"
    assert [n.number for n in graph if is_ok(n)] == [1]


def test_pins_are_kept_and_a_pin_of_nothing_is_not():
    graph = graph_of(1.0, 2.0)
    graph.apply(Command(at=100, verb="pin", number=2))
    graph.apply(Command(at=100, verb="pin"))
    graph.apply(Command(at=100, verb="ban"))
    assert graph.pinned == {2}
    assert graph.banned == set()


def test_what_is_no_event_is_refused_and_not_counted():
    graph = graph_of(1.0)
    length = graph.length
    with pytest.raises(TypeError, match="not an event: 'gossip'"):
        graph.apply("gossip")
    assert graph.length == length


def test_elapsed_is_the_time_up_to_the_last_event_of_the_run_itself():
    assert Graph().elapsed == 0.0
    graph = Graph.fold([started(100.0), _open(130.0)])
    graph.apply(Command(at=900.0, verb="hint", text="later"))
    assert graph.elapsed == 30.0


def test_a_clock_that_was_set_back_takes_no_time_away_and_adds_none():
    graph = Graph.fold([started(100.0), _open(40.0)])
    assert graph.seconds(50.0) == 0.0
    graph.apply(RunResumed(at=200.0, config={}))
    assert graph.seconds(210.0) == 10.0


def test_time_counts_sessions_and_neither_pauses_between_them_nor_others_commands():
    graph = Graph.fold([started(100.0)])
    graph.apply(_open(120.0))
    graph.apply(Failed(at=130.0, number=1, message="no idea"))
    graph.apply(Command(at=900.0, verb="hint", text="while nobody runs"))
    graph.apply(RunResumed(at=1000.0, config={}))
    assert graph.seconds(1010.0) == pytest.approx(40.0)


def _open(at: float) -> Selected:
    return Selected(at=at, number=1, move=Move())


def test_a_lost_source_may_be_evaluated_again():
    graph = Graph.fold([started(), _open(1), proposed(1, "same")])
    candidate = graph.nodes[1].proposal.candidate
    assert graph.by_candidate == {candidate: 1}
    graph.apply(Evaluated(at=2, number=1, evaluation=refused(Status.LOST)))
    assert graph.by_candidate == {}
    graph.apply(Selected(at=3, number=2, move=Move()))
    graph.apply(proposed(2, "same"))
    assert graph.by_candidate == {candidate: 2}


def test_usage_adds_up():
    graph = graph_of(1.0, 2.0)
    graph.apply(confirmed(2, passed(2.0, Stage.CONFIRM).model_copy(update={"device_seconds": 3.0})))
    assert graph.usage == Usage(seconds=0.2, device_seconds=3.0)
    verdict = refused(Status.WRONG).model_copy(update={"device_seconds": 0.5})
    graph.apply(Selected(at=100, number=3, move=Move()))
    graph.apply(Evaluated(at=100, number=3, evaluation=verdict))
    assert graph.usage.device_seconds == 3.5


def test_siblings_and_ancestors():
    graph = graph_of(1.0, 2.0, 3.0)
    assert [n.number for n in graph.ancestors(3)] == [1, 2]
    assert graph.descendants(1) == {2, 3}


def test_a_long_random_journal_folds():
    journal = random_journal(Random(0), 200)
    assert len(Graph.fold(journal)) == 200


def test_only_a_timed_ok_carries_a_score():
    with pytest.raises(ValidationError):
        Evaluation(status=Status.WRONG, stage=Stage.VERIFY, score=2.0)
    with pytest.raises(ValidationError):
        Evaluation(status=Status.OK, stage=Stage.BENCHMARK)
    assert Evaluation(status=Status.OK, stage=Stage.VERIFY).ok


def test_a_candidate_is_its_content():
    files = (SourceFile(path="model.py", text="a"), SourceFile(path="k.cpp", text="b"))
    ids = {
        Candidate(language="cpp", files=files).id,
        Candidate(language="cpp", files=files[::-1]).id,
    }
    assert len(ids) == 1
    assert Candidate(language="cuda", files=files).id not in ids
    moved = (SourceFile(path="model.py", text="b"), SourceFile(path="k.cpp", text="a"))
    assert Candidate(language="cpp", files=moved).id not in ids


@pytest.mark.parametrize("path", ["/etc/passwd", "../up", "a/../../b", ""])
def test_a_source_file_stays_in_its_folder(path):
    with pytest.raises(ValidationError):
        SourceFile(path=path, text="")


def test_unknown_fields_are_refused():
    with pytest.raises(ValidationError):
        EVENT.validate_python({"kind": "command", "at": 0, "verb": "stop", "nubmer": 1})
