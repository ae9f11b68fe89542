"""What people read: the summary after a run, runs, trees, nodes, the doctor."""

from pathlib import Path
from typing import Any

import pytest
from rich.text import Text

from kernelevolve import views
from kernelevolve.cli.reply import shell
from kernelevolve.cli.summary import Asked, summary
from kernelevolve.config import RunConfig
from kernelevolve.core.detector import Detector
from kernelevolve.core.evaluation import Stage, Status, Timing
from kernelevolve.core.events import Confirmed, Event, Quarantined, RunStopped
from kernelevolve.core.graph import Graph
from kernelevolve.doctor import MODEL_KEYS, Doctor, Evenness, Finding, Isolation, Toolchain, examine
from tests import runs_kit as kit

RUN = "softmax-1"


def told(events: list[Event], asked: Asked | None = None, files: tuple[str, ...] = ()) -> str:
    found = views.summary(RUN, Graph.fold(events), files)
    return Text.from_markup(summary(found, asked or Asked(RunConfig()))).plain


def ending(*events: Event, reason: str = "nodes") -> list[Event]:
    return [*kit.journal()[:-2], *events, RunStopped(at=9.0, reason=reason)]


def test_a_confirmed_kernel_is_announced_with_all_that_a_reader_needs() -> None:
    config = RunConfig(nodes=30, threads=2, seed=7, store="my store")
    asked = Asked(config, Path("/tasks/soft max.py"))
    shown = told(kit.journal(), asked, ("/r/kernel.cpp", "/r/model.py"))
    lines = [" ".join(line.split()) for line in shown.splitlines()]
    assert lines[0] == "softmax on cpu:x86_64: 2.05x [2.01, 2.09] over the best baseline, confirmed"
    assert "over 2.46x torch.compile, 2.05x eager" in lines
    assert "roofline 61% of what this device was measured to reach" in lines
    assert "gain not algebraic: the same operations, done faster" in lines
    assert lines.index("file /r/model.py") < lines.index("file /r/kernel.cpp")
    assert (
        "measure again kernelevolve evaluate '/tasks/soft max.py' /r/model.py --threads 2 "
        "--stage confirm" in lines
    )
    assert (
        "reproduce kernelevolve optimize '/tasks/soft max.py' --threads 2 --nodes 30 --seed 7"
        in lines
    )
    assert "export kernelevolve best softmax-1 -o softmax_kernel --store 'my store'" in lines
    assert lines[-1].startswith("run softmax-1: 5 attempts (2 ok, 1 failed, 1 wrong, 1 duplicate)")
    assert lines[-1].endswith("stopped by nodes")


@pytest.mark.parametrize(
    ("events", "first"),
    [
        (
            ending(Confirmed(at=8.0, number=2, evaluation=kit.ok(0.9, Stage.CONFIRM))),
            "softmax on cpu:x86_64: no kernel was confirmed faster than the best baseline "
            "(torch.compile, eager); the best correct one reaches 0.90x [0.88, 0.92]",
        ),
        (
            ending(Confirmed(at=8.0, number=2, evaluation=kit.bad())),
            "softmax on cpu:x86_64: no kernel was confirmed faster than eager and torch.compile; "
            "2 of 5 attempts were correct",
        ),
        (
            [kit.started(), RunStopped(at=1.0, reason="nodes")],
            "softmax on cpu:x86_64: no correct kernel in 0 attempts",
        ),
        (
            [kit.started(), RunStopped(at=1.0, reason="minutes")],
            "softmax on cpu:x86_64: no attempt: preparing the task took all of --minutes; "
            "give it more",
        ),
    ],
    ids=["slower", "refuted", "nothing correct", "too few minutes"],
)
def test_no_speed_up_is_claimed_that_was_not_confirmed(events: list[Event], first: str) -> None:
    assert told(events).splitlines()[0] == first


def test_an_interrupted_run_says_how_to_go_on() -> None:
    shown = told(ending(reason="interrupted"))
    assert "kernelevolve resume softmax-1" in shown


def test_an_algebraic_gain_is_named() -> None:
    found = views.summary(RUN, Graph.fold(kit.journal()), [])
    best: Any = found["best"]
    best |= {"algebraic": True, "fallback": True}
    shown = summary(found, Asked(RunConfig()))
    assert "rests on an algebraic rewrite" in shown
    assert "left to library calls" in shown


def test_runs_are_a_table(k: Any, fake: Any) -> None:
    fake("runs", [views.row(RUN, Graph.fold(kit.journal()))])
    head, row = k("runs").out.splitlines()
    assert head.split()[:3] == ["run", "task", "target"]
    assert row.split()[:6] == [RUN, "softmax", "cpu:x86_64", "5", "#2", "2.05x"]
    fake("runs", [])
    assert "kernelevolve optimize" in k("runs").out


def test_a_run_is_a_tree(k: Any, fake: Any) -> None:
    fake("show", views.show(RUN, Graph.fold(kit.journal())))
    assert k("show", RUN).out.splitlines() == [
        "softmax-1",
        "└── #1 ok 1.20x plain loop",
        "    ├── #2 ok 2.05x confirmed 2.05x best fused row, 512-bit",
        "    │   ├── #4 wrong with #1 output 0 differs",
        "    │   └── #5 duplicate same source as #2",
        "    └── #3 failed no answer [in time]",
    ]


