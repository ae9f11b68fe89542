"""A suite's table, as programs and people see it."""

from typing import Any

import pytest

from kernelevolve.benching import Row, Standing
from kernelevolve.core.errors import StoreError

DONE = Row(
    task="softmax",
    run="dlrm-softmax-1",
    correct=True,
    speedup=2.0,
    interval=(1.9, 2.1),
    speedup_over={"eager": 3.0, "compile": 2.0},
    roofline_fraction=0.5,
    algebraic=True,
    stopped_by="nodes",
)
NONE = Row(task="mbdt", run="dlrm-mbdt-1", reason="no correct kernel in 2 attempts (2 wrong)")
AGAIN = DONE.model_copy(update={"task": "pffn", "kept": True, "fallback": True})
UNREACHED = Row(task="conv1d", reason="not reached")


def standing(*rows: Row, interrupted: bool = False) -> Standing:
    return Standing(suite="dlrm", target="cpu:x86_64", rows=rows, interrupted=interrupted)


@pytest.mark.parametrize(
    ("found", "code"),
    [
        (standing(DONE, AGAIN), 0),
        (standing(DONE, NONE), 1),
        (standing(DONE, UNREACHED, interrupted=True), 130),
    ],
    ids=["all", "one without", "interrupted"],
)
def test_the_exit_code_says_how_it_ended(k: Any, fake: Any, found: Standing, code: int) -> None:
    fake("bench", found)
    ended = k("bench", "dlrm", "--json")
    assert ended.code == code
    assert ended.json.keys() >= {
        "suite", "target", "tasks", "correct", "total", "geomean", "fast_p"
    }  # fmt: skip
    assert ended.json["total"] == 2
    assert k("bench", "dlrm").code == code


def test_flags_reach_the_suite(k: Any, fake: Any) -> None:
    calls = fake("bench", standing(DONE))
    k("bench", "dlrm", "--only", "softmax", "--only", "mbdt", "--nodes", 4, "--seed", 7, "--fresh")
    ((suite, config, only, fresh, reporters, _),) = calls
    assert (suite, only, fresh) == ("dlrm", ["softmax", "mbdt"], True)
    assert (config.nodes, config.seed, len(reporters)) == (4, 7, 1)


def test_the_table_has_figures_or_the_reason_why_there_are_none(k: Any, fake: Any) -> None:
    fake("bench", standing(DONE, NONE, AGAIN))
    shown = k("bench", "dlrm").out
    first, second, third = (line for line in shown.splitlines() if "[" in line or "none" in line)
    assert first.split()[:4] == ["softmax", "2.00x", "[1.90,", "2.10]"]
    assert first.split()[4:7] == ["3.00x", "2.00x", "50%"]
    assert "rests on algebra" in first
    assert "no correct kernel in 2 attempts (2 wrong)" in second
    assert "from an earlier run" in third
    assert "2 of 3 tasks with a confirmed kernel, 1 of them left to library calls" in shown
    assert "geometric mean of those with a kernel: 2.00x over the best baseline" in shown
    assert "--fresh" in shown


def test_an_interrupted_suite_says_how_to_go_on(k: Any, fake: Any) -> None:
    fake("bench", standing(DONE, UNREACHED, interrupted=True))
    shown = k("bench", "dlrm", "--only", "conv1d", "--only", "softmax", "--nodes", 5, "--fresh").out
    assert "kernelevolve bench dlrm --only conv1d --only softmax --nodes 5\n" in shown
    assert "not reached" in shown


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["drlm"], "unknown suite 'drlm'; known: dlrm"),
        (["dlrm", "--only", "sofmax"], "unknown case 'sofmax' of suite dlrm; near: softmax"),
        (["dlrm", "--nodes", "0"], "nodes = 0"),
        (["dlrm", "--target", "nvidia:sm_90", "--language", "cuda"], "not timed"),
        (["dlrm", "--baseline", "mine.py"], "No such option"),
    ],
)
def test_bad_input_is_said_and_ends_with_2(k: Any, words: list[str], message: str) -> None:
    ended = k("bench", *words)
    assert ended.code == 2
    assert message in " ".join(ended.err.split())


def test_a_store_that_fails_ends_the_suite(k: Any, fake: Any) -> None:
    fake("bench", StoreError("the disk is full"))
    assert k("bench", "dlrm", "--json").json == {"error": "the disk is full"}
