"""Monte Carlo tree search: UCT over the graph, with open nodes as visits that gained nothing."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random

from kernelevolve.core.candidate import Move
from kernelevolve.core.graph import Graph, Node
from kernelevolve.core.protocols import SelectionPolicy
from kernelevolve.policies import _pool

_ROOT = 0


@dataclass(frozen=True)
class MCTS:
    """Spends attempts where they paid, yet forgets no branch; the default."""

    exploration: float = 0.1
    """Weight of what is little known against what is good."""
    greed: float = 0.9
    """Weight of a branch's best reward against its mean."""
    widening: float = 0.5
    """A node visited n times may have widening * n ** 0.5 children before others compete."""
    drafts: int = 4
    """Fresh starts before anything is improved."""
    merge: float = 0.12
    """Share of moves that cross the chosen node with another good one."""
    siblings: float = 0.25
    """Share of moves that show the chosen node's earlier children for comparison."""
    patience: int = 15
    """Nodes without a new best after which the search counts as stagnating."""
    restart: float = 0.2
    """Share of fresh starts while it stagnates."""
    repair: float = 0.3
    """Share of moves that repair a failure while nothing works."""

    def select(self, graph: Graph, free: int, rng: Random) -> Sequence[Move]:
        """See `SelectionPolicy`."""
        moves = [_pool.FRESH] * min(free, max(0, self.drafts - _pool.drafts(graph)))
        if len(moves) == free:
            return moves
        pool = _pool.ranked(graph)
        scored = graph.scored if graph.pinned else pool
        tree = _Tree.of(graph, pool, _rewards(scored))
        stuck = bool(scored) and len(graph) - scored[0].number >= self.patience
        while len(moves) < free:
            if not pool:
                moves.append(_pool.draft(graph, self.repair, rng))
            elif stuck and rng.random() < self.restart:
                moves.append(_pool.FRESH)
            else:
                moves.append(self._expand(graph, tree, pool, rng))
        return moves

    def _expand(self, graph: Graph, tree: "_Tree", pool: list[Node], rng: Random) -> Move:
        chosen = graph.nodes[self._descend(tree, rng)]
        tree.visit(chosen.number)
        dice = rng.random()
        partners = [n for n in pool[:8] if n is not chosen]
        if partners and dice < self.merge:
            return _pool.child(chosen, rng.choice(partners), memory="merge")
        ended = [n for n in graph.children.get(chosen.number, ()) if not graph.nodes[n].open]
        if len(ended) >= 2 and dice < self.merge + self.siblings:
            return _pool.child(chosen, memory="siblings")
        return _pool.child(chosen)

    def _descend(self, tree: "_Tree", rng: Random) -> int:
        """From the root to the node to expand; never the root itself, which drafts widen.

        A node that has its children is expanded again only while that promises more than they.
        """
        at = _ROOT
        while at in tree.fertile:
            ways = tree.fertile[at]
            if at in tree.allowed:
                if tree.children[at] < self.widening * math.sqrt(tree.visits[at]):
                    return at
                ways = [at, *ways]
            chosen = max(ways, key=lambda n: (self._uct(tree, n, at), rng.random()))
            if chosen == at:
                return at
            at = chosen
        return at

    def _uct(self, tree: "_Tree", number: int, seen_from: int) -> float:
        """Worth of going down to `number`, or of staying where one is."""
        if number == seen_from:
            visits, value = 1 + tree.children[number], tree.reward[number]
        else:
            visits = tree.visits[number]
            mean = tree.gained[number] / visits
            value = self.greed * tree.best[number] + (1.0 - self.greed) * mean
        around = math.log(tree.visits[seen_from] + 1.0)
        return value + self.exploration * math.sqrt(around / visits)


@dataclass
class _Tree:
    """Statistics of every subtree along first parents; the root is number 0."""

    allowed: set[int]
    """Nodes that may be parents."""
    parent: list[int]
    reward: list[float]
    """A node's own; the others sum up its subtree."""
    visits: list[int]
    gained: list[float]
    best: list[float]
    children: list[int]
    fertile: dict[int, list[int]]
    """Children with an allowed node in their subtree: the ways down."""

    @classmethod
    def of(cls, graph: Graph, pool: Sequence[Node], rewards: Mapping[int, float]) -> "_Tree":
        moves = (node.move.parents for node in graph)
        parent = [_ROOT, *(parents[0] if parents else _ROOT for parents in moves)]
        allowed, size = {n.number for n in pool}, len(parent)
        visits, children = [0, *[1] * (size - 1)], [0] * size
        reward = [rewards.get(n, 0.0) for n in range(size)]
        gained, best = list(reward), list(reward)
        fertile: dict[int, list[int]] = {}
        for number in range(size - 1, 0, -1):
            above = parent[number]
            visits[above] += visits[number]
            gained[above] += gained[number]
            best[above] = max(best[above], best[number])
            children[above] += 1
            if number in allowed or number in fertile:
                fertile.setdefault(above, []).append(number)
        return cls(allowed, parent, reward, visits, gained, best, children, fertile)

    def visit(self, number: int) -> None:
        """Count an attempt that is about to be made below `number`."""
        self.children[number] += 1
        while number != _ROOT:
            self.visits[number] += 1
            number = self.parent[number]
        self.visits[_ROOT] += 1


def _rewards(scored: Sequence[Node]) -> dict[int, float]:
    """Each scored node's place by log-score, above 0 and up to 1; equal scores share theirs.

    Places and not sizes, so that neither one outlier nor the task's headroom decides how much
    exploration there is; the logarithm therefore need not be taken.
    """
    rewards: dict[int, float] = {}
    above, last = 0, None
    for n, node in enumerate(scored):
        if (score := node.score) != last:
            above, last = n, score
        rewards[node.number] = 1.0 - above / len(scored)
    return rewards


plugin: type[SelectionPolicy] = MCTS
