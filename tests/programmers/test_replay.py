import asyncio
import json

import pytest

from kernelevolve.core.candidate import Candidate
from kernelevolve.core.errors import ProgrammerError
from kernelevolve.core.evaluation import Stage, Status
from kernelevolve.core.job import Job
from kernelevolve.harnesses.replay import Replay as RecordedVerdicts
from kernelevolve.programmers.replay import Replay as RecordedAnswers
from kernelevolve.stores.memory import Memory
from kernelevolve.testing.contracts.programmer import BRIEF, OpenBench
from kernelevolve.testing.journals import TARGET, TASK, passed
from tests.search.search_kit import Device, Writer, run, session


def write(brief) -> str:
    if brief.number == 4:
        raise ProgrammerError("no idea")
    return f"source {brief.number % 7}"


@pytest.fixture
def recorded() -> Memory:
    store = Memory()
    run(session(store, Writer(write), nodes=12, workers=1))
    return store


def test_a_replay_gives_the_same_events_up_to_times(recorded):
    store = Memory()
    answers, verdicts = RecordedAnswers(recorded, "run"), RecordedVerdicts.of(recorded, "run")
    run(session(store, answers, verdicts, nodes=12, workers=1))
    assert shape(store) == shape(recorded)


def shape(store: Memory) -> list[dict[str, object]]:
    return [json.loads(event.model_dump_json(exclude={"at"})) for event in store.read("run")]


def test_what_failed_fails_again(recorded):
    answers = RecordedAnswers(recorded, "run")
    with pytest.raises(ProgrammerError, match="no idea"):
        ask(answers, 4)


def test_beyond_the_recording_there_is_no_answer(recorded):
    with pytest.raises(ProgrammerError, match="'run' has no node #99"):
        ask(RecordedAnswers(recorded, "run"), 99)
    with pytest.raises(ProgrammerError, match="no node"):
        ask(RecordedAnswers(recorded, "other"), 1)


def ask(answers: RecordedAnswers, number: int):
    return asyncio.run(answers.propose(BRIEF.model_copy(update={"number": number}), OpenBench()))


def job(recorded: Memory, number: int, stage: Stage) -> Job:
    proposal = ask(RecordedAnswers(recorded, "run"), number)
    candidate = Candidate(language="cpp", files=proposal.files)
    return Job(task=TASK, candidate=candidate, target=TARGET, stage=stage, seed="")


def test_an_unrecorded_candidate_is_lost(recorded):
    verdict = asyncio.run(RecordedVerdicts().evaluate(job(recorded, 1, Stage.BENCHMARK)))
    assert verdict.status is Status.LOST
    assert "holds no benchmark" in verdict.message


def test_an_earlier_stage_says_what_it_would_have_said():
    store = Memory()
    device = Device(lambda source, stage: passed(2.0, stage))
    run(session(store, Writer(write), device, nodes=2, workers=1))
    verdict = asyncio.run(RecordedVerdicts.of(store, "run").evaluate(job(store, 1, Stage.VERIFY)))
    assert (verdict.status, verdict.stage, verdict.score) == (Status.OK, Stage.VERIFY, None)


def test_the_recorded_admission_is_given():
    verdicts = RecordedVerdicts()
    assert asyncio.run(verdicts.admit(TASK, TARGET, None)).admitted
    asyncio.run(verdicts.close())
