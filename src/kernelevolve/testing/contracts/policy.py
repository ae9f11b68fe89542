"""What every selection policy must do."""

import copy
from random import Random

from kernelevolve.core.evaluation import Status
from kernelevolve.core.events import Command, Evaluated, Selected
from kernelevolve.core.graph import Graph
from kernelevolve.core.protocols import SelectionPolicy
from kernelevolve.testing.journals import passed, proposed, random_journal, refused, started

SEEDS = range(40)


class PolicyContract:
    """Subclass with a pytest fixture `policy`."""

    def test_starts_afresh_on_an_empty_graph(self, policy: SelectionPolicy) -> None:
        moves = policy.select(Graph.fold([started()]), 2, Random(0))
        assert moves
        assert all(not move.parents and move.memory == "fresh" for move in moves)

    def test_proposes_no_more_than_is_free(self, policy: SelectionPolicy) -> None:
        for seed in SEEDS:
            graph = _graph(seed)
            for free in range(5):
                assert len(policy.select(graph, free, Random(seed))) <= free

    def test_parents_have_ended_and_still_count(self, policy: SelectionPolicy) -> None:
        for seed in SEEDS:
            graph = _graph(seed)
            for move in policy.select(graph, 4, Random(seed)):
                assert len(set(move.parents)) == len(move.parents)
                for number in move.parents:
                    node = graph.nodes[number]
                    assert node.evaluation is not None
                    assert node.proposal is not None
                    assert node.quarantined is None
                    assert number not in graph.banned

    def test_memory_fits_the_parents(self, policy: SelectionPolicy) -> None:
        for seed in SEEDS:
            for move in policy.select(_graph(seed), 4, Random(seed)):
                least = {"fresh": 0, "lineage": 1, "siblings": 1, "merge": 2}[move.memory]
                assert len(move.parents) >= least
                assert move.parents or move.memory == "fresh"

    def test_is_a_pure_function_of_the_graph(self, policy: SelectionPolicy) -> None:
        for seed in SEEDS:
            graph = _graph(seed)
            before = copy.deepcopy(vars(graph))
            first = list(policy.select(graph, 3, Random(seed)))
            assert list(policy.select(graph, 3, Random(seed))) == first
            assert list(type(policy)().select(_graph(seed), 3, Random(seed))) == first
            assert vars(graph) == before

    def test_goes_on_when_everything_failed(self, policy: SelectionPolicy) -> None:
        graph = Graph.fold([started()])
        for number in range(1, 30):
            (move,) = policy.select(graph, 1, Random(number))
            graph.apply(Selected(at=0, number=number, move=move))
            graph.apply(proposed(number, f"source {number}"))
            verdict = refused(Status.WRONG)
            graph.apply(Evaluated(at=0, number=number, evaluation=verdict))

    def test_goes_on_while_everything_is_open(self, policy: SelectionPolicy) -> None:
        graph = Graph.fold([started()])
        for number in range(1, 12):
            for move in policy.select(graph, 1, Random(number)):
                graph.apply(Selected(at=0, number=graph.next_number, move=move))
                assert not move.parents

    def test_improves_what_works(self, policy: SelectionPolicy) -> None:
        graph = _chain(policy, 40)
        assert any(node.move.parents for node in graph)

    def test_prefers_a_pinned_parent(self, policy: SelectionPolicy) -> None:
        graph = _chain(policy, 20)
        graph.apply(Command(at=0, verb="pin", number=2))
        chosen = [
            parent
            for seed in range(20)
            for move in policy.select(graph, 1, Random(seed))
            for parent in move.parents
        ]
        assert chosen.count(2) > len(chosen) / 2


def _graph(seed: int) -> Graph:
    rng = Random(seed)
    return Graph.fold(random_journal(rng, rng.randrange(0, 60)))


def _chain(policy: SelectionPolicy, nodes: int) -> Graph:
    """A graph that the policy itself grew, in which every attempt passed."""
    graph = Graph.fold([started()])
    for number in range(1, nodes + 1):
        (move,) = policy.select(graph, 1, Random(number))
        graph.apply(Selected(at=0, number=number, move=move))
        graph.apply(proposed(number, f"source {number}"))
        verdict = passed(1.0 + Random(number).random())
        graph.apply(Evaluated(at=0, number=number, evaluation=verdict))
    return graph
