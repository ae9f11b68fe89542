"""Triton kernels judged where no GPU is: compiled for it, interpreted, never timed."""

import re
from pathlib import Path

import pytest

from kernelevolve.core.candidate import Candidate, SourceFile
from kernelevolve.core.evaluation import Stage, Status
from kernelevolve.core.job import Job, Limits
from kernelevolve.event_loop import EventLoop
from kernelevolve.harnesses.local import LocalHarness
from kernelevolve.taskfile import parse
from tests.harnesses.test_emulated import SPEC, TASK

pytestmark = [pytest.mark.slow, pytest.mark.needs_sandbox]
EXAMPLE = Path(__file__).parents[2] / "examples" / "kernels" / "softmax_triton"
MODEL = (EXAMPLE / "model.py").read_text()


@pytest.fixture(scope="module")
def judge(tmp_path_factory):
    pytest.importorskip("triton", reason='pip install "kernelevolve[triton]"')
    folder = tmp_path_factory.mktemp("emulated")
    harness = LocalHarness(SPEC, "triton", 1, folder, lambda ref: b"")
    task = parse("softmax", TASK)

    def judged(model, stage=Stage.BENCHMARK):
        files = (SourceFile(path="model.py", text=model),)
        candidate = Candidate(language="triton", files=files)
        limits = Limits(run_seconds=10)
        job = Job(task=task, candidate=candidate, target=SPEC, stage=stage, seed="1", limits=limits)
        return loop.run(harness.evaluate(job))

    with EventLoop() as loop:
        admitted = loop.run(harness.admit(task, SPEC, None))
        assert admitted.admitted, admitted.findings
        yield judged
        loop.run(harness.close())


@pytest.mark.parametrize("stage", [Stage.VERIFY, Stage.CONFIRM])
def test_a_right_kernel_is_ok_untimed_and_what_its_launches_needed_is_told(judge, stage):
    found = judge(MODEL, stage)
    assert (found.status, found.flags) == (Status.OK, ()), found.message
    assert (found.fidelity, found.stage, found.score) == ("emulated", Stage.VERIFY, None)
    assert re.search(r"compiled for sm_90, not timed: \d+ registers", found.diagnosis.sentence)
    assert "blocks of 32 threads fill 50% of a multiprocessor" in found.diagnosis.sentence
    assert found.diagnosis.resources["spill_bytes"] == 0


OTHER = ', other=float("-inf")'
ENDLESS = "    while width > 0:\n        pass\n"
FAULTY = {
    "no maximum": ("row - tl.max(row, 0)", "row", Status.WRONG, "got nan"),
    "no mask": (f", mask=inside{OTHER}", "", Status.CRASHED, r"model.py:\d+: .*past the end"),
    "odd block": ("0, BLOCK)", "0, BLOCK - 1)", Status.CRASHED, "power of 2"),
    "never ends": ("    weights =", f"{ENDLESS}    weights =", Status.TIMEOUT, "10 s"),
    "no Python": ("    weights =", "    weights =/", Status.INVALID, "model.py"),
}


@pytest.mark.parametrize("name", FAULTY)
def test_a_faulty_kernel_is_told_what_is_wrong_and_the_next_is_unharmed(judge, name):
    old, new, status, message = FAULTY[name]
    assert old in MODEL
    found = judge(MODEL.replace(old, new, 1))
    assert found.status is status, found.message
    assert re.search(message, found.message), found.message
    assert judge(MODEL).ok
