from io import StringIO
from typing import Any

import pytest
import rich.console
from hypothesis import given, settings
from hypothesis import strategies as st

from kernelevolve.core.evaluation import Stage, Status
from kernelevolve.core.events import (
    Command,
    Confirmed,
    Evaluated,
    Event,
    Failed,
    Proposed,
    Quarantined,
    RunResumed,
    RunStopped,
    Selected,
)
from kernelevolve.core.graph import Graph
from kernelevolve.reporters.console import Console
from tests import runs_kit as kit


def watch(events: list[Event], *, terminal: bool = False) -> str:
    """What the console shows of a run."""
    out = rich.console.Console(file=StringIO(), force_terminal=terminal, width=120)
    graph = Graph()
    with Console(out) as console:
        for event in events:
            graph.apply(event)
            console.report(event, graph)
    assert isinstance(out.file, StringIO)
    return out.file.getvalue()


def test_a_line_per_ended_node() -> None:
    assert watch(kit.journal()).splitlines() == [
        "softmax on cpu:x86_64 · cpp · mcts",
        "note: differs [between] calls",
        "baselines  small: eager 100.0 us, compile 120.0 us",
        "#1 ok 1.20x  plain loop  (best 1.20x #1)",
        "#3 failed  no answer [in time]  (best 1.20x #1)",
        "#2 ok 2.10x  fused row, 512-bit  (best 2.10x #2)",
        "#4 wrong  output 0 differs  (best 2.10x #2)",
        "#5 duplicate of #2  (best 2.10x #2)",
        "#2 confirmed 2.05x [2.01, 2.09]",
        "stopped by nodes",
    ]


def test_what_was_not_confirmed_is_said() -> None:
    events = [*kit.journal()[:12], Confirmed(at=1.0, number=2, evaluation=kit.bad())]
    assert watch(events).splitlines()[-1] == "#2 not confirmed: wrong  output 0 differs"


def test_the_live_view_names_best_path_counts_and_work() -> None:
    events = [*kit.journal()[:12], kit.selected(4, 2), kit.selected(5, 2), kit.proposed(5)]
    shown = watch(events, terminal=True)
    assert "2.10x" in shown
    assert "2.10x eager, 2.52x compile" in shown
    assert "61% of the roofline" in shown
    assert "5.0 k tokens, $0.02" in shown
    assert "not confirmed yet" in shown
    assert "#1 1.20x → #2 2.10x" in shown
    assert "3/60" in shown
    assert "writing" in shown
    assert "judging" in shown


def test_a_broken_terminal_silences_the_console_and_nothing_else(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Broken(StringIO):
        def write(self, text: str) -> int:
            raise OSError("gone")

    graph = Graph()
    with Console(rich.console.Console(file=Broken(), force_terminal=True)) as console:
        for event in kit.journal():
            graph.apply(event)
            console.report(event, graph)
    assert [r.message for r in caplog.records] == [
        "the console fell silent; the run goes on",
    ]


TEXTS = st.text(max_size=30) | st.sampled_from(["[/bold]", "[red]", "a\nb", "", "\\["])
SCORES = st.floats(min_value=1e-6, max_value=1e6)


@st.composite
def histories(draw: st.DrawFn) -> list[Event]:
    """Any order of events that the graph accepts."""
    events: list[Event] = [kit.started()] if draw(st.booleans()) else []
    count = 0
    for kind in draw(st.lists(st.integers(0, 9), max_size=25)):
        number = draw(st.integers(1, count)) if count else 0
        if kind == 0 or not count:
            count += 1
            parents = draw(st.lists(st.integers(1, count - 1), max_size=3)) if count > 1 else []
            events.append(kit.selected(count, *parents))
            continue
        verdict = kit.ok(draw(SCORES)) if draw(st.booleans()) else kit.bad(message=draw(TEXTS))
        confirm = kit.ok(draw(SCORES), Stage.CONFIRM)
        duplicate = kit.bad(Status.DUPLICATE, "")
        choices: list[Any] = [
            kit.proposed(number, draw(TEXTS)),
            Failed(at=1.0, number=number, message=draw(TEXTS)),
            Evaluated(at=1.0, number=number, evaluation=verdict),
            Evaluated(at=1.0, number=number, evaluation=duplicate, same_as=1),
            Confirmed(at=1.0, number=number, evaluation=confirm),
            Quarantined(at=1.0, number=number, reason=draw(TEXTS)),
            Command(at=1.0, verb="ban", number=number),
            RunResumed(at=1.0, config={"nodes": "many", "minutes": None}),
            RunStopped(at=1.0, reason=draw(TEXTS)),
        ]
        events.append(choices[kind - 1])
    return events


@settings(max_examples=150, deadline=None)
@given(histories(), st.booleans())
def test_no_history_of_events_makes_it_fail(events: list[Event], terminal: bool) -> None:
    out = rich.console.Console(file=StringIO(), force_terminal=terminal, width=120)
    console = Console(out)
    graph = Graph()
    with console:
        for event in events:
            graph.apply(event)
            console.report(event, graph)
    assert not console.silent
    assert isinstance(out.file, StringIO)
    ended = [e for e in events if isinstance(e, Evaluated | Failed)]
    if not terminal:
        assert len(out.file.getvalue().splitlines()) >= len(ended)


def test_kinds_of_events_are_all_tried() -> None:
    tried = {type(e) for e in kit.journal()} | {Command, Quarantined, RunResumed}
    assert {Selected, Proposed} < tried
    assert len(tried) == len(Event.__args__[0].__args__)  # type: ignore[attr-defined]
