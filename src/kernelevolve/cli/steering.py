"""`hint`, `pin`, `ban`, `pause`, `stop`: what a person says to a run while it goes on."""

from typing import Annotated

import typer
from rich.markup import escape

from kernelevolve import app
from kernelevolve.cli.options import Settings, examples, with_settings
from kernelevolve.cli.reply import Reply
from kernelevolve.cli.runs import RunName
from kernelevolve.core.errors import UsageError

NodeNumber = Annotated[str, typer.Argument(metavar="NODE", help="Number of a node.")]


def register(cli: typer.Typer) -> None:
    """Add this file's commands."""
    cli.command(epilog=examples('kernelevolve hint RUN "keep the row in registers"'))(hint)
    cli.command(epilog=examples("kernelevolve pin RUN 17"))(pin)
    cli.command(epilog=examples("kernelevolve ban RUN 17"))(ban)
    cli.command(epilog=examples("kernelevolve pause RUN", "kernelevolve pause RUN --off"))(pause)
    cli.command(epilog=examples("kernelevolve stop RUN"))(stop)


@with_settings("store")
def hint(
    run: RunName,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What to try, or to leave.")],
    settings: Settings,
) -> Reply:
    """Tell the programmer something: every brief from now on shows it."""
    return _said(run, "hint", settings, text=text)


@with_settings("store")
def pin(run: RunName, node: NodeNumber, settings: Settings) -> Reply:
    """Have the search go on from a node, and from pinned ones only."""
    return _said(run, "pin", settings, node)


@with_settings("store")
def ban(run: RunName, node: NodeNumber, settings: Settings) -> Reply:
    """Have a node never be a parent nor the best again."""
    return _said(run, "ban", settings, node)


@with_settings("store")
def pause(
    run: RunName,
    settings: Settings,
    off: Annotated[bool, typer.Option("--off", help="Go on.")] = False,
) -> Reply:
    """Open no new nodes until told to go on; what was begun is ended."""
    return _said(run, "resume" if off else "pause", settings)


@with_settings("store")
def stop(run: RunName, settings: Settings) -> Reply:
    """End a run: open nodes are finished, the best is confirmed and reported."""
    return _said(run, "stop", settings)


def _said(
    run: str, verb: app.Verb, settings: Settings, node: str | None = None, text: str = ""
) -> Reply:
    number = None if node is None else _number(node)
    graph = app.say(run, verb, settings.store, number, text)
    what = f"#{number}" if number is not None else escape(text)
    late = "" if graph.stopped_by is None else " (the run is not at work: heeded when it resumes)"
    payload = {
        "run": run,
        "verb": verb,
        "node": number,
        "text": text,
        "at_work": graph.stopped_by is None,
    }
    return Reply(payload, f"{verb} {what}".strip() + late)


def _number(text: str) -> int:
    if not text.removeprefix("#").isdigit():
        raise UsageError(f"node {text!r}: write a number, for example 17")
    return int(text.removeprefix("#"))
