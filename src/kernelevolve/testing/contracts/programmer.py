"""What every programmer must do."""

import ast
import asyncio
from asyncio.subprocess import PIPE
from collections.abc import Sequence

from kernelevolve.core.candidate import Brief, Exchange, Move, Proposal, SourceFile
from kernelevolve.core.errors import ProgrammerError
from kernelevolve.core.evaluation import Evaluation, Stage, Status
from kernelevolve.core.protocols import Programmer
from kernelevolve.core.target import TargetSpec
from kernelevolve.core.task import Task, Workload

TASK = Task(
    name="contract",
    source="""
import torch

class Model(torch.nn.Module):
    def forward(self, x):
        return torch.relu(x) * 2 + 1

def get_inputs():
    return [torch.randn(64, 64)]

def get_init_inputs():
    return []
""",
    workloads=(Workload(name="default"),),
)
"""A task that every programmer can do."""

BRIEF = Brief(
    task=TASK,
    target=TargetSpec(vendor="cpu", arch="x86_64", cores=(0,)),
    language="cpp",
    guide="model.py defines ModelNew",
    move=Move(),
    number=1,
    seed="0/1",
)
"""A fresh start."""


class OpenBench:
    """A workbench that evaluates nothing and runs commands without a sandbox: for tests only."""

    async def try_out(self, files: Sequence[SourceFile], stage: Stage) -> Evaluation:
        """See `Workbench`."""
        return Evaluation(status=Status.LOST, stage=Stage.SCREEN, message="nothing is judged here")

    async def run(self, command: Sequence[str], stdin: bytes) -> bytes:
        """See `Workbench`."""
        child = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, stderr=PIPE)
        output, errors = await child.communicate(stdin)
        if child.returncode:
            raise ProgrammerError(errors.decode(errors="replace")[-2000:])
        return output

    def look(self, ref: str) -> str:
        """See `Workbench`."""
        return f"{ref}: holds no source that counts"

    def blob(self, ref: str) -> bytes:
        """See `Workbench`."""
        raise ProgrammerError(f"no blob {ref}")

    def exchanged(self, exchange: Exchange) -> None:
        """See `Workbench`. Nothing is kept."""


class ProgrammerContract:
    """Subclass with pytest fixtures `programmer` and `brief` (a fresh start it can answer)."""

    def answer(self, programmer: Programmer, brief: Brief) -> Proposal | str:
        """The proposal, or the message of the only error that is allowed."""
        try:
            return asyncio.run(programmer.propose(brief, OpenBench()))
        except ProgrammerError as error:
            return str(error)

    def test_answers_with_files_or_says_why_not(self, programmer: Programmer, brief: Brief) -> None:
        answer = self.answer(programmer, brief)
        assert answer
        if isinstance(answer, Proposal):
            paths = [file.path for file in answer.files]
            assert len(set(paths)) == len(paths)
            assert "model.py" in paths
            ast.parse(next(f.text for f in answer.files if f.path == "model.py"))

    def test_study_changes_no_answer(self, programmer: Programmer, brief: Brief) -> None:
        async def studied() -> Proposal | str:
            try:
                await programmer.study(brief.task, brief.target, OpenBench())
                return await programmer.propose(brief, OpenBench())
            except ProgrammerError as error:
                return str(error)

        first, second = self.answer(programmer, brief), asyncio.run(studied())
        if isinstance(first, Proposal) and isinstance(second, Proposal):
            assert first.files == second.files
        else:
            assert first == second

    def test_the_same_brief_gets_the_same_answer(
        self, programmer: Programmer, brief: Brief
    ) -> None:
        first, second = (self.answer(programmer, brief) for _ in range(2))
        if isinstance(first, Proposal) and isinstance(second, Proposal):
            assert first.files == second.files
            assert first.plan == second.plan
        else:
            assert first == second
