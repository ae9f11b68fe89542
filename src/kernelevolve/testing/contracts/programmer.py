"""What every programmer must do."""

import ast
import asyncio
from collections.abc import Sequence

from kernelevolve.core.candidate import Brief, Proposal, SourceFile
from kernelevolve.core.errors import ProgrammerError
from kernelevolve.core.evaluation import Evaluation, Stage, Status
from kernelevolve.core.protocols import Programmer


class EmptyBench:
    """A workbench on which nothing can be done."""

    async def try_out(self, files: Sequence[SourceFile], stage: Stage) -> Evaluation:
        """See `Workbench`."""
        return Evaluation(status=Status.LOST, stage=Stage.SCREEN, message="an empty bench")

    async def run(self, command: Sequence[str], stdin: bytes) -> bytes:
        """See `Workbench`."""
        raise ProgrammerError("an empty bench")

    def look(self, ref: str) -> str:
        """See `Workbench`."""
        return "an empty bench"

    def blob(self, ref: str) -> bytes:
        """See `Workbench`."""
        raise ProgrammerError("an empty bench")


class ProgrammerContract:
    """Subclass with pytest fixtures `programmer` and `brief` (a fresh start it can answer)."""

    def answer(self, programmer: Programmer, brief: Brief) -> Proposal | str:
        """The proposal, or the message of the only error that is allowed."""
        try:
            return asyncio.run(programmer.propose(brief, EmptyBench()))
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

    def test_the_same_brief_gets_the_same_answer(
        self, programmer: Programmer, brief: Brief
    ) -> None:
        first, second = (self.answer(programmer, brief) for _ in range(2))
        if isinstance(first, Proposal) and isinstance(second, Proposal):
            assert first.files == second.files
            assert first.plan == second.plan
        else:
            assert first == second
