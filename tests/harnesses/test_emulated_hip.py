"""HIP kernels judged where no AMD GPU is: verified with wavefronts of 64, never timed."""

import re
from pathlib import Path

import pytest

from kernelevolve.core.candidate import Candidate, SourceFile
from kernelevolve.core.evaluation import Stage, Status
from kernelevolve.core.job import Job, Limits
from kernelevolve.event_loop import EventLoop
from kernelevolve.harnesses.local import LocalHarness
from kernelevolve.targets.amd import Amd
from kernelevolve.taskfile import parse
from tests.harnesses.test_emulated import TASK

pytestmark = [pytest.mark.slow, pytest.mark.needs_gxx, pytest.mark.needs_sandbox]
SPEC = next(spec for spec in Amd().discover() if spec.arch == "gfx942")
SPEC = SPEC.model_copy(update={"cores": SPEC.cores[-1:]})
EXAMPLE = Path(__file__).parents[2] / "examples" / "kernels" / "softmax_hip"
MODEL, KERNEL = ((EXAMPLE / name).read_text() for name in ("model.py", "kernel.hip"))


@pytest.fixture(scope="module")
def judge(tmp_path_factory):
    harness = LocalHarness(SPEC, "hip", 1, tmp_path_factory.mktemp("emulated"), lambda ref: b"")
    task = parse("softmax", TASK)

    def judged(kernel, model=MODEL):
        files = (
            SourceFile(path="model.py", text=model),
            SourceFile(path="kernel.hip", text=kernel),
        )
        candidate = Candidate(language="hip", files=files)
        stage, limits = Stage.BENCHMARK, Limits(run_seconds=5)
        job = Job(task=task, candidate=candidate, target=SPEC, stage=stage, seed="1", limits=limits)
        return loop.run(harness.evaluate(job))

    with EventLoop() as loop:
        admitted = loop.run(harness.admit(task, SPEC, None))
        assert admitted.admitted, admitted.findings
        yield judged
        loop.run(harness.close())


def test_a_right_kernel_is_ok_and_has_no_time(judge):
    found = judge(KERNEL)
    assert found.ok, found.message
    assert (found.fidelity, found.stage, found.score) == ("emulated", Stage.VERIFY, None)
    assert re.search("compiled for gfx942, not timed|emulated only", found.diagnosis.sentence)


FAULTY = {
    "no maximum": ("expf(x[i] - top) /", "expf(x[i]) / expf(top) /", Status.WRONG, "error budget"),
    "warps of 32": ("LANES / 2", "16", Status.WRONG, "error budget"),
    "one too far": ("i < width", "i <= width", Status.CRASHED, r"kernel.hip:32: .*argument 1"),
}


@pytest.mark.parametrize("name", FAULTY)
def test_a_faulty_kernel_is_told_what_is_wrong(judge, name):
    old, new, status, message = FAULTY[name]
    assert old in KERNEL
    found = judge(KERNEL.replace(old, new, 1))
    assert found.status is status
    assert re.search(message, found.message), found.message


def test_more_lds_than_the_device_has_is_told(judge):
    found = judge(KERNEL, MODEL.replace("256]", "256, 70_000]"))
    assert found.status is Status.CRASHED
    assert "of which the device has 65536" in found.message
