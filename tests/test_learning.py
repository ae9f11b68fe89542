"""Runs leave skills in their store; quarantine, losses and people take them back."""

from pathlib import Path

import pytest

from kernelevolve import app, learning, registry
from kernelevolve.config import RunConfig
from kernelevolve.core.candidate import Brief, Move, Proposal, SourceFile
from kernelevolve.core.errors import UnknownName
from kernelevolve.core.evaluation import Evaluation, Stage
from kernelevolve.core.events import Command
from kernelevolve.core.protocols import Workbench
from kernelevolve.knowing import library_of, retire_note
from kernelevolve.learning import learn
from kernelevolve.search.briefing import brief
from kernelevolve.search.journal import Journal
from kernelevolve.stores.memory import Memory
from kernelevolve.testing.journals import TARGET, TASK, passed
from kernelevolve.wiring import programmer_of
from tests.search.search_kit import Device, Writer


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    return RunConfig(language="cpp", store=str(tmp_path))


def run(store: Memory, name: str, config: RunConfig, after: float = 3.0) -> tuple[str, ...]:
    """A run that measures one change of a kernel, and learns; names of its skills."""
    journal = Journal(store, name)
    journal.start(TASK, TARGET, config.model_dump(mode="json"))
    _node(journal, config, passed(2.0), 2.0)
    _node(journal, config, passed(after), after, 1)
    journal.stopped("nodes")
    return learn(name, journal.graph, store, config)


def _node(
    journal: Journal, config: RunConfig, verdict: Evaluation, checked: float, *parents: int
) -> None:
    journal.selected(Move(parents=parents, memory="lineage" if parents else "fresh"))
    number = len(journal.graph)
    files = (SourceFile(path="model.py", text=f"{journal.run} {number}"),)
    told = brief(journal, number, config, "")
    journal.proposed(told, Proposal(files=files, summary="keep rows in registers"))
    journal.evaluated(number, verdict)
    journal.confirmed(number, passed(checked, Stage.CONFIRM))


def test_a_whole_run_says_what_it_taught(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Children of the first kernel are half as fast again."""

    class Harness(Device):
        def __init__(self, **given: object) -> None:
            super().__init__(lambda source, stage: passed(float(source), stage))

    class Programmer(Writer):
        async def propose(self, brief: Brief, bench: Workbench) -> Proposal:
            score = (3.0 if brief.parents else 2.0) - 0.001 * brief.number
            files = (SourceFile(path="model.py", text=str(score)),)
            return Proposal(files=files, summary="keep rows in registers" if brief.parents else "")

    fakes = {("harness", "local"): Harness, ("programmer", "builtin"): Programmer}
    real = registry.load
    monkeypatch.setattr(registry, "load", lambda *named: fakes.get(named) or real(*named))
    result = app.optimize(TASK, config.model_copy(update={"nodes": 12}))
    (ref,) = result.summary["learnt"]
    assert library_of(config).note(ref).title.endswith("keep rows in registers")
    assert app.runs(config.store)[0]["speedup"] == result.best.speedup


def test_a_second_run_adds_to_the_skill_of_the_first(config: RunConfig) -> None:
    store = Memory()
    (ref,) = run(store, "a", config)
    assert run(store, "b", config) == (ref,)
    note = library_of(config).note(ref)
    assert [line.split(",")[0] for line in note.source] == ["run: a", "run: b"]
    assert "torch 2" in note.source[0]
    assert "g++ " in note.source[0]
    (found,) = library_of(config).recall("rows in registers, bound by memory", limit=1)
    assert found == note


def test_a_skill_that_a_later_run_refutes_is_retired(config: RunConfig) -> None:
    store = Memory()
    (ref,) = run(store, "a", config)
    assert run(store, "b", config, after=1.0) == ()
    with pytest.raises(UnknownName, match="retired: measured as a loss: run: b, loss: #2 over #1"):
        library_of(config).note(ref)
    assert run(store, "c", config) == ()


def test_a_skill_is_gone_before_the_next_run_reads_it_once_its_node_is_in_quarantine(
    config: RunConfig,
) -> None:
    store = Memory()
    (ref,) = run(store, "a", config)
    programmer_of(config, store)
    assert library_of(config).note(ref)
    store.append("a", [Command(at=1.0, verb="quarantine", number=2, text="read the clock")])
    programmer_of(config, store)
    with pytest.raises(UnknownName, match="run a: #2 is in quarantine: read the clock"):
        library_of(config).note(ref)


def test_what_a_person_retired_is_not_learnt_again(config: RunConfig) -> None:
    store = Memory()
    (ref,) = run(store, "a", config)
    retire_note(ref, "it depends on the compiler", config)
    assert run(store, "b", config) == ()


def test_a_fault_in_learning_costs_no_run(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*given: object) -> None:
        raise ZeroDivisionError

    store = Memory()
    run(store, "a", config)
    for part in ("lessons", "skill_of"):
        with monkeypatch.context() as patched:
            patched.setattr(learning, part, broken)
            assert run(store, part, config) == ()
    assert run(store, "b", config)
