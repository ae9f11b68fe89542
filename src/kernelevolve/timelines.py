"""What the engines of a simulated chip do in one call of a candidate, as a file."""

import json
import sys
from pathlib import Path

from kernelevolve import candidatefile
from kernelevolve.config import RunConfig
from kernelevolve.core.errors import ProgrammerError, UsageError
from kernelevolve.core.task import Task
from kernelevolve.wiring import Machine, Parts

MODULES = {"mtia": "kernelevolve.runtime.mtia.traced"}
"""What traces a call, by vendor."""


def can_trace(config: RunConfig) -> None:
    """Make sure that the target has engines to look at.

    Raises:
        UsageError: it is none that is simulated.
    """
    target = Parts.of(config).target
    if target.vendor not in MODULES:
        raise UsageError(
            f"{target.address} has no simulator, whose timeline this would be; use --target mtia:2i"
        )


def write_timeline(task: Task, candidate: Path, config: RunConfig, path: Path) -> None:
    """Simulate one call at the first workload, and write it for ui.perfetto.dev to open.

    Raises:
        UsageError: the target is not simulated, or the call failed; the message says how.
    """
    can_trace(config)
    if not task.source:
        raise UsageError("a timeline needs a task file; this task is a live module")
    parts = Parts.of(config)
    request = {
        "source": task.source,
        "files": {f.path: f.text for f in candidatefile.read(candidate)},
        "sizes": task.shown[0].sizes,
        "mode": task.mode,
        "arch": parts.target.arch,
    }
    command = [sys.executable, "-P", "-m", MODULES[parts.target.vendor]]
    with Machine(parts, parts.config, task.attachments.__getitem__) as machine:
        try:
            found = machine.loop.run(machine.execute(command, json.dumps(request).encode()))
        except ProgrammerError as error:
            raise UsageError(f"no timeline: {error}") from error
    path.write_bytes(found)