def quarantined() -> Graph:
    """Node 2 is found guilty by its final check; 4 and 5 came of it, 5 with the same source."""
    events = [e for e in kit.journal() if not isinstance(e, Confirmed)]
    evidence = kit.bad(Status.REJECTED, "an output still changed\nafter the call")
    evidence = evidence.model_copy(update={"detector": Detector.SETTLED, "seed": "a/b"})
    proof = Quarantined(at=6.5, number=2, reason="worked on", detector=Detector.SETTLED)
    return Graph.fold([*events, Confirmed(at=6.0, number=2, evaluation=evidence), proof])


def test_a_tree_says_who_is_in_quarantine_and_why(k: Any, fake: Any) -> None:
    fake("show", views.show(RUN, quarantined()))
    lines = k("show", RUN).out.splitlines()
    assert "#2 ok quarantined: worked on" in lines[2]
    assert "#4 wrong with #1 quarantined: descends from #2: worked on" in lines[3]
    assert lines[-3:] == [
        "quarantine #2 by settled: worked on",
        "  evidence: an output still changed",
        "  descendants, no longer counted: #4, #5",
    ]
    (found,) = k("show", RUN, "--json").json["quarantined"]
    assert (found["node"], found["detector"], found["seed"]) == (2, "settled", "a/b")
    assert (found["descendants"], found["same_source"]) == ([4, 5], [])


def test_a_tainted_node_shows_whose_exploit_it_came_from(k: Any, fake: Any) -> None:
    found = views.show_node(quarantined(), 4, lambda ref: b"")
    fake("show_node", found)
    assert "quarantine #2 by settled: worked on" in k("show", RUN, 4).out
    assert k("show", RUN, 4, "--json").json["quarantine"]["node"] == 2


def test_nothing_in_quarantine_is_announced() -> None:
    found = views.summary(RUN, quarantined())
    assert found["best"] is None
    assert found["nodes"]["quarantined"] == 3
    assert found["nodes"]["ok"] == 1


@pytest.mark.parametrize("words", ["2", "#2", "best"])
def test_a_node_is_shown_in_full(k: Any, fake: Any, words: str) -> None:
    graph = Graph.fold(kit.journal())
    fake("show", views.show(RUN, graph))
    found = views.show_node(graph, 2, lambda ref: b"")
    found["source"] = {"model.py": "class ModelNew: ...", "kernel.cpp": "int x[1];"}
    calls = fake("show_node", found)
    shown = k("show", RUN, words).out
    assert calls == [(RUN, 2, None)]
    for part in ("moves 3 GB/s [of 18]", "class ModelNew: ...", "int x[1];", "kernel.cpp"):
        assert part in shown
    assert "small" in shown
    assert "eager 2.05x" in shown


def test_the_doctor_prints_what_is_missing_and_the_command(k: Any, fake: Any) -> None:
    found = Doctor(
        targets=(kit.TARGET,),
        languages=(Toolchain(name="cpp", possible=False, toolchain="g++ is not installed"),),
        sandbox=Isolation(possible=False, sentence="bubblewrap is not installed"),
        clock=Evenness(ratio=1.0, interval=(0.99, 1.01), even=True, sentence="differs by +0.1%"),
        findings=(Finding(what="g++ [none]", possible=False, install="apt-get install g++"),),
    )
    fake("doctor", found)
    ended = k("doctor")
    assert ended.code == 0
    for part in ("cpu:x86_64", "not here", "g++ [none]", "apt-get install g++", "+0.1%"):
        assert part in ended.out
    assert set(k("doctor", "--json").json) == {
        "targets",
        "languages",
        "sandbox",
        "clock",
        "findings",
    }


def test_this_machine_can_be_examined(monkeypatch: pytest.MonkeyPatch) -> None:
    def same_twice() -> Timing:
        return kit.timing(1.01)

    found = examine(RunConfig(), same_twice)
    assert found.targets
    assert found.clock is not None
    assert found.clock.even
    monkeypatch.setattr("kernelevolve.doctor.shutil.which", lambda name: None)
    bare = examine(RunConfig())
    missing = {f.install for f in bare.findings if not f.possible}
    assert any("g++" in install for install in missing)
    assert any("bubblewrap" in install for install in missing)
    assert [f.possible for f in bare.findings] == sorted(f.possible for f in bare.findings)


def test_keys_of_models_are_named_and_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in MODEL_KEYS:
        monkeypatch.delenv(name, raising=False)
    (none,) = [f.what for f in examine(RunConfig()).findings if "language models" in f.what]
    assert "no key is set" in none
    monkeypatch.setenv("ANTHROPIC_API_KEY", "a-secret-that-nobody-sees")
    found = examine(RunConfig()).model_dump_json()
    assert "set: ANTHROPIC_API_KEY" in found
    assert "a-secret" not in found


def test_models_are_missing_where_their_library_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kernelevolve.doctor.registry.installed", lambda needed: False)
    missing = [f.install for f in examine(RunConfig()).findings if not f.possible]
    assert "pip install 'kernelevolve[llm]'" in missing


def test_commands_can_be_pasted() -> None:
    assert shell("a", Path("b c"), None) == "a 'b c'"
