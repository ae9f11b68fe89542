from collections.abc import Collection, Iterator
from typing import Any

import pytest

from kernelevolve.core.candidate import Candidate, SourceFile
from kernelevolve.core.detector import Detector
from kernelevolve.core.evaluation import Evaluation, Stage
from kernelevolve.core.job import Admission, Job, Limits
from kernelevolve.core.target import TargetSpec
from kernelevolve.core.task import Task
from kernelevolve.event_loop import EventLoop
from kernelevolve.harnesses.local import LocalHarness
from kernelevolve.taskfile import parse

SPEC = TargetSpec(vendor="cpu", arch="x86_64", cores=(0,), last_level_cache=1 << 20)
HEAD = "import torch\nfrom torch import nn\nfrom torch.nn import functional as F\n\n"


class Bench:
    """A harness and the loop that it lives in."""

    def __init__(self, folder):
        self.loop = EventLoop()
        self.blobs: dict[str, bytes] = {}
        self.harness = LocalHarness(
            SPEC, "cpp", 2, folder, lambda ref: self.blobs[ref], baselines=("eager",)
        )

    def task(self, body: str) -> Task:
        text = HEAD + body
        if "get_init_inputs" not in text:
            text += "\ndef get_init_inputs():\n    return []\n"
        return parse("task", text)

    def job(
        self,
        task: Task,
        model: str,
        stage: Stage = Stage.VERIFY,
        seed: str = "1",
        without: Collection[Detector] = (),
        kernel: str | None = None,
        pool: str = "",
        **limits: float,
    ) -> Job:
        files = [SourceFile(path="model.py", text=HEAD + model)]
        if kernel is not None:
            files.append(SourceFile(path="kernel.cpp", text=kernel))
        return Job(
            task=task,
            candidate=Candidate(language="cpp", files=tuple(files)),
            target=SPEC,
            stage=stage,
            seed=seed,
            pool=pool,
            without=frozenset(without),
            limits=Limits(**{"run_seconds": 20, **limits}),
        )

    def verdict(self, task: Task, model: str, *options: Any, **more: Any) -> Evaluation:
        return self.loop.run(self.harness.evaluate(self.job(task, model, *options, **more)))

    def admission(self, task: Task) -> Admission:
        return self.loop.run(self.harness.admit(task, SPEC, None))


@pytest.fixture(scope="session")
def bench(tmp_path_factory) -> Iterator[Bench]:
    made = Bench(tmp_path_factory.mktemp("harness"))
    with made.loop:
        yield made
        made.loop.run(made.harness.close())
