"""Operations of recommendation models in production, at the sizes of a processor or of a GPU."""

import ast
from collections.abc import Sequence
from pathlib import Path

from kernelevolve import taskfile
from kernelevolve.core.protocols import Suite
from kernelevolve.core.task import Task

FOLDER = Path(__file__).parent / "dlrm_tasks"
PROCESSORS = ("cpu",)
SIZES = ("WORKLOADS", "HELD_OUT")
LARGE = "ACCELERATOR_"
"""Before the names of the sizes that only an accelerator finishes in reasonable time."""


class Dlrm:
    """What the KernelEvolve paper reports on, and three common chains; one file for each case.

    A file declares its sizes twice: `WORKLOADS` and `HELD_OUT` for a processor, so that it works
    as it stands everywhere, and `ACCELERATOR_WORKLOADS` and `ACCELERATOR_HELD_OUT`.
    """

    def tasks(self, vendor: str) -> Sequence[Task]:
        """See `Suite`."""
        return [
            taskfile.parse(path.stem, scaled(path.read_text(), vendor), where=str(path))
            for path in sorted(FOLDER.glob("*.py"))
        ]


def scaled(source: str, vendor: str) -> str:
    """A case's file with the sizes of one scale alone, under the names of every task file."""
    unwanted = LARGE if vendor in PROCESSORS else ""
    lines = source.splitlines(keepends=True)
    for statement in ast.parse(source).body:
        name = _assigned(statement)
        if name.removeprefix(LARGE) not in SIZES:
            continue
        first, last = statement.lineno - 1, statement.end_lineno or statement.lineno
        if name == unwanted + name.removeprefix(LARGE):
            lines[first:last] = [""] * (last - first)
        else:
            lines[first] = lines[first].removeprefix(LARGE)
    return "".join(lines)


def _assigned(statement: ast.stmt) -> str:
    match statement:
        case ast.Assign(targets=[ast.Name(id=name)]):
            return name
        case _:
            return ""


plugin: type[Suite] = Dlrm
