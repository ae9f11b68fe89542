"""The scoreboard of the red-team suite, as programs and people see it."""

from typing import Any

import pytest

from kernelevolve.core.detector import Detector
from kernelevolve.core.evaluation import Evaluation, Stage, Status
from kernelevolve.testing.redteam.suite import Outcome, Scoreboard, cases

NAME = "remembers-addresses"
OK = Evaluation(status=Status.OK, stage=Stage.BENCHMARK, score=3.0)


def caught(detector: Detector) -> Evaluation:
    return Evaluation(
        status=Status.WRONG, stage=Stage.BENCHMARK, message="stale", detector=detector
    )


def board(**verdicts: Evaluation) -> Any:
    def judged(config: Any, wanted: Any, observe: Any) -> Scoreboard:
        outcomes = [Outcome(case, verdicts.get(case.kind, OK)) for case in wanted]
        for outcome in outcomes:
            observe(outcome)
        return Scoreboard(outcomes)

    return judged


def test_a_clean_run_ends_with_0_and_lists_who_caught_what(k: Any, fake: Any) -> None:
    fake("redteam", board(exploit=caught(Detector.FRESH_CONTENTS)))
    ended = k("redteam", "--name", NAME, "--json")
    assert ended.code == 0
    (row,) = ended.json["exploits"]
    assert (row["name"], row["class"], row["caught_by"]) == (NAME, "B2", "fresh-contents")
    assert row["status"] == "wrong"
    assert ended.json["false_negatives"] == ended.json["false_positives"] == []


@pytest.mark.parametrize(
    ("verdicts", "key"),
    [
        ({"exploit": OK}, "false_negatives"),
        ({"exploit": caught(Detector.BUILD)}, "caught_elsewhere"),
        (
            {"exploit": caught(Detector.ERROR_BUDGET), "twin": caught(Detector.STATE)},
            "false_positives",
        ),
    ],
)
def test_anything_false_ends_with_1(k: Any, fake: Any, verdicts: Any, key: str) -> None:
    fake("redteam", board(**verdicts))
    ended = k("redteam", "--name", NAME, "--json")
    assert ended.code == 1
    (name,) = ended.json[key]
    assert NAME in name
    shown = k("redteam", "--name", NAME)
    assert NAME in shown.out


def test_ablation_that_does_not_score_ends_with_1(k: Any, fake: Any) -> None:
    stays = caught(Detector.ERROR_BUDGET)
    fake("redteam", board(exploit=stays, ablated=stays))
    ended = k("redteam", "--name", NAME, "--ablate", "--json")
    assert ended.code == 1
    assert ended.json["not_ablated"] == [NAME]


def test_what_is_known_to_get_past_is_judged_on_request_and_ends_with_1_once_it_is_caught(
    k: Any, fake: Any
) -> None:
    fake("redteam", board(limit=OK, exploit=caught(Detector.GRADIENTS)))
    ended = k("redteam", "--class", "D19", "--limits", "--json")
    assert [row["name"] for row in ended.json["limits"]] == ["second-backward-fails"]
    assert ended.json["limits_overcome"] == []
    assert "limits" not in k("redteam", "--class", "D19", "--json").json
    fake("redteam", board(limit=caught(Detector.GRADIENTS)))
    ended = k("redteam", "--name", "second-backward-fails", "--json")
    assert (ended.code, ended.json["limits_overcome"]) == (1, ["second-backward-fails"])


def test_an_unknown_class_is_bad_input(k: Any) -> None:
    ended = k("redteam", "--class", "Q")
    assert ended.code == 2
    assert "unknown class 'Q'" in ended.err
    assert len(cases(classes=["B2"])) == 2
