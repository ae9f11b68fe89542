"""Which nodes need the final check, so that a lucky measurement is never announced."""

from collections.abc import Collection

from kernelevolve.core.evaluation import Status
from kernelevolve.core.graph import Graph, Node

COLLAPSE = 0.9
"""A confirmed score below this share of the search's own shows that the latter was luck."""
ROUNDS = 3
"""At most this many times the wanted number of nodes are checked in one session."""


def due(graph: Graph, wanted: int, tried: Collection[int]) -> list[Node]:
    """Nodes to check next; empty when the best `wanted` have passed or too many were tried.

    A node that is refuted leaves the ranking, and one whose score collapsed falls in it; the
    next best takes its place.
    """
    left = max(0, ROUNDS * wanted - len(tried))
    best = sorted(graph.scored, key=lambda node: (-_standing(node), node.number))[:wanted]
    return [n for n in best if _unchecked(n) and n.number not in tried][:left]


def passed(graph: Graph) -> bool:
    """Whether there is a confirmed best node already."""
    return graph.best is not None and graph.best.confirmed


def improvement(graph: Graph) -> Node | None:
    """The best node if its confirmed score is above 1; anything else is no improvement."""
    best = graph.best
    if best is None or not best.confirmed or (best.score or 0.0) <= 1.0:
        return None
    return best


def _unchecked(node: Node) -> bool:
    return node.confirmation is None or node.confirmation.status is Status.LOST


def _standing(node: Node) -> float:
    """The search's score while it is not disproved, so that all are compared by one measure."""
    searched = (node.evaluation.score if node.evaluation else None) or 0.0
    score = node.score or 0.0
    return score if score < COLLAPSE * searched else searched
