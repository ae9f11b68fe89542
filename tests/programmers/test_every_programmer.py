from dataclasses import fields, is_dataclass

import pytest

from kernelevolve import registry
from kernelevolve.stores.memory import Memory
from kernelevolve.testing.contracts.programmer import BRIEF, ProgrammerContract
from tests.programmers.llm_kit import ANSWER, Endpoint, llm
from tests.search.search_kit import Writer, run, session


def recording() -> Memory:
    """A store with the finished run `run`."""
    store = Memory()
    run(session(store, Writer(lambda brief: f"number = {brief.number}"), nodes=3))
    return store


@pytest.fixture(params=registry.names("programmer"), scope="module")
def programmer(request):
    if request.param == "llm":
        return llm(Endpoint([ANSWER]))
    plugin = registry.load("programmer", request.param)
    needs = {f.name for f in fields(plugin)} if is_dataclass(plugin) else set()
    return plugin(store=recording(), run="run") if {"store", "run"} <= needs else plugin()


class TestEveryProgrammer(ProgrammerContract):
    @pytest.fixture
    def brief(self):
        return BRIEF
