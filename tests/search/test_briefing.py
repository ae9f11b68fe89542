import ast
import asyncio

import pytest

from kernelevolve.config import RunConfig
from kernelevolve.core.candidate import Brief, Move, Proposal, SourceFile
from kernelevolve.core.errors import ProgrammerError
from kernelevolve.core.evaluation import Evaluation, Stage, Status
from kernelevolve.core.events import Quarantined
from kernelevolve.search.bench import TRIES, Bench
from kernelevolve.search.briefing import HISTORY, brief, remembered, without_held_out
from kernelevolve.search.journal import Journal
from kernelevolve.stores.memory import Memory
from kernelevolve.testing.journals import TARGET, TASK, passed

LINEAGE = {1: (), 2: (1,), 3: (2,), 4: (2,), 5: (2,), 6: (), 7: (6,), 8: (7, 3)}


@pytest.fixture
def journal() -> Journal:
    """Nodes 1 to 8 as in `LINEAGE`, each with a source and a verdict that has a held-out row."""
    journal = Journal(Memory(), "run")
    journal.start(TASK, TARGET, {})
    for number, parents in LINEAGE.items():
        journal.selected(Move(parents=parents))
        told = brief(journal, number, RunConfig(language="cpp"), "")
        files = (SourceFile(path="model.py", text=f"source {number}\nend\n"),)
        journal.proposed(told, Proposal(files=files, plan=f"plan {number}"))
        journal.evaluated(number, with_held_out(passed(1.0 + number)))
    return journal


def with_held_out(evaluation: Evaluation) -> Evaluation:
    hidden = evaluation.timings[0].model_copy(update={"workload": "odd", "held_out": True})
    return evaluation.model_copy(update={"timings": (*evaluation.timings, hidden)})


def told(journal: Journal, **move: object) -> Brief:
    journal.selected(Move.model_validate(move))
    return brief(journal, len(journal.graph), RunConfig(language="cpp", seed=7), "write C++")


def numbers(attempts: object) -> list[int]:
    return [a.number for a in attempts]


@pytest.mark.parametrize(
    ("memory", "parents", "shown"),
    [
        ("fresh", (), []),
        ("lineage", (3,), [1, 2]),
        ("siblings", (2,), [3, 4, 5]),
        ("merge", (5, 7), [1, 2, 6]),
        ("merge", (3, 4), [1, 2]),
    ],
)
def test_memory_decides_the_history(journal, memory, parents, shown):
    answer = told(journal, memory=memory, parents=parents)
    assert numbers(answer.history) == shown
    assert numbers(answer.parents) == list(parents)


def test_a_long_history_shows_its_latest(journal):
    for _ in range(HISTORY + 3):
        parent = len(journal.graph)
        answer = told(journal, memory="lineage", parents=(parent,))
        files = (SourceFile(path="model.py", text=f"source {answer.number}"),)
        journal.proposed(answer, Proposal(files=files))
        journal.evaluated(answer.number, passed(2.0))
    last = told(journal, memory="lineage", parents=(answer.number,))
    assert numbers(last.history) == list(range(answer.number - HISTORY, answer.number))


def test_what_is_quarantined_is_forgotten(journal):
    journal.record(Quarantined(at=0, number=4, reason="read the clock"))
    move = Move(parents=(2,), memory="siblings")
    assert [n.number for n in remembered(journal.graph, move, 9)] == [3, 5]


def test_nothing_held_out_is_told(journal):
    answer = told(journal, memory="lineage", parents=(3,))
    text = answer.model_dump_json()
    assert "odd" not in text
    assert "77" not in text
    assert [w.name for w in answer.task.workloads] == ["default"]


def test_held_out_sizes_leave_the_source_and_keep_its_lines():
    source = "A = 1\nHELD_OUT: dict = {\n  'odd': {'n': 77},\n}\nB = A\n"
    task = without_held_out(TASK.model_copy(update={"source": source}))
    assert task.source == "A = 1\nHELD_OUT = {}\n\n\nB = A\n"
    assert ast.parse(task.source)


def test_the_rest_of_a_brief(journal):
    answer = told(journal)
    assert answer.guide == "write C++"
    assert answer.seed == "7/9"
    assert answer.number == 9
    assert [t.plan for t in answer.tried] == [f"plan {n}" for n in range(1, 9)]


def test_the_brief_is_kept_with_the_proposal(journal):
    ref = journal.graph.nodes[3].proposal.brief
    kept = Brief.model_validate_json(journal.store.get_blob(ref))
    assert numbers(kept.parents) == [2]
    assert kept.tried == ()


class Judge:
    def __init__(self) -> None:
        self.asked = []

    async def __call__(self, candidate, stage):
        self.asked.append((candidate.files[0].text, stage))
        return with_held_out(passed(2.0)).model_copy(update={"device_seconds": 1.5})


def test_the_bench_evaluates_hides_and_meters(journal):
    before = journal.graph.usage.device_seconds

    async def scenario():
        judge = Judge()
        bench = Bench(journal, 1, "cpp", judge)
        files = (SourceFile(path="model.py", text="try"),)
        tries = [await bench.try_out(files, Stage.BENCHMARK) for _ in range(TRIES + 1)]
        return judge, bench, tries

    judge, bench, tries = asyncio.run(scenario())
    assert judge.asked == [("try", Stage.BENCHMARK)] * TRIES
    assert not any(t.held_out for t in tries[0].timings)
    assert tries[-1].status is Status.REJECTED
    assert "no tries left" in tries[-1].message
    assert journal.graph.usage.device_seconds == before + 1.5 * TRIES


def test_the_bench_confirms_nothing(journal):
    judge = Judge()
    bench = Bench(journal, 1, "cpp", judge)
    answer = asyncio.run(bench.try_out((SourceFile(path="model.py", text="x"),), Stage.CONFIRM))
    assert answer.status is Status.REJECTED
    assert judge.asked == []


def test_the_bench_shows_nodes_and_differences(journal):
    bench = Bench(journal, 1, "cpp", Judge())
    assert "source 3" in bench.look("#3")
    assert "score 4.000" in bench.look("#3")
    assert "-source 3\n+source 5\n end" in bench.look("#3..#5")
    assert "#17" in bench.look("what")
    assert "no source" in bench.look("#99")
    journal.record(Quarantined(at=0, number=3, reason="read the clock"))
    assert "no source" in bench.look("#3")


def test_the_bench_runs_commands_only_where_the_harness_can(journal):
    async def echo(command, stdin):
        return stdin

    assert asyncio.run(Bench(journal, 1, "cpp", Judge(), echo).run(["cat"], b"x")) == b"x"
    with pytest.raises(ProgrammerError, match="runs no commands"):
        asyncio.run(Bench(journal, 1, "cpp", Judge()).run(["cat"], b"x"))


def test_the_bench_reads_blobs(journal):
    ref = journal.store.put_blob(b"captured")
    assert Bench(journal, 1, "cpp", Judge()).blob(ref) == b"captured"
