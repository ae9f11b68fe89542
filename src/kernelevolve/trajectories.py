"""A run as training data: every exchange with a model, with the verdict it led to as reward."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator

from kernelevolve.core.events import Exchanged
from kernelevolve.core.graph import Graph, Node

Json = dict[str, object]


def lines(run: str, graph: Graph, blob: Callable[[str], bytes]) -> Iterator[Json]:
    """One object per node that asked a model, in the order of nodes.

    The reward is the natural logarithm of the score that counts (the final check's where there was
    one), 0 for what is correct and gains nothing, -1 for what is not correct or gave no answer.
    Nodes in quarantine, and what came of them, have the reward -1 whatever they measured.
    Held-out workloads are in none of it.
    """
    for node in graph:
        if node.exchanges and not node.open:
            yield _line(run, graph, node, blob)


def _line(run: str, graph: Graph, node: Node, blob: Callable[[str], bytes]) -> Json:
    proposal = node.proposal
    verdict = node.evaluation.without_held_out() if node.evaluation else None
    return {
        "run": run,
        "task": graph.task.name if graph.task else None,
        "target": graph.target.address if graph.target else None,
        "language": graph.config.get("language"),
        "node": node.number,
        "parents": list(node.move.parents),
        "memory": node.move.memory,
        "exchanges": [_exchange(e, blob) for e in node.exchanges],
        "files": {p: blob(ref).decode() for p, ref in proposal.files.items()} if proposal else {},
        "summary": proposal.summary if proposal else "",
        "predicted": proposal.predicted if proposal else None,
        "status": node.status,
        "verdict": verdict.model_dump(mode="json", exclude={"seed"}) if verdict else None,
        "failure": node.failure,
        "score": node.score,
        "confirmed": node.confirmed,
        "quarantined": node.quarantined,
        "reward": _reward(node),
    }


def _exchange(event: Exchanged, blob: Callable[[str], bytes]) -> Json:
    return {
        "role": event.role,
        "ordinal": event.ordinal,
        "model": event.model,
        "status": event.status,
        "request": _body(blob(event.request)),
        "response": _body(blob(event.response)),
        "usage": event.usage.model_dump(),
    }


def _body(data: bytes) -> object:
    try:
        return json.loads(data)
    except ValueError:
        return data.decode(errors="replace")


def _reward(node: Node) -> float:
    if node.score is None or node.quarantined is not None:
        return -1.0
    return max(0.0, math.log(node.score))
