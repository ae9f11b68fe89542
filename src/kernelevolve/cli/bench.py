"""`bench`: a whole suite of tasks, one run each, and one table at the end."""

from textwrap import shorten
from typing import Annotated, Optional

import typer
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from kernelevolve import app
from kernelevolve.benching import FAST, Row, Standing
from kernelevolve.cli.optimize import announced_interrupt
from kernelevolve.cli.options import RUN_FLAGS, Settings, examples, with_settings
from kernelevolve.cli.reply import DONE, FELL_SHORT, INTERRUPTED, STDERR, Reply, shell
from kernelevolve.cli.summary import flags
from kernelevolve.config import RunConfig
from kernelevolve.reporters.console import Console

SUITE_FLAGS = tuple(f for f in RUN_FLAGS if f not in ("baseline", "inputs", "run"))
"""What a suite is searched with; the rest belongs to one task."""
COMMON = ("eager", "compile")
REMARK_WIDTH = 90


def register(cli: typer.Typer) -> None:
    """Add this file's command."""
    cli.command(
        epilog=examples(
            "kernelevolve bench dlrm --minutes 5",
            "kernelevolve bench dlrm --only conv1d --only softmax --nodes 20",
            "kernelevolve bench dlrm --nodes 40 --threads 2 --json > dlrm.json",
        )
    )(bench)


@with_settings(*SUITE_FLAGS, options=True)
def bench(
    suite: Annotated[str, typer.Argument(metavar="SUITE", help="Name of a suite: dlrm.")],
    settings: Settings,
    only: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--only", metavar="CASE", help="One task by its name. May be repeated."),
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Search again what has a finished run in the store.")
    ] = False,
) -> Reply:
    """Optimise every task of a suite in turn; budgets count for each task.

    The same command goes on where it was interrupted, and repeats nothing that was finished.
    """
    config = settings.config()
    with Console(STDERR) as console, announced_interrupt():
        found = app.bench(suite, config, only or (), fresh, [console], _tell)
    text = Group(_table(found), *_figures(found), *_go_on(found, config, only or []))
    return Reply(found.dump(), text, _code(found))


def _code(found: Standing) -> int:
    if found.interrupted:
        return INTERRUPTED
    return DONE if found.correct == len(found.rows) else FELL_SHORT


def _tell(row: Row) -> None:
    if row.kept:
        STDERR.print(f"[bold]{escape(row.task)}[/bold] taken from run {escape(row.run or '')}")
    elif row.stopped_by == "error":
        STDERR.print(f"[red]{escape(row.reason)}[/red]", soft_wrap=True)


def _table(found: Standing) -> RenderableType:
    measured = {name for row in found.rows for name in row.speedup_over}
    baselines = sorted(measured, key=lambda name: (name not in COMMON, name != "eager", name))
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for head in ("task", "over the best baseline", *(f"over {name}" for name in baselines)):
        table.add_column(head, justify="left" if head == "task" else "right", no_wrap=True)
    table.add_column("roofline", justify="right")
    table.add_column("")
    for row in found.rows:
        over = (_times(row.speedup_over.get(name)) for name in baselines)
        share = "" if row.roofline_fraction is None else f"{row.roofline_fraction:.0%}"
        table.add_row(escape(row.task), _best(row), *over, share, escape(_remark(row)))
    return table


def _best(row: Row) -> str:
    if row.speedup is None:
        return "[red]none[/red]"
    low, high = row.interval or (row.speedup, row.speedup)
    figure = f"{row.speedup:.2f}x {escape(f'[{low:.2f}, {high:.2f}]')}"
    return f"[green]{figure}[/green]" if row.faster_than(1) else f"[yellow]{figure}[/yellow]"


def _times(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.2f}x"


def _remark(row: Row) -> str:
    said = [shorten(row.reason, REMARK_WIDTH, placeholder=" …")] if row.reason else []
    said += ["left to library calls"] if row.fallback else []
    said += ["rests on algebra"] if row.algebraic else []
    said += ["from an earlier run"] if row.kept else []
    return ", ".join(said)


def _figures(found: Standing) -> list[str]:
    shares = ", ".join(f"{found.fast(p):.0%} above {p:g}x" for p in FAST)
    left = f", {found.fallback} of them left to library calls" if found.fallback else ""
    lines = [
        f"{found.suite} on {escape(found.target)}: {found.correct} of {len(found.rows)} tasks "
        f"with a confirmed kernel{left}; of all tasks {shares}"
    ]
    means = {"the best baseline": found.geomean(), "eager": found.geomean("eager")}
    told = ", ".join(f"{mean:.2f}x over {name}" for name, mean in means.items() if mean)
    return [*lines, f"geometric mean of those with a kernel: {told}"] if told else lines


def _go_on(found: Standing, config: RunConfig, only: list[str]) -> list[str]:
    if any(row.kept for row in found.rows) and not found.interrupted:
        return ["[dim]finished earlier with the same settings: --fresh searches again[/dim]"]
    if not found.interrupted:
        return []
    cases = (word for name in only for word in ("--only", name))
    words = shell("kernelevolve", "bench", found.suite, *cases, *flags(config, SUITE_FLAGS))
    return [f"[dim]go on[/dim]  {escape(words)}"]
