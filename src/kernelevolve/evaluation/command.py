"""One command in the sandbox, from its standard input to its standard output."""

import subprocess
from collections.abc import Mapping, Sequence

from kernelevolve.core.errors import ProgrammerError
from kernelevolve.evaluation import sandbox
from kernelevolve.evaluation.sandbox import Walls

SECONDS = 300.0
LAST_WORDS = 800


def execute(command: Sequence[str], stdin: bytes, environment: Mapping[str, str]) -> bytes:
    """Run a command that may execute the task's code: no network, nothing to write but /tmp.

    Raises:
        ProgrammerError: it failed or ran too long; the message ends with its last words.
    """
    scrubbed = sandbox.environment(environment)
    try:
        with sandbox.filtered() as fds:
            walls = Walls(everything=True, filter_fd=next(iter(fds), None))
            done = subprocess.run(  # noqa: S603
                sandbox.wrap(command, walls),
                input=stdin,
                capture_output=True,
                env=scrubbed,
                timeout=SECONDS,
                check=False,
                pass_fds=fds,
            )
    except subprocess.TimeoutExpired as error:
        raise ProgrammerError(f"{command[0]}: ran longer than {SECONDS:g} s") from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()[-LAST_WORDS:]
        raise ProgrammerError(f"{' '.join(command)} ended with {done.returncode}: {said}")
    return done.stdout
