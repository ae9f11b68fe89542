import pytest

from kernelevolve.core.detector import Detector
from kernelevolve.core.evaluation import Evaluation, Stage, Status
from kernelevolve.core.events import Command, Quarantined
from kernelevolve.core.graph import Graph
from kernelevolve.search.quarantine import LATE_PROOFS, MISTAKES, PROOFS, proof
from kernelevolve.stores.memory import Memory
from kernelevolve.testing.journals import passed
from tests.search.search_kit import Device, Writer, run, session


def caught(detector: Detector | None, status: Status = Status.REJECTED) -> Evaluation:
    return Evaluation(
        status=status, stage=Stage.VERIFY, message="evidence", detector=detector, seed="p/c"
    )


def test_every_detector_is_judged_once_with_a_reason():
    tables = [*PROOFS, *LATE_PROOFS, *MISTAKES]
    assert sorted(tables) == sorted(Detector)
    assert all([*PROOFS.values(), *LATE_PROOFS.values(), *MISTAKES.values()])


@pytest.mark.parametrize("detector", Detector)
@pytest.mark.parametrize("before", [False, True])
def test_what_proves_an_exploit(detector, before):
    guilty = detector in PROOFS or (before and detector in LATE_PROOFS)
    assert (proof(caught(detector), passed_before=before) is not None) == guilty


def test_neither_a_loss_of_ours_nor_a_pass_proves_anything():
    assert proof(caught(Detector.CLOCK, Status.LOST), passed_before=True) is None
    assert proof(passed(2.0), passed_before=True) is None
    assert proof(caught(None), passed_before=True) is None


def chained(brief):
    """Every source says from which it was made."""
    return f"{brief.number} from {[a.files[0].text for a in brief.parents]}"


def confirm_catches(*numbers: int, detector: Detector = Detector.FRESH_CONTENTS):
    def judge(source: str, stage: Stage) -> Evaluation:
        number = int(source.split()[0])
        if stage is Stage.CONFIRM and number in numbers:
            return caught(detector, Status.WRONG)
        return passed(1.0 + number, stage)

    return judge


def test_an_exploit_that_the_final_check_proves_takes_its_descendants_along():
    store = Memory()
    device = Device(confirm_catches(6, 5, 4))
    graph = run(session(store, Writer(chained), device, nodes=6, confirm=2))
    events = store.read("run")
    proofs = [e for e in events if isinstance(e, Quarantined)]
    assert proofs
    for event in proofs:
        assert event.detector is Detector.FRESH_CONTENTS
        assert PROOFS[Detector.FRESH_CONTENTS] == event.reason
        before = events[events.index(event) - 1]
        assert (before.kind, before.number) == ("confirmed", event.number)
        assert all(graph.nodes[d].quarantined for d in graph.descendants(event.number))
    assert graph.best is None or graph.best.quarantined is None
    assert vars(Graph.fold(events)) == vars(graph)


def test_a_final_check_that_finds_a_mistake_refutes_and_condemns_nobody():
    device = Device(confirm_catches(*range(1, 7), detector=Detector.ERROR_BUDGET))
    graph = run(session(None, Writer(chained), device, nodes=6, confirm=1))
    assert graph.quarantines == {}
    assert any(n.confirmation and not n.confirmation.ok for n in graph)


def test_after_a_proof_the_search_goes_on_without_what_came_of_it():
    """The goal seems reached; its kernel is an exploit, so that the search must go on."""
    writer = Writer(chained)

    def judge(source: str, stage: Stage) -> Evaluation:
        number = int(source.split()[0])
        if stage is Stage.CONFIRM and number <= 3:
            return caught(Detector.SETTLED)
        return passed(10.0 if number == 3 else 1.0 + number / 100, stage)

    search = session(None, writer, Device(judge), nodes=12, workers=1, goal=9.0, confirm=1)
    graph = run(search)
    assert graph.nodes[3].guilty
    later = [b for b in writer.briefs if b.number > 3]
    assert later
    tainted = {n.number for n in graph if n.quarantined}
    for brief in later:
        assert not tainted & {a.number for a in (*brief.parents, *brief.history)}
        assert not tainted & set(brief.move.parents)
        told = brief.model_copy(update={"tried": ()}).model_dump_json()
        assert "3 from" not in told
        plans = {n.proposal.plan for n in graph if n.quarantined and not n.guilty and n.proposal}
        assert not plans.intersection(t.plan for t in brief.tried)


def test_what_quarantine_took_is_not_proposed_again():
    """A programmer that goes through its ideas in order, leaving out what it knows was tried."""

    def next_idea(brief):
        return next(
            idea for idea in map(str, range(9)) if idea not in {t.plan for t in brief.tried}
        )

    device = Device(lambda source, stage: caught(Detector.CLOCK))
    graph = run(session(None, Writer(next_idea), device, nodes=4, workers=1))
    assert all(node.guilty for node in graph)
    assert device.sources(Stage.BENCHMARK) == {"0", "1", "2", "3"}


def test_the_same_source_again_is_not_judged_again_and_inherits_the_verdict():
    device = Device(lambda source, stage: caught(Detector.CLOCK))
    graph = run(session(None, Writer(lambda brief: "cheat"), device, nodes=4, workers=1))
    assert device.asked["cheat", Stage.BENCHMARK] == 1
    assert graph.by_status() == {"rejected": 1, "duplicate": 3}
    assert [n.quarantined_for for n in graph] == [1, 1, 1, 1]


def test_open_nodes_of_a_guilty_parent_end_untried_on_resume():
    store = Memory()
    writer = Writer(chained)
    run(session(store, writer, Device(confirm_catches()), nodes=3, workers=1))
    search = session(store, writer, Device(confirm_catches()), nodes=5, workers=1)
    journal = search.journal
    from kernelevolve.core.candidate import Move

    journal.selected(Move(parents=(2,), memory="lineage"))
    told = len(writer.briefs)
    store.append("run", [Command(at=0, verb="quarantine", number=2, text="reads the clock")])
    journal.follow()
    graph = run(search)
    assert graph.nodes[4].failure == "not tried: descends from #2: reads the clock"
    assert [b.number for b in writer.briefs[told:]] == [5]
    assert graph.open == []
