"""One command in the sandbox, from its standard input to its standard output."""

import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from threading import Event

from kernelevolve.core.errors import ProgrammerError
from kernelevolve.evaluation import lease, sandbox
from kernelevolve.evaluation.sandbox import Walls

SECONDS = 300.0
LOOK_SECONDS = 0.1
LAST_WORDS = 800


def execute(
    command: Sequence[str], stdin: bytes, environment: Mapping[str, str], stop: Event
) -> bytes:
    """Run a command that may execute the task's code: no network, nothing to write but /tmp.

    Like a build it waits for whoever times on a small machine. Whoever sets `stop` from another
    thread kills it, with all that it started.

    Raises:
        ProgrammerError: it failed, was stopped, or ran too long; the message ends with its last
            words.
    """
    with lease.building(), sandbox.filtered() as fds:
        walls = Walls(everything=True, filter_fd=next(iter(fds), None))
        child = subprocess.Popen(  # noqa: S603
            sandbox.wrap(command, walls),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=sandbox.environment(environment),
            pass_fds=fds,
        )
        with child:
            try:
                output, errors = _to_its_end(child, stdin, stop)
            except TimeoutError as error:
                raise ProgrammerError(f"{command[0]}: {error}") from error
            finally:
                child.kill()
    if child.returncode:
        said = errors.decode(errors="replace").strip()[-LAST_WORDS:]
        raise ProgrammerError(f"{' '.join(command)} ended with {child.returncode}: {said}")
    return output


def _to_its_end(child: "subprocess.Popen[bytes]", stdin: bytes, stop: Event) -> tuple[bytes, bytes]:
    """Both outputs.

    Raises:
        TimeoutError: it ran too long, or was stopped.
    """
    ends = time.monotonic() + SECONDS
    while not stop.is_set():
        if time.monotonic() > ends:
            raise TimeoutError(f"ran longer than {SECONDS:g} s")
        with suppress(subprocess.TimeoutExpired):
            return child.communicate(stdin, timeout=LOOK_SECONDS)
    raise TimeoutError("was stopped")
