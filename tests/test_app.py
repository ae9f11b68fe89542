"""What `app` starts together and ends together, with a scripted harness and programmer."""

import asyncio

import pytest

from kernelevolve import app, registry
from kernelevolve.config import RunConfig
from kernelevolve.core.candidate import Usage
from kernelevolve.core.errors import ProgrammerError, TaskError
from kernelevolve.core.job import Admission, Finding
from kernelevolve.testing.journals import TASK
from kernelevolve.wiring import Machine
from tests.search.search_kit import Device, Writer


class Room:
    """Where a harness and a programmer meet."""

    def __init__(self, admitted=True, study=None):
        self.admitted = admitted
        self.studying = asyncio.Event()
        self.left = []
        self.study = study or self.studying.set

    def admission(self):
        finding = Finding(code="reference-raises", message="it raised", fatal=True)
        return Admission(admitted=self.admitted, findings=() if self.admitted else (finding,))


@pytest.fixture
def in_a(monkeypatch, tmp_path):
    """Have a run of one node in a room; gives the programmer."""
    real = registry.load

    def enter(room):
        class Harness(Device):
            def __init__(self, **given):
                super().__init__()

            async def admit(self, task, spec, baseline):
                await room.studying.wait()
                return room.admission()

        class Programmer(Writer):
            async def study(self, task, target, bench):
                self.studied = task
                try:
                    room.study()
                    await asyncio.sleep(0 if room.admitted else 3600)
                finally:
                    room.left.append(len(self.briefs))

            def forecast(self, task: object, target: object, nodes: int) -> Usage:
                return Usage()

        fakes = {("harness", "local"): Harness, ("programmer", "builtin"): lambda: writer}
        writer = Programmer()
        monkeypatch.setattr(
            registry, "load", lambda family, name: fakes.get((family, name)) or real(family, name)
        )
        app.optimize(TASK, RunConfig(nodes=1, store=str(tmp_path)))
        return writer

    return enter


def test_the_programmer_studies_the_task_while_it_is_being_admitted(in_a):
    """The harness of this test admits when it is being studied, and not before."""
    room = Room()
    writer = in_a(room)
    assert room.left == [0]
    assert len(writer.briefs) == 1
    assert writer.studied == writer.briefs[0].task


def test_a_task_that_is_not_admitted_is_studied_no_longer(in_a):
    room = Room(admitted=False)
    with pytest.raises(TaskError, match="it raised"):
        in_a(room)
    assert room.left == [0]


def test_what_cannot_be_studied_is_said_by_the_first_answer(in_a):
    room = Room()

    def fail():
        room.studying.set()
        raise ProgrammerError("no such thing")

    room.study = fail
    assert len(in_a(room).briefs) == 1


def test_an_interrupted_admission_is_no_error(in_a, monkeypatch, tmp_path):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Machine, "admission", interrupted)
    with pytest.raises(KeyboardInterrupt):
        in_a(Room())
    (row,) = app.runs(str(tmp_path))
    assert row["state"] == "interrupted"
