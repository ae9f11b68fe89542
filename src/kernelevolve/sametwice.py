"""The A/A test of `doctor`: what a clock says of one kernel on both sides."""

from secrets import token_hex

from kernelevolve import taskfile
from kernelevolve.config import RunConfig
from kernelevolve.core.candidate import Candidate, SourceFile
from kernelevolve.core.errors import HarnessError
from kernelevolve.core.evaluation import Stage, Timing
from kernelevolve.core.job import Job
from kernelevolve.wiring import Machine, Parts

AA_TASK = """
import torch

class Model(torch.nn.Module):
    def forward(self, x, y):
        return torch.mm(x, y)

def get_inputs():
    return [torch.randn(256, 256), torch.randn(256, 256)]

def get_init_inputs():
    return []
"""


def same_twice(config: RunConfig) -> Timing:
    """A library call timed against itself, as candidates are timed in the final check."""
    task = taskfile.parse("same_twice", AA_TASK)
    source = AA_TASK.replace("class Model(", "class ModelNew(")
    files = (SourceFile(path="model.py", text=source),)
    parts = Parts.of(config)
    config = parts.config
    job = Job(
        task=task,
        candidate=Candidate(language=config.language, files=files),
        target=parts.target,
        stage=Stage.CONFIRM,
        seed=token_hex(16),
    )
    with Machine(parts, config, task.attachments.__getitem__) as machine:
        machine.admit(task)
        found = machine.evaluate(job)
    if not found.ok:
        raise HarnessError(found.message)
    return found.timings[0]
