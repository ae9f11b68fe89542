"""Kernels for MTIA judged on the simulator: verified by the bytes, timed by the model."""

import re
from pathlib import Path

import pytest

from kernelevolve.core.candidate import Candidate, SourceFile
from kernelevolve.core.evaluation import Stage, Status
from kernelevolve.core.job import Job, Limits
from kernelevolve.event_loop import EventLoop
from kernelevolve.harnesses.local import LocalHarness
from kernelevolve.languages.mtia_cpp import MtiaCpp
from kernelevolve.targets.mtia import Mtia
from kernelevolve.taskfile import parse

pytestmark = [pytest.mark.slow, pytest.mark.needs_gxx, pytest.mark.needs_sandbox]
SPEC = next(spec for spec in Mtia().discover() if spec.arch == "2i")
SPEC = SPEC.model_copy(update={"cores": SPEC.cores[-1:]})
TASK = """
import torch
from torch import nn

WORKLOADS = {"small": {"rows": 70}, "large": {"rows": 3000}}
HELD_OUT = {"odd": {"rows": 1001}}

class Model(nn.Module):
    def forward(self, x):
        return torch.softmax(x, -1)

def get_inputs(rows=7):
    return [torch.randn(rows, 101)]

def get_init_inputs():
    return []
"""
EXAMPLE = Path(__file__).parents[2] / "examples" / "kernels" / "softmax_mtia"
MODEL, KERNEL = ((EXAMPLE / name).read_text() for name in ("model.py", "kernel.cpp"))


@pytest.fixture(scope="module")
def judge(tmp_path_factory):
    folder = tmp_path_factory.mktemp("simulated")
    harness = LocalHarness(SPEC, "mtia_cpp", 1, folder, lambda ref: b"")
    task = parse("softmax", TASK)

    def judged(kernel=KERNEL, stage=Stage.BENCHMARK, model=MODEL, task=task):
        files = (
            SourceFile(path="model.py", text=model),
            SourceFile(path="kernel.cpp", text=kernel),
        )
        candidate = Candidate(language="mtia_cpp", files=files)
        limits = Limits(run_seconds=10)
        job = Job(task=task, candidate=candidate, target=SPEC, stage=stage, seed="1", limits=limits)
        return loop.run(harness.evaluate(job))

    with EventLoop() as loop:
        judged.admission = loop.run(harness.admit(task, SPEC, None))
        yield judged
        loop.run(harness.close())


def test_the_reference_has_the_time_of_its_operators(judge):
    assert judge.admission.admitted, judge.admission.findings
    assert {k: set(v) for k, v in judge.admission.baselines_us.items()} == {
        "small": {"operators"},
        "large": {"operators"},
    }
    assert judge.admission.baselines_us["small"]["operators"] == pytest.approx(1.02, abs=0.02)


def test_a_right_kernel_has_simulated_times_that_repeat(judge):
    found = judge()
    assert found.ok, found.message
    assert (found.fidelity, found.stage) == ("simulated", Stage.BENCHMARK)
    assert [t.workload for t in found.timings] == ["small", "large"]
    assert found.interval == pytest.approx((found.score, found.score))
    assert 0.05 < found.score < 1
    assert found.flags == ()
    told = found.diagnosis
    assert "simulated: core1 works " in told.sentence
    assert "this machine" not in told.sentence
    assert told.resources["simulated_us"] == found.timings[1].median_us
    assert told.resources["launches"] == 1
    again = judge()
    assert [t.samples_us for t in again.timings] == [t.samples_us for t in found.timings]


def test_confirm_covers_sizes_that_nobody_saw(judge):
    found = judge(stage=Stage.CONFIRM)
    assert found.ok, found.message
    assert (found.fidelity, found.stage) == ("simulated", Stage.CONFIRM)
    assert [t.workload for t in found.timings if t.held_out] == ["odd"]


def test_operators_outside_of_kernels_cost_what_the_reference_pays(judge):
    model = MODEL.replace(
        "        if x.shape[-1] > WIDEST or not x.numel():\n", "        if x.numel():\n"
    )
    found = judge(model=model)
    assert found.ok, found.message
    assert found.score == pytest.approx(1.0)
    assert "1 operators ran outside of kernels" in found.diagnosis.sentence


SUM = """
import torch

class Model(torch.nn.Module):
    def forward(self, x, y):
        return torch.relu(x + y)

def get_inputs():
    return [torch.randn(500, 301), torch.randn(500, 301)]

def get_init_inputs():
    return []
"""


def test_a_fused_kernel_beats_operators_one_by_one(judge):
    model, kernel = sorted(MtiaCpp().starter(parse("sum", SUM)), key=lambda file: file.path)[::-1]
    found = judge(kernel.text, model=model.text, task=parse("sum", SUM))
    assert found.ok, found.message
    assert found.score > 1.2


FAULTY = {
    "a large array": (
        "auto here",
        "volatile char large[200000];\n    large[0] = 1;\n    auto here",
        Status.CRASHED,
        "SIGSEGV",
    ),
    "no maximum": ("Op::sub, here, here, values", "Op::sub, here, here, here", Status.WRONG, ""),
    "a table": ("core.vector.map", "core.se.map", Status.WRONG, "budget"),
    "no wait": ("core.wait(here);", "", Status.CRASHED, r"kernel.cpp:22: softmax: use before arr"),
    "no pop": ("block.pop();", "", Status.CRASHED, r"deadlock: in PE \d+ .*room in buffer 'block'"),
    "no memory": (
        "ROWS * columns, 2",
        "ROWS * columns, 900",
        Status.CRASHED,
        "kernel.cpp:8: .*over",
    ),
    "no end": (
        "core.wait(here)",
        "for (;;) core.work(1e6)",
        Status.TIMEOUT,
        "1000 ms of simulated",
    ),
    "hangs": (
        "core.wait(here)",
        "for (volatile int i = 0;;) i = i",
        Status.TIMEOUT,
        "limit of 10 s",
    ),
    "not C++": ("core.wait(here)", "core.await(here)", Status.BUILD_FAILED, "kernel.cpp:21.*await"),
}


@pytest.mark.parametrize("name", FAULTY)
def test_a_faulty_kernel_is_told_what_is_wrong_and_the_next_is_unharmed(judge, name):
    old, new, status, message = FAULTY[name]
    assert old in KERNEL
    found = judge(KERNEL.replace(old, new, 1))
    assert found.status is status, found.message
    assert re.search(message, found.message), found.message
    assert found.score is None
