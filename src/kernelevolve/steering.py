"""What a person says to a run while it goes on, from any process: commands in its journal."""

import time
from typing import Literal

from kernelevolve.core.errors import UsageError
from kernelevolve.core.events import Command
from kernelevolve.core.graph import Graph
from kernelevolve.core.protocols import Store

Verb = Literal["hint", "pin", "ban", "quarantine", "pause", "resume", "stop"]
ABOUT_NODES = ("pin", "ban", "quarantine")


def say(store: Store, run: str, verb: Verb, number: int | None = None, text: str = "") -> Graph:
    """Append a command; the run, if it is at work, obeys within moments.

    Returns:
        The run as it is with the command.

    Raises:
        UsageError: there is no such run or node, or the hint is empty.
    """
    graph = Graph.fold(store.read(run))
    if not graph.length:
        raise UsageError(f"unknown run {run!r}; known: {', '.join(store.runs()) or 'none'}")
    if verb in ABOUT_NODES and number not in graph.nodes:
        raise UsageError(f"run {run}: no node #{number}; there are {len(graph)} nodes")
    if verb == "hint" and not text.strip():
        raise UsageError("the hint is empty: say what the programmer should try or leave")
    store.append(run, [Command(at=time.time(), verb=verb, number=number, text=text.strip())])
    return Graph.fold(store.read(run))
