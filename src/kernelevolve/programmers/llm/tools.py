"""The workbench as tools of a model: metered, and answered in a few lines."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import Literal

from pydantic_ai import RunContext, Tool

from kernelevolve.core.candidate import Brief, SourceFile
from kernelevolve.core.errors import KernelEvolveError
from kernelevolve.core.evaluation import Evaluation, Stage, Timing
from kernelevolve.core.protocols import KnowledgeBase, Workbench
from kernelevolve.programmers.llm import answer
from kernelevolve.programmers.llm.compose import CALLS, TRIES, clipped, verdict

STAGES = {
    "lint": Stage.SCREEN,
    "build": Stage.BUILD,
    "verify": Stage.VERIFY,
    "time": Stage.BENCHMARK,
}
MOST_NOTES = 5
ENOUGH = "No tool calls are left. Answer now, with the best kernel that you have."


@dataclass
class Desk:
    """What one conversation works at."""

    brief: Brief
    bench: Workbench
    knowledge: KnowledgeBase | None
    calls: int = CALLS
    tries: int = TRIES

    @property
    def current(self) -> tuple[SourceFile, ...]:
        """Files that edits apply to."""
        return self.brief.parents[0].files if self.brief.parents else ()

    def take(self) -> bool:
        """Whether one more call is free."""
        self.calls -= 1
        return self.calls >= 0


async def check(
    ctx: RunContext[Desk], kernel: str, upto: Literal["lint", "build", "verify", "time"]
) -> str:
    """Run a kernel through the harness and say how far it gets.

    Args:
        ctx: the desk.
        kernel: the kernel as text in the form of an answer (FILE and EDIT parts).
        upto: lint runs static checks, build compiles too, verify compares with the reference too,
            time measures the score too.
    """
    desk = ctx.deps
    if not desk.take():
        return ENOUGH
    try:
        files = answer.parse(kernel, desk.current).files
    except answer.Complaint as complaint:
        return str(complaint)
    desk.tries -= 1
    verdict = await desk.bench.try_out(files, STAGES[upto])
    return f"{told(verdict)}\n({max(0, desk.tries)} tries left)"


def show_node(ctx: RunContext[Desk], node: int) -> str:
    """Show an earlier attempt of this run: its source and its verdict."""
    return clipped(ctx.deps.bench.look(f"#{node}"), 20_000) if ctx.deps.take() else ENOUGH


def diff_nodes(ctx: RunContext[Desk], old: int, new: int) -> str:
    """Show how the sources of two earlier attempts differ."""
    if not ctx.deps.take():
        return ENOUGH
    return clipped(ctx.deps.bench.look(f"#{old}..#{new}"), 20_000)


def search_notes(ctx: RunContext[Desk], query: str) -> str:
    """Search the knowledge base by a symptom, a message or a technique; gives names and titles."""
    desk = ctx.deps
    if not desk.take() or desk.knowledge is None:
        return ENOUGH
    brief = desk.brief
    found = desk.knowledge.recall(
        query, limit=MOST_NOTES, target=brief.target.address, language=brief.language
    )
    return "\n".join(f"{note.ref}: {note.title}" for note in found) or "nothing fits"


def read_note(ctx: RunContext[Desk], ref: str) -> str:
    """Read one note of the knowledge base."""
    desk = ctx.deps
    if not desk.take() or desk.knowledge is None:
        return ENOUGH
    try:
        note = desk.knowledge.note(ref)
    except KernelEvolveError as error:
        return str(error)
    return f"# {note.title}\n\n{note.text}"


LOOKING = (Tool(show_node), Tool(diff_nodes))
READING = (Tool(search_notes), Tool(read_note))


def offered(knowledge: KnowledgeBase | None) -> list[Tool[Desk]]:
    """The tools of the programmer role."""
    return [Tool(check), *LOOKING, *(READING if knowledge is not None else ())]


def told(evaluation: Evaluation) -> str:
    """A verdict in a few lines."""
    lines = [f"{evaluation.stage}: {verdict(evaluation)}"]
    if not evaluation.ok and evaluation.message:
        lines.append(clipped(evaluation.message))
    lines += [f"{f.rule}: {f.reason} {f.where}".strip() for f in evaluation.flags]
    if evaluation.errors:
        most = max(max(e.rms, e.maximum) for e in evaluation.errors)
        lines.append(f"outputs agree; the largest error is {most:.2g} of its budget")
    lines += [_timed(t) for t in evaluation.timings]
    if evaluation.ok and not evaluation.timings and evaluation.diagnosis:
        lines += [f"{k}: {v:g}" for k, v in evaluation.diagnosis.resources.items()]
    return "\n".join(lines)


def _timed(timing: Timing) -> str:
    baselines = ", ".join(f"{name} {median(us):.1f}" for name, us in timing.baselines_us.items())
    return (
        f"workload {timing.workload}: {timing.median_us:.1f} us against {baselines} us: "
        f"{timing.speedup:.2f}x, 95 % interval [{timing.low:.2f}, {timing.high:.2f}]"
    )
