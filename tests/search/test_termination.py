import pytest

from kernelevolve.config import RunConfig
from kernelevolve.core.candidate import Move
from kernelevolve.core.evaluation import Status
from kernelevolve.core.events import Command, Evaluated, RunResumed, Selected
from kernelevolve.core.graph import Graph
from kernelevolve.search.termination import reason, since_best
from kernelevolve.testing.journals import passed, proposed, refused, started


def graph_of(*scores: float | None, fraction: float | None = None) -> Graph:
    """Nodes by score; None for a wrong kernel, 0 for an open node."""
    graph = Graph.fold([started(1000.0)])
    for number, score in enumerate(scores, 1):
        graph.apply(Selected(at=1000, number=number, move=Move()))
        if score == 0:
            continue
        graph.apply(proposed(number, f"source {number}", at=1000))
        verdict = passed(score, fraction=fraction) if score else refused(Status.WRONG)
        graph.apply(Evaluated(at=1000, number=number, evaluation=verdict))
    return graph


def why(graph: Graph, now: float = 1000.0, **config: object) -> str | None:
    return reason(graph, RunConfig.model_validate({"nodes": 100, **config}), now)


def test_nodes_count_from_their_selection():
    assert why(graph_of(1.0, 0), nodes=3) is None
    assert why(graph_of(1.0, 0, 0), nodes=3) == "nodes"


def test_minutes_are_wall_clock_over_all_sessions():
    graph = graph_of(1.0)
    assert why(graph, 1059.0, minutes=1) is None
    assert why(graph, 1060.0, minutes=1) == "minutes"
    graph.apply(Selected(at=1050, number=2, move=Move()))
    graph.apply(RunResumed(at=9000, config={}))
    assert why(graph, 9009.0, minutes=1) is None
    assert why(graph, 9010.0, minutes=1) == "minutes"


def test_goal():
    assert why(graph_of(1.9), goal=2.0) is None
    assert why(graph_of(1.9, 2.0), goal=2.0) == "goal"


def test_roofline_looks_at_the_best_node():
    assert why(graph_of(2.0, fraction=0.7), roofline=0.8) is None
    assert why(graph_of(2.0, fraction=0.8), roofline=0.8) == "roofline"
    assert why(graph_of(2.0), roofline=0.8) is None
    assert why(graph_of(), roofline=0.8) is None


@pytest.mark.parametrize(
    ("scores", "since"),
    [((), 0), ((None, None), 2), ((1.0, 2.0, 1.5, None), 2), ((2.0, 0, 0), 0), ((1.0, 2.0), 0)],
)
def test_plateau_counts_attempts_that_ended_after_the_best(scores, since):
    graph = graph_of(*scores)
    assert since_best(graph) == since
    assert why(graph, plateau=since + 1) is None
    if since:
        assert why(graph, plateau=since) == "plateau"


def test_a_command_comes_first():
    graph = graph_of(3.0)
    graph.apply(Command(at=1, verb="stop"))
    assert why(graph, goal=2.0) == "command"
