"""The `kernelevolve` command: gathers the commands, and turns each ending into an exit code."""

import errno
import sys
import traceback
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Annotated

import typer

from kernelevolve.cli import (
    bench,
    knowledge,
    machine,
    optimize,
    redteam,
    runs,
    steering,
    tasks,
)
from kernelevolve.cli.options import examples
from kernelevolve.cli.reply import (
    BAD_INPUT,
    DONE,
    FELL_SHORT,
    INTERRUPTED,
    STDERR,
    Reply,
    failure,
    only_json,
    write_json,
    write_text,
)
from kernelevolve.core.errors import KernelEvolveError, StoreError, UsageError

cli = typer.Typer(
    name="kernelevolve",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    epilog=examples(
        "kernelevolve doctor",
        "kernelevolve optimize examples/softmax.py --minutes 2",
        "kernelevolve best RUN -o kernel/",
    ),
)


def _print_version(wanted: bool) -> None:
    if wanted:
        write_text(f"kernelevolve {version('kernelevolve')}")
        raise typer.Exit


@cli.callback()
def describe(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", is_eager=True, callback=_print_version
        ),
    ] = False,
) -> None:
    """Writes, verifies, times and searches for faster compute kernels for PyTorch modules."""


for group in (optimize, runs, steering, tasks, machine, redteam, bench, knowledge):
    group.register(cli)


def run() -> None:
    """Entry point of the console script."""
    sys.exit(main(sys.argv[1:]))


def main(arguments: list[str]) -> int:
    """Run one command and say how it ended, as an exit code; prints, and never raises.

    Args:
        arguments: the words after `kernelevolve`.
    """
    with ExitStack() as stack:
        channel = stack.enter_context(only_json()) if "--json" in arguments else None
        reply = _reply(arguments)
        if isinstance(reply, int):
            return reply
        if channel is not None:
            write_json(reply.payload, channel)
        else:
            write_text(reply.text)
        return reply.code


def _reply(arguments: list[str]) -> Reply | int:
    try:
        command = typer.main.get_command(cli)
        ended = command.main(arguments, prog_name="kernelevolve", standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        ended = INTERRUPTED
    except Exception as error:  # noqa: BLE001  every failure becomes one line and an exit code
        return _failed(error)
    if ended == INTERRUPTED:
        return failure("interrupted", INTERRUPTED)
    return ended if isinstance(ended, Reply | int) else DONE


def _failed(error: Exception) -> Reply | int:
    match error:
        case typer.TyperException():
            return _usage(error)
        case UsageError() | StoreError():
            return failure(str(error), BAD_INPUT)
        case KernelEvolveError():
            return failure(str(error), FELL_SHORT)
        case OSError(filename=str() | Path(), strerror=str()):
            return failure(f"{error.filename}: {error.strerror}", BAD_INPUT)
        case OSError(errno=errno.ENOSPC):
            return failure(f"{error.strerror}; free some, or choose another --store", BAD_INPUT)
        case _:
            return _unexpected(error)


def _usage(error: typer.TyperException) -> Reply | int:
    context = getattr(error, "ctx", None)
    text = error.format_message()
    if type(error).__name__ == "NoArgsIsHelpError":
        STDERR.print(text, markup=False)
        return BAD_INPUT
    path = context.command_path if context else "kernelevolve"
    return failure(f"{text.rstrip('.')}; see {path} --help", BAD_INPUT)


def _unexpected(error: Exception) -> Reply | int:
    with NamedTemporaryFile(
        "w", prefix="kernelevolve-error-", suffix=".txt", delete=False, encoding="utf-8"
    ) as file:
        traceback.print_exception(error, file=file)
    first = str(error).partition("\n")[0]
    return failure(
        f"unexpected {type(error).__name__}: {first} (a bug of kernelevolve; "
        f"the traceback is in {Path(file.name)})",
        FELL_SHORT,
    )
