"""Briefs to proposals, with capture in a process of its own and no harness."""

import asyncio
import subprocess
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import torch

from kernelevolve.core.candidate import Attempt, Brief, Move, Proposal, SourceFile, Tried
from kernelevolve.core.errors import ProgrammerError
from kernelevolve.core.evaluation import Diagnosis, Evaluation, Stage, Status
from kernelevolve.core.target import TargetSpec
from kernelevolve.core.task import Task, Workload
from kernelevolve.programmers.builtin import Builtin
from kernelevolve.programmers.builtin.render import Rendered

from .conftest import HEAD, loaded

SOFTMAX = HEAD + (
    "class Model(nn.Module):\n    def forward(self, x):\n        return torch.softmax(x, -1)\n"
    "def get_inputs(rows, cols): return [torch.randn(rows, cols)]\n"
)


class Bench:
    """Runs commands as they are and holds one blob."""

    def __init__(self, data: bytes = b"") -> None:
        self.data = data

    async def run(self, command: Sequence[str], stdin: bytes) -> bytes:
        return subprocess.run(command, input=stdin, capture_output=True, check=True).stdout

    async def try_out(self, files: Sequence[SourceFile], stage: Stage) -> Evaluation:
        raise AssertionError("not asked for")

    def look(self, ref: str) -> str:
        return ref

    def blob(self, ref: str) -> bytes:
        return self.data


def brief(task: Task, **fields: Any) -> Brief:
    spec = TargetSpec(vendor="cpu", arch="x86_64", index=0, name="test", cores=(0,))
    given: dict[str, Any] = {"move": Move(), "number": 1, "seed": "0/1", "language": "cpp"}
    return Brief(task=task, target=spec, guide="", **{**given, **fields})


def task(**fields: Any) -> Task:
    sizes = {"rows": 8, "cols": 32}
    given = {"name": "t", "source": SOFTMAX, "workloads": (Workload(name="w", sizes=sizes),)}
    return Task(**{**given, **fields})


def answer(programmer: Builtin, asked: Brief, data: bytes = b"") -> Proposal:
    return asyncio.run(programmer.propose(asked, Bench(data)))


def known(*made: Proposal) -> tuple[Tried, ...]:
    return tuple(Tried(plan=one.plan) for one in made if one.plan)


def attempt(number: int, made: Proposal, score: float) -> Attempt:
    limit = Diagnosis(limit="memory", sentence="waits for memory")
    judged = Evaluation(status=Status.OK, stage=Stage.BENCHMARK, score=score, diagnosis=limit)
    return Attempt(
        number=number, files=made.files, plan=made.plan, summary=made.summary, evaluation=judged
    )


@pytest.fixture(scope="module")
def models() -> dict[str, Any]:
    """What was captured once, for programmers that are asked of the same task."""
    return {}


def test_start_change_and_merge_give_new_sources(models: dict[str, Any]) -> None:
    programmer = Builtin()
    programmer.models = models
    first = answer(programmer, brief(task()))
    assert first.plan is not None and not first.fallback
    parent = attempt(1, first, 1.5)
    move = Move(parents=(1,), memory="lineage")
    second = answer(programmer, brief(task(), move=move, parents=(parent,), tried=known(first)))
    assert second.files != first.files and "memory" in second.summary
    both = (parent, attempt(2, second, 1.6))
    tried = known(first, second)
    move = Move(parents=(1, 2), memory="merge")
    third = answer(programmer, brief(task(), move=move, parents=both, tried=tried))
    assert third.files not in (first.files, second.files)


def test_random_plans_are_repeatable(models: dict[str, Any]) -> None:
    programmer = Builtin(guided=False)
    programmer.models = models
    asked = brief(task(), tried=known(answer(programmer, brief(task()))), seed="3/9")
    assert answer(programmer, asked).plan == answer(programmer, asked).plan


def test_another_language_is_refused() -> None:
    with pytest.raises(ProgrammerError, match="writes cpp"):
        answer(Builtin(), brief(task(), language="other"))


def test_gradients_are_left_to_the_reference() -> None:
    made = answer(Builtin(), brief(task(backward=True)))
    assert made.fallback and "autograd" in made.summary


class Shifted(torch.nn.Module):
    """Keeps a tensor that is neither parameter nor buffer."""

    def __init__(self, by: torch.Tensor) -> None:
        super().__init__()
        self.by = by

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.gelu(x + self.by)


@pytest.mark.slow
@pytest.mark.needs_gxx
def test_an_exported_program_keeps_its_state(tmp_path: Path) -> None:
    tail = Shifted(torch.tensor([0.5] * 39 + [2.0]))
    module = torch.nn.Sequential(torch.nn.Linear(24, 40), torch.nn.BatchNorm1d(40), tail)
    module[1].running_mean.uniform_()
    inputs = torch.randn(6, 24)
    data = BytesIO()
    torch.export.save(torch.export.export(module.eval(), (inputs,)), data)
    asked = brief(task(source="", program="blob", workloads=(Workload(name="default"),)))
    made = answer(Builtin(), asked, data.getvalue())
    files = {f.path: f.text for f in made.files}
    new = loaded(Rendered(files, False, False), tmp_path)()
    new.load_state_dict(module.state_dict())
    new.prepare()
    assert made.algebraic
    with torch.no_grad():
        assert torch.allclose(new(inputs), module(inputs), atol=1e-5)
