"""`optimize` and `resume`: a search, watched while it runs and summed up when it ends."""

import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer

from kernelevolve import app
from kernelevolve.cli.options import RUN_FLAGS, Settings, examples, with_settings
from kernelevolve.cli.reply import DONE, FELL_SHORT, INTERRUPTED, STDERR, Reply, shell
from kernelevolve.cli.summary import Asked, summary
from kernelevolve.cli.tasks import TASK_HELP, read_task
from kernelevolve.reporters.console import Console

INTERRUPT = "saving the best so far; press again to leave at once"

RESUMABLE = tuple(f for f in RUN_FLAGS if f not in ("target", "language", "inputs", "run"))
"""What a resumed run may change; the rest is what it is a run of."""


def register(cli: typer.Typer) -> None:
    """Add this file's commands."""
    cli.command(
        epilog=examples(
            "kernelevolve optimize examples/softmax.py --minutes 2",
            "kernelevolve optimize my_task.py --nodes 30 --goal 3 --json > result.json",
            "kernelevolve optimize my_task.py --inputs captured.pt --baseline mine.py",
            "kernelevolve optimize my_task.py --policy mcts --set policy.exploration=1.4",
        )
    )(optimize)
    cli.command(
        epilog=examples(
            "kernelevolve resume RUN", "kernelevolve resume RUN --nodes 120 --workers 4"
        )
    )(resume)


@with_settings(*RUN_FLAGS, options=True)
def optimize(
    file: Annotated[Path, typer.Argument(metavar="FILE.py", help=TASK_HELP)], settings: Settings
) -> Reply:
    """Search for a faster kernel of a PyTorch module, verify it and confirm it."""
    config = settings.config()
    task = read_task(file, config)
    return _watched(
        lambda console: app.optimize(task, config, [console]), Asked(config, file.resolve())
    )


@with_settings(*RESUMABLE, options=True)
def resume(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Name of the run.")], settings: Settings
) -> Reply:
    """Go on with a run that was interrupted, or whose limits you raise."""
    config = app.stored_config(run, settings.store, settings.flags)
    return _watched(lambda console: app.resume(run, config, [console]), Asked(config))


def _watched(search: Callable[[Console], app.Result], asked: Asked) -> Reply:
    with Console(STDERR) as console, announced_interrupt():
        result = search(console)
    announce_learnt(result.summary)
    code = DONE if result.summary["best"] else FELL_SHORT
    if result.summary["stopped_by"] == "interrupted":
        code = INTERRUPTED
    return Reply(result.summary, summary(result.summary, asked), code)


def announce_learnt(found: Mapping[str, Any]) -> None:
    """One line on standard error, where a run taught something."""
    if refs := found["learnt"]:
        skills = f"{len(refs)} skill{'s' if len(refs) > 1 else ''}"
        STDERR.print(f"learnt {skills}: {shell('kernelevolve', 'knowledge', 'show', refs[0])}")


@contextmanager
def announced_interrupt() -> Iterator[None]:
    """Says what the first Ctrl-C does; what it does is the application's business.

    Where interrupts are ignored, as in a script's background, they stay so.
    """
    inner = signal.getsignal(signal.SIGINT)
    if not callable(inner):
        yield
        return

    def announce(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, inner)
        try:
            STDERR.print(INTERRUPT)
        except RuntimeError:  # it came in the middle of another print
            os.write(2, f"{INTERRUPT}\n".encode())
        inner(number, frame)

    signal.signal(signal.SIGINT, announce)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, inner)
