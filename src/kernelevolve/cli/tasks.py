"""`evaluate` and `check`: one candidate, one task."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from kernelevolve import app
from kernelevolve.cli.options import JUDGE_FLAGS, Settings, examples, with_settings
from kernelevolve.cli.reply import BAD_INPUT, DONE, FELL_SHORT, STDERR, Reply
from kernelevolve.config import RunConfig
from kernelevolve.core.evaluation import Evaluation, Stage
from kernelevolve.core.job import Admission
from kernelevolve.core.target import said_of
from kernelevolve.core.task import Task

TASK_HELP = "Python file with Model, get_inputs and get_init_inputs."
TaskFile = Annotated[Path, typer.Argument(metavar="TASK", help=TASK_HELP)]


def register(cli: typer.Typer) -> None:
    """Add this file's commands."""
    cli.command(
        epilog=examples(
            "kernelevolve evaluate examples/softmax.py my_kernel.py",
            "kernelevolve evaluate examples/softmax.py kernel/ --stage verify",
            "kernelevolve evaluate task.py kernel/ --target nvidia:sm_90 --language cuda",
            "kernelevolve evaluate task.py kernel/ --target mtia:2i --timeline call.json",
        )
    )(evaluate)
    cli.command(
        epilog=examples(
            "kernelevolve check my_task.py",
            "kernelevolve check my_task.py --inputs captured.pt --json",
        )
    )(check)


@with_settings(*JUDGE_FLAGS, options=True)
def evaluate(
    task: TaskFile,
    candidate: Annotated[
        Path,
        typer.Argument(metavar="CANDIDATE", help="File with ModelNew, or the folder of model.py."),
    ],
    settings: Settings,
    stage: Annotated[
        Stage, typer.Option("--stage", help="The last stage wanted.", show_default=True)
    ] = Stage.BENCHMARK,
    timeline: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write what every engine of a simulated chip did, for ui.perfetto.dev.",
        ),
    ] = None,
) -> Reply:
    """Build, verify and time one candidate against a task's reference."""
    config = settings.config()
    loaded = read_task(task, config)
    if timeline is not None:
        app.can_trace(config)
    with STDERR.status(f"judging {candidate} against {task}"):
        found = app.evaluate(loaded, candidate, config, stage)
    text = escape(verdict(found))
    if found.diagnosis and not found.timings:
        text += f"\n  {escape(found.diagnosis.sentence)}"
    text += "".join(f"\n  note: {escape(r)}" for r in found.remarks)
    if timeline is not None and found.ok:
        with STDERR.status("simulating one call"):
            app.write_timeline(loaded, candidate, config, timeline)
        text += f"\n  timeline  {escape(str(timeline))}, simulated; open it in ui.perfetto.dev"
    return Reply(found.model_dump(mode="json"), text, DONE if found.ok else FELL_SHORT)


@with_settings(*JUDGE_FLAGS, options=True)
def check(task: TaskFile, settings: Settings) -> Reply:
    """Say whether a task can be searched: it loads, its reference is sane and repeatable."""
    config = settings.config()
    loaded = read_task(task, config)
    with STDERR.status(f"running the reference of {task} and its baselines"):
        found = app.check(loaded, config)
    code = DONE if found.admitted else BAD_INPUT
    return Reply(found.model_dump(mode="json"), _render(loaded, found), code)


def read_task(file: Path, config: RunConfig) -> Task:
    """The task in a file, with the captured inputs that the configuration names.

    Raises:
        TaskError: the file, or the file of inputs, cannot be used.
    """
    inputs = Path(config.inputs) if config.inputs else None
    return app.read_task(file, inputs)


def verdict(found: Evaluation) -> str:
    """An evaluation in one line."""
    if not found.ok:
        return f"{found.status}: {found.message.strip().partition(chr(10))[0]}"
    if found.score is None:
        kind = "" if found.fidelity == "measured" else f"{found.fidelity}, "
        return f"ok up to {found.stage}, {kind}not timed"
    workloads = " · ".join(
        f"{t.workload}{' (held out)' if t.held_out else ''} "
        f"{said_of(f'{t.median_us:.1f} us', found.fidelity)} "
        f"{t.speedup:.2f}x [{t.low:.2f}, {t.high:.2f}]"
        for t in found.timings
    )
    low, high = found.interval or (found.score, found.score)
    figure = said_of(f"{found.score:.2f}x [{low:.2f}, {high:.2f}]", found.fidelity)
    return f"ok {figure} over the best baseline: {workloads}"


def _render(task: Task, found: Admission) -> str:
    lines = [f"{task.name}: {'admitted' if found.admitted else 'not admitted'}"]
    for finding in found.findings:
        mark = "[red]fatal[/red]" if finding.fatal else "[yellow]note[/yellow]"
        lines.append(f"  {mark}  {escape(finding.code)}: {escape(finding.message)}")
    if found.memory_bytes:
        lines.append(f"  memory  {found.memory_bytes / 2**20:,.0f} MiB to judge one candidate")
    for workload, times in found.baselines_us.items():
        figures = ", ".join(
            said_of(f"{name} {time:,.1f} us", found.fidelity) for name, time in times.items()
        )
        floor = found.floor_us.get(workload)
        least = f" (at least {floor:,.1f} us by the roofline)" if floor else ""
        lines.append(f"  {escape(workload)}  {figures}{least}")
    return "\n".join(lines)
