"""What a command answers, and the one place that writes it to standard output."""

import json
import math
import os
import shlex
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TextIO

from rich.console import Console, RenderableType
from rich.markup import escape

DONE = 0
FELL_SHORT = 1
BAD_INPUT = 2
INTERRUPTED = 130


class _Terminal(Console):
    """Standard output or error; a reader that went away is no reason to fail."""

    def on_broken_pipe(self) -> None:
        """Goes on silently, so that the exit code still says how the work ended."""
        self.quiet = True
        _let_go(self.file)


STDERR = _Terminal(stderr=True, highlight=False)
"""Where progress, warnings and errors go."""


@dataclass(frozen=True)
class Reply:
    """The end of a command: the same answer for programs and for people."""

    payload: Mapping[str, object]
    """The object that `--json` prints."""
    text: RenderableType
    """What a person reads."""
    code: int = DONE
    """Exit code."""


def failure(message: str, code: int) -> Reply:
    """One clear line on standard error, and the same as an object for programs."""
    STDERR.print(f"[bold red]error:[/bold red] {escape(message)}", soft_wrap=True)
    return Reply({"error": message}, "", code)


@contextmanager
def only_json() -> Iterator[TextIO]:
    """Yields the true standard output; until the end everything else that prints goes to stderr.

    The file descriptor is moved, so that native code and child processes are kept out too.
    """
    sys.stdout.flush()
    kept, python = os.dup(1), sys.stdout
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    try:
        with os.fdopen(os.dup(kept), "w", encoding="utf-8") as channel:
            yield channel
    finally:
        sys.stdout = python
        os.dup2(kept, 1)
        os.close(kept)


def write_json(payload: Mapping[str, object], channel: TextIO) -> None:
    """Print one JSON object on one line; figures that JSON cannot hold become null."""
    try:
        channel.write(json.dumps(_finite(payload), allow_nan=False, default=str) + "\n")
        channel.flush()
    except BrokenPipeError:
        _let_go(channel)


def write_text(text: RenderableType) -> None:
    """Print for a person. Long lines of a pipe are not wrapped, so that `grep` and `cut` work."""
    if text == "":
        return
    out = _Terminal(highlight=False)
    if not out.is_terminal:
        out = _Terminal(highlight=False, width=240)
    try:
        out.print(text, soft_wrap=isinstance(text, str))
        sys.stdout.flush()
    except BrokenPipeError:
        _let_go(sys.stdout)


def shell(*words: str | Path | None) -> str:
    """A command that can be pasted into a shell; None words are left out."""
    return shlex.join(str(word) for word in words if word is not None)


def _let_go(stream: IO[str]) -> None:
    """Point a stream that nobody reads at nothing, so that its last flush does not fail."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def _finite(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
