"""Flags raise the audit level of a job, and nothing else."""

import pytest

from kernelevolve.core.candidate import Candidate, SourceFile
from kernelevolve.core.detector import Detector
from kernelevolve.core.evaluation import Evaluation, Stage, Status
from kernelevolve.core.job import Job, Seeds
from kernelevolve.testing.contracts.harness import TASK

MODEL = """
import torch
from torch import nn

class ModelNew(nn.Module):
    def forward(self, x):
        LINE
        return torch.ops.own.kernel(x)
"""


@pytest.mark.parametrize(
    ("line", "without", "audit"),
    [
        ("y = x", frozenset(), "normal"),
        ("self.calls += 1", frozenset(), "high"),
        ("self.calls += 1", frozenset({Detector.SCREEN}), "normal"),
    ],
    ids=["no flag", "a flag", "switched off"],
)
def test_flags_raise_the_audit_level(bench, monkeypatch, line, without, audit):
    asked: list[Job] = []

    async def judged(job, *rest):
        asked.append(job)
        return Evaluation(status=Status.OK, stage=Stage.VERIFY)

    monkeypatch.setattr(bench.harness, "_judged", judged)
    files = (SourceFile(path="model.py", text=MODEL.replace("LINE", line)),)
    job = Job(
        task=TASK,
        candidate=Candidate(language="cpp", files=files),
        target=bench.harness.spec,
        stage=Stage.VERIFY,
        seed="1",
        without=without,
    )
    found = bench.loop.run(bench.harness.evaluate(job))
    assert [j.audit for j in asked] == [audit]
    assert found.ok
    assert [f.rule for f in found.flags] == (["counter"] if "calls" in line else [])


@pytest.mark.needs_sandbox
def test_an_evaluation_names_the_seeds_that_a_replay_needs(bench):
    task = bench.task(
        "class Model(nn.Module):\n    def forward(self, x):\n        return x + 1\n"
        "def get_inputs():\n    return [torch.randn(64, 64)]\n"
    )
    model = "class ModelNew(nn.Module):\n    def forward(self, x):\n        return x + 2\n"
    found = bench.verdict(task, model, seed="17")
    seeds = Seeds.parse(found.seed)
    assert seeds.choice == "17"
    assert seeds.pool
