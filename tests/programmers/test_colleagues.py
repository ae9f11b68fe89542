import asyncio

import pytest

from kernelevolve.core.candidate import Attempt, Move, Proposal, SourceFile, Tried, Usage
from kernelevolve.core.errors import ProgrammerError, ProgrammerLost
from kernelevolve.programmers._colleagues import SEEDS, Colleagues
from kernelevolve.programmers.tuner import Tuner, tunables
from kernelevolve.testing.journals import passed
from tests.programmers.llm_kit import Bench, brief

MODEL = 'TUNABLES = {"BLOCK": [64, 128, 256], "FAST": [True, False], "GONE": [1, 2]}\nBLOCK = 128\n'
NATIVE = "#define UNROLL 4\nconstexpr int FAST = 1;\nint f() { return FAST; }\n"
FILES = (SourceFile(path="model.py", text=MODEL), SourceFile(path="k.cpp", text=NATIVE))


def attempt(number: int = 1, files=FILES, plan: str | None = None) -> Attempt:
    return Attempt(number=number, files=files, plan=plan, summary="", evaluation=passed(2.0))


def turned(**fields) -> Proposal:
    return asyncio.run(Tuner().propose(brief(**{"parents": (attempt(),), **fields}), Bench()))


def test_knobs_are_what_a_source_declares_and_sets():
    assert tunables(FILES) == {"BLOCK": (128, 64, 256), "FAST": (1, False)}


def test_one_knob_is_turned_and_nothing_else():
    texts = {f.path: f.text for f in turned().files}
    changed = [p for p, before in ((f.path, f.text) for f in FILES) if texts[p] != before]
    assert len(changed) == 1
    assert tunables(turned().files) != tunables(FILES)


def test_every_setting_is_tried_once():
    tried, seen = [], set()
    for number in range(10):
        try:
            proposal = turned(tried=tuple(tried), seed=f"0/{number}")
        except ProgrammerError as error:
            assert "every setting" in str(error)
            break
        seen.add(tuple(f.text for f in proposal.files))
        tried.append(Tried(plan=proposal.plan))
    assert len(seen) == len(tried) == 3 * 2 - 1


def test_without_knobs_there_is_nothing_to_turn():
    plain = (SourceFile(path="model.py", text="BLOCK = 3\n"),)
    with pytest.raises(ProgrammerError, match="no TUNABLES"):
        turned(parents=(attempt(files=plain),))


class Says:
    def __init__(self, name: str, error: ProgrammerError | None = None) -> None:
        self.name, self.error = name, error

    async def study(self, task, target, bench): ...

    def forecast(self, task, target, nodes) -> Usage:
        return Usage(tokens=nodes)

    async def propose(self, brief, bench) -> Proposal:
        if self.error:
            raise self.error
        return Proposal(files=FILES, summary=self.name)


def who(colleagues: Colleagues, number: int, *parents: Attempt) -> str:
    move = Move(parents=tuple(p.number for p in parents))
    told = brief(number=number, seed=f"0/{number}", parents=parents, move=move)
    return asyncio.run(colleagues.propose(told, Bench())).summary


def test_the_built_in_programmer_begins_and_models_go_on():
    both = Colleagues({"builtin": Says("builtin"), "llm": Says("llm")})
    assert {who(both, n) for n in range(1, SEEDS + 1)} == {"builtin"}
    assert {who(both, n) for n in range(SEEDS + 1, 30)} == {"llm"}
    schedule = attempt(files=FILES[1:], plan='{"regions": []}')
    assert {who(both, n, schedule) for n in range(9, 40)} == {"builtin", "llm"}
    written = [who(both, n, attempt(plan='{"model": "m"}')) for n in range(9, 60)]
    assert "builtin" not in written
    assert any("with BLOCK" in said or "FAST" in said for said in written)


def test_who_has_no_answer_is_replaced_and_who_is_lost_stops_the_run():
    both = Colleagues({"builtin": Says("builtin", ProgrammerError("no plan")), "llm": Says("llm")})
    assert who(both, 1) == "llm"
    lost = Colleagues({"builtin": Says("builtin"), "llm": Says("llm", ProgrammerLost("no key"))})
    with pytest.raises(ProgrammerLost, match="no key"):
        who(lost, SEEDS + 1)
