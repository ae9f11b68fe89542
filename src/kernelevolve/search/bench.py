"""What a programmer may do while it works on one brief."""

import difflib
import re
from collections.abc import Awaitable, Callable, Sequence

from kernelevolve.core.candidate import Candidate, Exchange, SourceFile
from kernelevolve.core.errors import ProgrammerError
from kernelevolve.core.evaluation import Evaluation, Stage, Status
from kernelevolve.core.graph import Node
from kernelevolve.search.journal import Journal

TRIES = 8
"""How often one answer may be tried out; static checks are free."""

Judge = Callable[[Candidate, Stage], Awaitable[Evaluation]]
Execute = Callable[[Sequence[str], bytes], Awaitable[bytes]]
"""Runs a command in the harness's sandbox: command and standard input to standard output."""


async def execute_nothing(command: Sequence[str], stdin: bytes) -> bytes:
    """For harnesses that have no sandbox."""
    raise ProgrammerError(f"this harness runs no commands: {' '.join(command)}")


def refused(stage: Stage) -> Evaluation:
    """The verdict on what is not tried out."""
    why = "confirm is not for trying" if stage is Stage.CONFIRM else "no tries left"
    message = f"{why}: answer with what you have"
    return Evaluation(status=Status.REJECTED, stage=Stage.SCREEN, message=message)


class Bench:
    """The workbench of one node, which is charged for its use."""

    def __init__(
        self,
        journal: Journal,
        number: int,
        language: str,
        judge: Judge,
        execute: Execute = execute_nothing,
        tries: int = TRIES,
    ) -> None:
        self._journal = journal
        self._number = number
        self._language = language
        self._judge = judge
        self._execute = execute
        self._left = tries

    async def try_out(self, files: Sequence[SourceFile], stage: Stage) -> Evaluation:
        """See `Workbench`. The final check is not for trying, and tries are counted."""
        if (self._left <= 0 and stage is not Stage.SCREEN) or stage is Stage.CONFIRM:
            return refused(stage)
        self._left -= stage is not Stage.SCREEN
        candidate = Candidate(language=self._language, files=tuple(files))
        evaluation = (await self._judge(candidate, stage)).without_held_out()
        self._journal.tried_out(self._number, stage, candidate, evaluation)
        return evaluation

    async def run(self, command: Sequence[str], stdin: bytes) -> bytes:
        """See `Workbench`."""
        return await self._execute(command, stdin)

    def blob(self, ref: str) -> bytes:
        """See `Workbench`."""
        return self._journal.store.get_blob(ref)

    def exchanged(self, exchange: Exchange) -> None:
        """See `Workbench`."""
        self._journal.exchanged(self._number, exchange)

    def look(self, ref: str) -> str:
        """See `Workbench`. What cannot be shown is answered with the reason."""
        match = re.fullmatch(r"#(\d+)(?:\.\.#(\d+))?", ref.strip())
        if match is None:
            return f"{ref!r}: ask for a node (#17) or a diff of two (#3..#17)"
        nodes = [self._journal.graph.nodes.get(int(n)) for n in match.groups() if n is not None]
        shown = [n for n in nodes if n is not None and n.proposal and not n.quarantined]
        if len(shown) < len(nodes):
            return f"{ref}: holds no source that counts"
        return self._show(shown[0]) if len(shown) == 1 else self._diff(shown[0], shown[1])

    def _show(self, node: Node) -> str:
        evaluation = node.evaluation.without_held_out() if node.evaluation else None
        score = "" if node.score is None else f", score {node.score:.3f}"
        lines = [f"#{node.number} from {list(node.move.parents)}: {node.status}{score}"]
        if evaluation and evaluation.message:
            lines.append(evaluation.message)
        if evaluation and evaluation.diagnosis:
            lines.append(evaluation.diagnosis.sentence)
        for file in self._journal.candidate(node.number).files:
            lines += [f"--- {file.path}", file.text]
        return "\n".join(lines)

    def _diff(self, old: Node, new: Node) -> str:
        before, after = (self._journal.candidate(n.number) for n in (old, new))
        paths = sorted({f.path for f in (*before.files, *after.files)})
        return "\n".join(
            line
            for path in paths
            for line in difflib.unified_diff(
                (before.text(path) or "").splitlines(),
                (after.text(path) or "").splitlines(),
                f"#{old.number}/{path}",
                f"#{new.number}/{path}",
                lineterm="",
            )
        )
