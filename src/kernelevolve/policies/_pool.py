"""What all policies agree on: which nodes may be parents, and in which moods a move can be."""

from random import Random

from kernelevolve.core.candidate import Memory, Move
from kernelevolve.core.graph import Graph, Node

FRESH = Move()
"""Start from nothing."""


def child(*parents: Node, memory: Memory = "lineage") -> Move:
    """A move from nodes."""
    return Move(parents=tuple(n.number for n in parents), memory=memory)


def ranked(graph: Graph) -> list[Node]:
    """Parents to choose from, best first: nodes with a score, or the pinned among all that ended.

    A person's pin outweighs the scores, but neither a ban nor a quarantine.
    """
    pinned = [n for n in _ended(graph) if n.number in graph.pinned] if graph.pinned else []
    if pinned:
        return sorted(pinned, key=lambda n: (-(n.score or 0.0), n.number))
    return graph.scored


def broken(graph: Graph) -> list[Node]:
    """Nodes whose source failed and might be repaired, latest first; duplicates are none."""
    return [
        n for n in _ended(graph)[::-1] if n.score is None and n.status not in ("duplicate", "lost")
    ]


def drafts(graph: Graph) -> int:
    """How often the run started from nothing, open nodes included."""
    return sum(1 for node in graph if not node.move.parents)


def draft(graph: Graph, repair: float, rng: Random) -> Move:
    """What to do while nothing works: start afresh, or now and then repair the latest failures."""
    failed = broken(graph)[:3]
    if failed and rng.random() < repair:
        return child(rng.choice(failed))
    return FRESH


def _ended(graph: Graph) -> list[Node]:
    return [
        n
        for n in graph
        if n.evaluation and n.proposal and not n.quarantined and n.number not in graph.banned
    ]
