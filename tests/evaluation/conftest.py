from random import Random

import pytest

from kernelevolve.evaluation.bench import Bench
from kernelevolve.evaluation.pool import Preparation
from kernelevolve.evaluation.probes import Suite
from kernelevolve.evaluation.processes import Failed
from kernelevolve.evaluation.reference import ReferenceRunner
from kernelevolve.evaluation.runner import failure
from kernelevolve.taskfile import parse

HEAD = "import torch\nfrom torch import nn\nfrom torch.nn import functional as F\n\n"


class Inline:
    """A reference runner in this process, for the judge's side of a question."""

    closed = False

    def __init__(self, task):
        self.runner = ReferenceRunner(None)
        self.ask("source", 1, task=task.model_dump(mode="json"), threads=1, blobs=[])

    def ask(self, op, seconds, fds=(), **body):
        try:
            return getattr(self.runner, f"do_{op}")(body, fds)
        except Exception as error:
            raise Failed(failure(error)) from error


@pytest.fixture
def suite_of(tmp_path, monkeypatch):
    """Task text to the probes of its first workload."""
    monkeypatch.setattr("kernelevolve.evaluation.reference.FOLDER", tmp_path)
    made = []

    def suite(body, seed="secret", slots=3):
        text = HEAD + body
        if "get_init_inputs" not in text:
            text += "\ndef get_init_inputs():\n    return []\n"
        task = parse("task", text)
        runner = Inline(task)
        prepared = Preparation(
            runner, task, task.workloads[0], Random(seed), slots, perturb=True
        ).run()
        found = Suite(Bench(prepared, task, seed, lambda: runner, perturb=True))
        made.append(found)
        return found

    yield suite
    for one in made:
        one.close()
        one.bench.prepared.close()
