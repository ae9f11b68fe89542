"""What a person reads of a simulated run never looks measured."""

from io import StringIO

import pytest
from rich.console import Console as Terminal

from kernelevolve import views
from kernelevolve.cli import render
from kernelevolve.cli.summary import Asked, summary
from kernelevolve.cli.tasks import verdict
from kernelevolve.config import RunConfig
from kernelevolve.core.errors import UsageError
from kernelevolve.core.evaluation import Stage
from kernelevolve.core.events import Admitted, Confirmed, Evaluated, RunStopped
from kernelevolve.core.graph import Graph
from kernelevolve.reporters.console import line_for
from kernelevolve.results import Best
from kernelevolve.stores.memory import Memory
from kernelevolve.targets.mtia import Mtia
from tests.runs_kit import admission, ok, proposed, selected, started


def simulated(found):
    return found.model_copy(update={"fidelity": "simulated"})


EVENTS = [
    started().model_copy(update={"target": Mtia().discover()[1]}),
    Admitted(at=0, admission=simulated(admission())),
    selected(1),
    proposed(1),
    Evaluated(at=1, number=1, evaluation=simulated(ok(1.5))),
    Confirmed(at=2, number=1, evaluation=simulated(ok(1.4, Stage.CONFIRM))),
    RunStopped(at=3, reason="nodes"),
]
GRAPH = Graph.fold(EVENTS)


def drawn(what):
    out = Terminal(width=160, record=True, file=StringIO())
    out.print(what)
    return out.export_text()


def test_every_line_with_a_ratio_or_a_time_says_simulated():
    found = views.summary("r1", GRAPH)
    node = views.show_node(GRAPH, 1, lambda ref: b"")
    texts = [
        *(line_for(event, GRAPH) or "" for event in EVENTS),
        summary(found, Asked(RunConfig(target="mtia:2i"))),
        verdict(GRAPH.nodes[1].evaluation),
        drawn(render.tree({"run": "r1", "nodes": [node]})),
        drawn(render.runs([views.row("r1", GRAPH)])),
    ]
    lines = [line for text in texts for line in text.splitlines()]
    figures = [line for line in lines if "1.4" in line or "1.5" in line or " us" in line]
    assert len(figures) > 7
    assert [line for line in figures if "simulated" not in line and "no chip" not in line] == []
    assert not any("measured" in line and "no chip has measured" not in line for line in lines)


def test_timings_of_a_node_are_marked_one_by_one():
    timings = drawn(render.node(views.show_node(GRAPH, 1, lambda ref: b""))).split("timings")[1]
    assert timings.count(" us simulated") == 2


def test_there_is_no_drop_in_operator_for_a_simulator(tmp_path):
    best = Best("r1", GRAPH, 1, Memory(), tmp_path)
    with pytest.raises(UsageError, match="runs on a simulator of mtia:2i"):
        best.export(tmp_path / "op")
