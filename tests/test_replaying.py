"""A verdict can be had again from the journal alone."""

import json
from pathlib import Path

import pytest

from kernelevolve import app
from kernelevolve.cli.main import main
from kernelevolve.config import RunConfig
from kernelevolve.core.candidate import Brief, Move, Proposal, SourceFile
from kernelevolve.core.detector import Detector
from kernelevolve.core.errors import UsageError
from kernelevolve.core.evaluation import ErrorReport, Evaluation, Stage, Status
from kernelevolve.core.job import Seeds
from kernelevolve.core.target import TargetSpec
from kernelevolve.core.task import Task
from kernelevolve.replaying import differences
from kernelevolve.search.journal import Journal
from kernelevolve.taskfile import parse
from kernelevolve.testing.contracts.harness import SOURCE
from kernelevolve.testing.journals import passed

MODEL = """
import torch

class ModelNew(torch.nn.Module):
    def forward(self, x):
        return torch.softmax(x, dim=-1)FACTOR
"""


def report(rms: float, maximum: float) -> ErrorReport:
    return ErrorReport(workload="default", output="output", rms=rms, maximum=maximum)


def verdict(status: Status, *errors: ErrorReport, detector: Detector | None = None) -> Evaluation:
    found = passed(2.0) if status is Status.OK else None
    if found is None:
        return Evaluation(status=status, stage=Stage.VERIFY, detector=detector, errors=errors)
    return found.model_copy(update={"errors": errors})


@pytest.mark.parametrize(
    ("before", "now", "said"),
    [
        (verdict(Status.OK, report(0.2, 0.3)), verdict(Status.OK, report(0.9, 0.8)), []),
        (verdict(Status.WRONG, report(9, 90)), verdict(Status.WRONG, report(11, 70)), []),
        (
            verdict(Status.OK),
            verdict(Status.WRONG, detector=Detector.EXACT),
            ["status was ok, is now wrong", "detector was none, is now exact"],
        ),
        (
            verdict(Status.WRONG, report(0.5, 40)),
            verdict(Status.WRONG, report(0.5, 4)),
            ["default: output: error over budget was 0.5 RMS and 40 at most, is now 0.5 and 4"],
        ),
        (
            verdict(Status.WRONG, report(1, 2)),
            verdict(Status.WRONG),
            ["default: output: its error was measured then only"],
        ),
    ],
    ids=["within budget", "alike beyond it", "another verdict", "another error", "unmeasured"],
)
def test_what_counts_as_the_same(before: Evaluation, now: Evaluation, said: list[str]) -> None:
    assert differences(before, now) == said


@pytest.mark.parametrize("seeds", [Seeds("abc+2", "17"), Seeds("", "17")])
def test_seeds_survive_their_text(seeds: Seeds) -> None:
    assert Seeds.parse(str(seeds)) == seeds


def test_the_final_check_has_one_seed() -> None:
    assert str(Seeds("17", "17")) == "17"


class Run:
    """A journal whose nodes are written by hand."""

    def __init__(self, folder: Path, task: Task) -> None:
        self.store, self.task = str(folder), task
        self.journal = Journal(app.open_store(self.store), "run")
        config = RunConfig(store=self.store).model_dump(mode="json")
        self.target = TargetSpec(vendor="cpu", arch="x86_64", cores=(0,))
        self.journal.start(task, self.target, config)

    def add(self, model: str, *verdicts: Evaluation) -> int:
        """A node with a verdict of the search, or an open one."""
        self.journal.selected(Move())
        number = len(self.journal.graph)
        brief = Brief(
            task=self.task, target=self.target, language="cpp", guide="", move=Move(),
            number=number, seed="1",
        )  # fmt: skip
        files = (SourceFile(path="model.py", text=model),)
        self.journal.proposed(brief, Proposal(files=files))
        for found in verdicts:
            self.journal.evaluated(number, found)
        return number


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path, parse("softmax", SOURCE))


def test_what_was_never_judged_cannot_be_replayed(run: Run) -> None:
    number = run.add(MODEL)
    with pytest.raises(UsageError, match="node #1 is open"):
        app.replay("run", number, run.store)
    lost = run.add(MODEL, Evaluation(status=Status.LOST, stage=Stage.VERIFY))
    with pytest.raises(UsageError, match="node #2 is lost"):
        app.replay("run", lost, run.store)
    with pytest.raises(UsageError, match="no node #9"):
        app.replay("run", 9, run.store)


@pytest.mark.slow
@pytest.mark.needs_gxx
@pytest.mark.needs_sandbox
@pytest.mark.long
@pytest.mark.timeout(240)
def test_right_and_wrong_kernels_get_their_verdicts_again(
    run: Run, capfd: pytest.CaptureFixture[str]
) -> None:
    ok = verdict(Status.OK, report(0.5, 0.5)).model_copy(update={"seed": "a1/b2"})
    right = run.add(MODEL.replace("FACTOR", ""), ok)
    assert main(["replay", "run", str(right), "--store", run.store]) == 0
    assert "#1 benchmark: the same: ok" in capfd.readouterr().out

    wrong = MODEL.replace("FACTOR", " * 1.001")
    claimed = run.add(wrong, ok)
    assert main(["replay", "run", str(claimed), "--store", run.store, "--json"]) == 1
    found = json.loads(capfd.readouterr().out)["verdicts"][0]
    assert found["differences"][0] == "status was ok, is now wrong"

    first = Evaluation.model_validate(found["replayed"])
    assert (first.status, first.detector, first.seed) == (
        Status.WRONG, Detector.ERROR_BUDGET, "a1/b2",
    )  # fmt: skip
    again = app.replay("run", run.add(wrong, first), run.store)
    assert again["same"]
    assert again["verdicts"][0]["replayed"]["message"] == first.message  # type: ignore[index]
