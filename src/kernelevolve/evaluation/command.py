"""One command in the sandbox, from its standard input to its standard output."""

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from threading import Event, Thread

from kernelevolve.core.errors import ProgrammerError
from kernelevolve.evaluation import lease, sandbox
from kernelevolve.evaluation.sandbox import Walls

SECONDS = 300.0
POLITE_SECONDS = 20.0
"""Nobody times meanwhile on a small machine; what never ends must not hold them up for longer."""
LAST_WORDS = 800


def execute(
    command: Sequence[str], stdin: bytes, environment: Mapping[str, str], stop: Event
) -> bytes:
    """Run a command that may execute the task's code: no network, nothing to write but /tmp.

    Like a build it waits for whoever times on a small machine. Whoever sets `stop` from another
    thread kills it with all that it started; it is set when this returns.

    Raises:
        ProgrammerError: it failed, was stopped or ran too long; the message ends with its last
            words.
    """
    with ExitStack() as polite, sandbox.filtered() as fds:
        polite.enter_context(lease.building())
        walls = Walls(everything=True, filter_fd=next(iter(fds), None))
        child = subprocess.Popen(  # noqa: S603
            sandbox.wrap(command, walls),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=sandbox.environment(environment),
            pass_fds=fds,
            start_new_session=True,
        )
        ended = ""
        # A group, since bubblewrap alone leaves a child when it is killed while it sets up.

        def watch() -> None:
            nonlocal ended
            stopped = stop.wait(POLITE_SECONDS)
            polite.close()
            stopped = stopped or stop.wait(SECONDS - POLITE_SECONDS)
            if child.poll() is None:
                ended = "was stopped" if stopped else f"ran longer than {SECONDS:g} s"
                with suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)

        watcher = Thread(target=watch, daemon=True)
        watcher.start()
        output, errors = child.communicate(stdin)
        stop.set()
        watcher.join()
    if ended:
        raise ProgrammerError(f"{' '.join(command)} {ended}")
    if child.returncode:
        said = errors.decode(errors="replace").strip()[-LAST_WORDS:]
        raise ProgrammerError(f"{' '.join(command)} ended with {child.returncode}: {said}")
    return output
