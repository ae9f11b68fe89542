"""The best few side by side: each is improved equally often, and sometimes two are crossed."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from kernelevolve.core.candidate import Move
from kernelevolve.core.graph import Graph
from kernelevolve.core.protocols import SelectionPolicy
from kernelevolve.policies import _pool


@dataclass(frozen=True)
class Beam:
    """Keeps several good kernels alive without a tree search."""

    width: int = 4
    """How many of the best nodes are improved."""
    drafts: int = 4
    """Fresh starts before anything is improved."""
    merge: float = 0.15
    """Share of moves that cross two of the beam."""
    repair: float = 0.3
    """Share of moves that repair a failure while nothing works."""

    def select(self, graph: Graph, free: int, rng: Random) -> Sequence[Move]:
        """See `SelectionPolicy`."""
        beam = _pool.ranked(graph)[: max(1, self.width)]
        children = {n.number: len(graph.children.get(n.number, ())) for n in beam}
        missing = max(0, self.drafts - _pool.drafts(graph))
        moves = [_pool.FRESH] * min(free, missing)
        while len(moves) < free:
            if not beam:
                moves.append(_pool.draft(graph, self.repair, rng))
                continue
            parent = min(beam, key=lambda n: children[n.number])
            children[parent.number] += 1
            others = [n for n in beam if n is not parent]
            if others and rng.random() < self.merge:
                moves.append(_pool.child(parent, rng.choice(others), memory="merge"))
            else:
                moves.append(_pool.child(parent))
        return moves


plugin: type[SelectionPolicy] = Beam
