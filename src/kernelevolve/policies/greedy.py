"""Always from the best: a few fresh drafts, then improve whatever is best so far."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from kernelevolve.core.candidate import Move
from kernelevolve.core.graph import Graph
from kernelevolve.core.protocols import SelectionPolicy
from kernelevolve.policies import _pool


@dataclass(frozen=True)
class Greedy:
    """The simplest policy that works; the one to beat."""

    drafts: int = 3
    """Fresh starts before anything is improved."""
    exploration: float = 0.15
    """Share of moves that start from another node than the best."""
    repair: float = 0.3
    """Share of moves that repair a failure while nothing works."""

    def select(self, graph: Graph, free: int, rng: Random) -> Sequence[Move]:
        """See `SelectionPolicy`."""
        missing = max(0, self.drafts - _pool.drafts(graph))
        pool = _pool.ranked(graph)
        moves = [_pool.FRESH] * min(free, missing)
        while len(moves) < free:
            if not pool:
                moves.append(_pool.draft(graph, self.repair, rng))
            elif rng.random() < self.exploration:
                moves.append(_pool.child(rng.choice(pool)))
            else:
                moves.append(_pool.child(pool[0]))
        return moves


plugin: type[SelectionPolicy] = Greedy
