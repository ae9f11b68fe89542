from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernelevolve import registry
from kernelevolve.core.candidate import Move
from kernelevolve.core.evaluation import Status
from kernelevolve.core.events import Command, Evaluated, Selected
from kernelevolve.core.graph import Graph
from kernelevolve.core.protocols import SelectionPolicy
from kernelevolve.policies.beam import Beam
from kernelevolve.policies.greedy import Greedy
from kernelevolve.policies.mcts import MCTS
from kernelevolve.testing.contracts.policy import PolicyContract
from kernelevolve.testing.journals import passed, proposed, random_journal, refused, started


class TestEveryPolicy(PolicyContract):
    @pytest.fixture(params=registry.names("policy"))
    def policy(self, request: pytest.FixtureRequest) -> SelectionPolicy:
        return registry.load("policy", request.param)()


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0),
    nodes=st.integers(0, 30),
    free=st.integers(0, 5),
    name=st.sampled_from(registry.names("policy")),
)
def test_any_policy_copes_with_any_graph(seed, nodes, free, name):
    graph = Graph.fold(random_journal(Random(seed), nodes))
    moves = registry.load("policy", name)().select(graph, free, Random(0))
    assert len(moves) <= free
    if free and not graph.open:
        assert moves
    for parent in (n for move in moves for n in move.parents):
        assert graph.nodes[parent].evaluation
        assert not graph.nodes[parent].quarantined
        assert parent not in graph.banned


def grown(*nodes: tuple[tuple[int, ...], float | None]) -> Graph:
    """A graph of (parents, score) in order; None for a wrong kernel, 0 for an open node."""
    graph = Graph.fold([started()])
    for number, (parents, score) in enumerate(nodes, 1):
        memory = "lineage" if parents else "fresh"
        graph.apply(Selected(at=0, number=number, move=Move(parents=parents, memory=memory)))
        if score == 0:
            continue
        graph.apply(proposed(number, f"source {number}"))
        verdict = passed(score) if score else refused(Status.WRONG)
        graph.apply(Evaluated(at=0, number=number, evaluation=verdict))
    return graph


def parents(policy, graph, free=1, tries=200):
    return [
        p for s in range(tries) for m in policy.select(graph, free, Random(s)) for p in m.parents
    ]


THREE = (((), 1.0), ((), 2.0), ((), 1.5))


def test_greedy_improves_the_best():
    assert set(parents(Greedy(exploration=0.0), grown(*THREE))) == {2}


def test_greedy_explores_as_often_as_asked():
    chosen = parents(Greedy(exploration=0.5), grown(*THREE))
    assert 20 < len(chosen) - chosen.count(2) < 120


def test_beam_improves_its_members_equally_often():
    graph = grown(*THREE, ((), 0.5), ((2,), None), ((2,), 0))
    chosen = parents(Beam(width=3, merge=0.0), graph, free=4, tries=1)
    assert sorted(chosen) == [1, 1, 3, 3]


def test_beam_crosses_two_members():
    moves = Beam(width=2, drafts=0, merge=1.0).select(grown(*THREE), 1, Random(0))
    assert moves[0].memory == "merge"
    assert set(moves[0].parents) == {2, 3}


def mcts(**options: float) -> MCTS:
    """One that explores much and neither merges nor compares, unless told to."""
    settings = {"exploration": 0.7, "greed": 0.5, "widening": 1.0, "drafts": 3}
    return MCTS(**{**settings, "merge": 0.0, "siblings": 0.0, **options})


def test_mcts_counts_open_nodes_as_visits():
    policy = mcts()
    quiet = grown(*THREE)
    busy = grown(*THREE, *[((2,), 0)] * 12)
    assert parents(policy, quiet, tries=1) == [2]
    assert parents(policy, busy, tries=1) != [2]


def test_mcts_counts_failures_as_visits_that_gained_nothing():
    policy = mcts()
    assert parents(policy, grown(*THREE, *[((2,), None)] * 20), tries=1) == [3]


def test_mcts_widens_slowly_and_descends_into_good_children():
    graph = grown(((), 1.0), ((), 1.0), ((), 2.0), ((3,), 2.5), ((3,), 3.0))
    policy = mcts(exploration=0.1)
    assert set(parents(policy, graph)) == {5}


def test_mcts_stays_with_a_node_whose_children_are_all_worse():
    graph = grown(((), 1.0), ((), 1.0), ((), 3.0), *[((3,), 2.0)] * 4)
    assert set(parents(mcts(exploration=0.01), graph)) == {3}


def test_mcts_spreads_one_selection_over_several_branches():
    moves = mcts().select(grown(*[((), 1.0)] * 4), 4, Random(1))
    assert sorted(m.parents[0] for m in moves) == [1, 2, 3, 4]


def test_mcts_starts_afresh_when_it_stagnates():
    stuck = grown(((), 3.0), *[((1,), 1.0)] * 20)
    moves = mcts(restart=1.0).select(stuck, 2, Random(0))
    assert [m.memory for m in moves] == ["fresh", "fresh"]


def test_mcts_merges_and_compares_siblings():
    graph = grown(*THREE, ((2,), 1.9), ((2,), 1.8))
    assert mcts(merge=1.0).select(graph, 1, Random(0))[0].memory == "merge"
    wide = mcts(widening=9.0, merge=0.2, siblings=0.3)
    seen = {m.memory for s in range(60) for m in wide.select(graph, 1, Random(s))}
    assert seen == {"lineage", "siblings", "merge"}


@pytest.mark.parametrize("name", registry.names("policy"))
def test_ban_outweighs_pin(name):
    graph = grown(*THREE)
    for verb in ("pin", "ban"):
        graph.apply(Command(at=0, verb=verb, number=2))
    assert 2 not in parents(registry.load("policy", name)(), graph)
