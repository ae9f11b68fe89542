"""CUDA kernels judged where no GPU is: verified on the emulator, never timed."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from kernelevolve.core.candidate import Candidate, SourceFile
from kernelevolve.core.evaluation import Stage, Status
from kernelevolve.core.job import Job, Limits
from kernelevolve.event_loop import EventLoop
from kernelevolve.harnesses.local import LocalHarness
from kernelevolve.programmers.builtin.render import render
from kernelevolve.programmers.builtin.schedule import Plan
from kernelevolve.targets.nvidia import Nvidia
from kernelevolve.taskfile import parse
from tests.programmers.conftest import captured

pytest.importorskip("cuda.bindings.nvrtc", reason='pip install "kernelevolve[cuda]"')
pytestmark = [pytest.mark.slow, pytest.mark.needs_gxx, pytest.mark.needs_sandbox]
SPEC = next(spec for spec in Nvidia().discover() if spec.arch == "sm_90")
SPEC = SPEC.model_copy(update={"cores": SPEC.cores[-1:]})
TASK = """
import torch
from torch import nn

WORKLOADS = {"small": {"rows": 7}, "large": {"rows": 12_000}}

class Model(nn.Module):
    def forward(self, x):
        return torch.softmax(x, -1)

def get_inputs(rows=7):
    return [torch.randn(rows, 100)]

def get_init_inputs():
    return []
"""
EXAMPLE = Path(__file__).parents[2] / "examples" / "kernels" / "softmax_cuda"
MODEL, KERNEL = ((EXAMPLE / name).read_text() for name in ("model.py", "kernel.cu"))


@pytest.fixture(scope="module")
def judge(tmp_path_factory):
    harness = LocalHarness(SPEC, "cuda", 1, tmp_path_factory.mktemp("emulated"), lambda ref: b"")
    task = parse("softmax", TASK)

    def judged(kernel, stage=Stage.BENCHMARK, model=MODEL):
        files = (SourceFile(path="model.py", text=model), SourceFile(path="kernel.cu", text=kernel))
        candidate = Candidate(language="cuda", files=files)
        limits = Limits(run_seconds=5)
        job = Job(task=task, candidate=candidate, target=SPEC, stage=stage, seed="1", limits=limits)
        return loop.run(harness.evaluate(job))

    with EventLoop() as loop:
        admitted = loop.run(harness.admit(task, SPEC, None))
        assert admitted.admitted, admitted.findings
        assert admitted.baselines_us == {}
        yield judged
        loop.run(harness.close())


@pytest.mark.parametrize("stage", [Stage.VERIFY, Stage.BENCHMARK, Stage.CONFIRM])
def test_a_right_kernel_is_ok_and_has_no_time(judge, stage):
    found = judge(KERNEL, stage)
    assert found.ok, found.message
    assert (found.fidelity, found.stage, found.score) == ("emulated", Stage.VERIFY, None)
    assert found.timings == ()
    assert "compiled for sm_90, not timed: " in found.diagnosis.sentence
    assert "fill 100% of a multiprocessor" in found.diagnosis.sentence
    assert any("not verified: large" in remark for remark in found.remarks)


def test_a_kernel_is_only_compiled_where_no_more_is_asked(judge):
    found = judge(KERNEL, Stage.BUILD)
    assert (found.status, found.fidelity) == (Status.OK, "compiled")


FAULTY = {
    "no maximum": ("expf(x[i] - top) /", "expf(x[i]) / expf(top) /", Status.WRONG, "error budget"),
    "one too far": ("i < width", "i <= width", Status.CRASHED, r"kernel.cu:29: .*argument 1"),
    "a lane less": ("0xffffffff", "0xffff", Status.CRASHED, "kernel.cu:7: .*leaves it out"),
    "no barrier": ("    __syncthreads();\n", "", Status.CRASHED, "kernel.cu:9: .*has written"),
    "never ends": ("float top = -", "while (width) {}\n  float top = -", Status.TIMEOUT, "5 s"),
    "not C++": ("float top = -", "flaot top = -", Status.BUILD_FAILED, r"kernel.cu\(28\): .*flaot"),
}


@pytest.mark.parametrize("name", FAULTY)
def test_a_faulty_kernel_is_told_what_is_wrong_and_the_next_is_unharmed(judge, name):
    old, new, status, message = FAULTY[name]
    assert old in KERNEL
    found = judge(KERNEL.replace(old, new, 1))
    assert found.status is status
    assert re.search(message, found.message), found.message
    assert found.score is None
    assert judge(KERNEL).ok


def test_what_the_built_in_programmer_writes_is_right_and_touches_no_tripwire(judge):
    model = replace(captured(TASK, [{"rows": 7}, {"rows": 12_000}]), language="cuda")
    files = render(model, Plan()).files
    found = judge(files["kernel.cu"], model=files["model.py"])
    assert (found.status, found.flags) == (Status.OK, ()), found.message
    assert found.diagnosis.resources["spill_bytes"] == 0
