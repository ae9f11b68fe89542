"""The programmer's look at a task ahead of its first brief."""

import logging

from kernelevolve.core.candidate import Candidate
from kernelevolve.core.errors import ProgrammerError
from kernelevolve.core.evaluation import Evaluation, Stage
from kernelevolve.core.protocols import Programmer
from kernelevolve.search.bench import Bench, Execute
from kernelevolve.search.briefing import without_held_out
from kernelevolve.search.journal import Journal

_log = logging.getLogger(__name__)


async def study(journal: Journal, programmer: Programmer, language: str, execute: Execute) -> None:
    """Show the task as briefs do; whatever fails is left to the first brief, which says it."""
    task, target = journal.graph.task, journal.graph.target
    if task is None or target is None:
        raise ValueError("a run's journal begins with RunStarted")
    bench = Bench(journal, 0, language, _refuse, execute)
    try:
        await programmer.study(without_held_out(task), target, bench)
    except Exception as error:  # noqa: BLE001 - propose meets the same, and that is recorded
        _log.info("the programmer could not study the task: %s", error)


async def _refuse(candidate: Candidate, stage: Stage) -> Evaluation:
    raise ProgrammerError("nothing is judged before the task is admitted")
