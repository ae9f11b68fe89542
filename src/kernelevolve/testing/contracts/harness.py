"""What every harness must do."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from kernelevolve.core.candidate import Candidate, SourceFile
from kernelevolve.core.evaluation import Evaluation, Stage, Status
from kernelevolve.core.job import Job, Limits
from kernelevolve.core.protocols import Harness
from kernelevolve.core.target import TargetSpec
from kernelevolve.core.task import Task, Workload

SOURCE = """
import torch
from torch import nn

class Model(nn.Module):
    def forward(self, x):
        return torch.softmax(x, dim=-1)

def get_inputs():
    return [torch.randn(16, 33)]

def get_init_inputs():
    return []
"""
TASK = Task(name="contract", source=SOURCE, workloads=(Workload(name="default"),))

BODIES = {
    "ok": "return torch.exp(x - x.amax(-1, True)) / torch.exp(x - x.amax(-1, True)).sum(-1, True)",
    "wrong": "return torch.softmax(x, dim=0)",
    "raises": "raise RuntimeError('out of luck')",
    "signal": "import ctypes; ctypes.string_at(8)",
    "endless": "\n        while True: pass",
}


def candidate(body: str, language: str = "cpp", salt: str = "") -> Candidate:
    """A `ModelNew` without parameters whose forward has this body."""
    text = (
        "import torch\nfrom torch import nn\n\nclass ModelNew(nn.Module):\n"
        f"    def forward(self, x):\n        {body}\n# {salt}\n"
    )
    return Candidate(language=language, files=(SourceFile(path="model.py", text=text),))


class HarnessContract:
    """Subclass with a fixture that sets `spec`, `harness` and `run` (of coroutines)."""

    spec: TargetSpec
    harness: Harness
    run: Callable[[Coroutine[Any, Any, Any]], Any]

    def lose_worker(self) -> None:
        """Make the machinery die under the next job; nothing where there is none to die."""

    def evaluate(self, body: str, salt: str = "") -> Evaluation:
        """The verdict on one body, up to verification."""
        found: Evaluation = self.run(self.harness.evaluate(self.job(body, salt)))
        return found

    def job(self, body: str, salt: str = "") -> Job:
        """A job that ends with verification."""
        return Job(
            task=TASK,
            candidate=candidate(body, salt=salt),
            target=self.spec,
            stage=Stage.VERIFY,
            seed="1",
            limits=Limits(run_seconds=2),
        )

    def test_right_kernel_is_ok(self) -> None:
        found = self.evaluate(BODIES["ok"])
        assert found.ok, found.message
        assert found.score is None

    def test_wrong_kernel_is_wrong_and_says_where(self) -> None:
        found = self.evaluate(BODIES["wrong"])
        assert found.status is Status.WRONG
        assert "expected" in found.message.splitlines()[0]

    def test_exception_is_a_crash_with_its_text(self) -> None:
        found = self.evaluate(BODIES["raises"])
        assert found.status is Status.CRASHED
        assert "out of luck" in found.message

    def test_signal_is_a_crash_with_its_name(self) -> None:
        found = self.evaluate(BODIES["signal"])
        assert found.status is Status.CRASHED
        assert "SIGSEGV" in found.message

    def test_endless_loop_is_a_timeout_with_the_limit(self) -> None:
        found = self.evaluate(BODIES["endless"])
        assert found.status is Status.TIMEOUT
        assert "2 s" in found.message

    def test_lost_worker_is_replaced(self) -> None:
        self.lose_worker()
        found = self.evaluate(BODIES["ok"], salt="after a loss")
        assert found.ok, found.message

    def test_takes_more_jobs_than_slots(self) -> None:
        assert self.harness.slots >= 1

        async def all_at_once() -> list[Evaluation]:
            jobs = [self.job(BODIES["ok"], salt=str(i)) for i in range(self.harness.slots + 2)]
            return await asyncio.gather(*(self.harness.evaluate(job) for job in jobs))

        assert all(found.ok for found in self.run(all_at_once()))
