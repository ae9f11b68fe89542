"""One session of a run through the command line, meant to be killed: see test_kill_resume.

Everything is as in a run of a user's, but that candidates come from a recorded run, each after a
command in the sandbox.
"""

import os
from pathlib import Path

from kernelevolve import app
from kernelevolve.cli.main import main
from kernelevolve.core.candidate import Brief, Proposal
from kernelevolve.core.protocols import Workbench
from kernelevolve.programmers.replay import Replay


class Thinking(Replay):
    """Runs something before it answers, as the built-in programmer captures a task."""

    async def propose(self, brief: Brief, bench: Workbench) -> Proposal:
        await bench.run(["sleep", "0.1"], b"")
        return await super().propose(brief, bench)


def session(words: list[str], said: Path) -> None:
    """Run a command and end with its exit code; its answer is written to a file."""
    with said.open("w") as file:
        os.dup2(file.fileno(), 1)
    app.programmer_of = lambda config, store: Thinking(store, "recorded")
    raise SystemExit(main([*words, "--json"]))
