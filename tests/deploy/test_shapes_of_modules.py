"""Exports of modules with buffers, modes, several outputs, and of live modules."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from kernelevolve import taskfile
from kernelevolve.core.candidate import SourceFile
from kernelevolve.core.evaluation import Evaluation, Stage, Status, Timing
from kernelevolve.core.target import TargetSpec
from kernelevolve.core.task import Task
from kernelevolve.deploy.op import write_export

pytestmark = [pytest.mark.timeout(120), pytest.mark.slow]

EXAMPLES = Path(__file__).parents[2] / "examples"
SPEC = TargetSpec(vendor="cpu", arch="x86_64")

DICTIONARY = """
import torch
from torch import nn
class Model(nn.Module):
    def forward(self, x, power):
        return {"sum": x.sum(-1), "best": (x ** power).argmax(-1)}
def get_inputs(): return [torch.rand(4, 5), 2]
def get_init_inputs(): return []
"""
NESTED = DICTIONARY.replace('{"sum": x.sum(-1), "best":', '{"sum": [x.sum(-1)], "best":')
TRAINING = """
import torch
from torch import nn
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(5)
    def forward(self, x):
        return self.norm(x)
def get_inputs(): return [torch.rand(4, 5)]
def get_init_inputs(): return []
"""
TIED = """
import torch
from torch import nn
class Model(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.first = nn.Linear(width, width, bias=False)
        self.second = nn.Linear(width, width, bias=False)
        self.second.weight = self.first.weight
    def forward(self, x):
        return self.second(self.first(x))
def get_inputs(): return torch.rand(4, 5)
def get_init_inputs(): return {"width": 5}
"""
HIDDEN = """
import torch
from torch import nn
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = torch.rand(5)
    def forward(self, x):
        return x * self.table
def get_inputs(): return [torch.rand(4, 5)]
"""
LIVE = """
import torch
from torch import nn
class ModelNew(nn.Module):
    def __init__(self):
        super().__init__()
        self.s = nn.Parameter(torch.empty(3))
        self.w = nn.Parameter(torch.empty(3, 6))
        self.b = nn.Parameter(torch.empty(3))
    def forward(self, x): return torch.relu(nn.functional.linear(x, self.w, self.b)) * self.s
"""


class Live(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 3)
        self.scale = nn.Parameter(torch.rand(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.linear(x)) * self.scale


PROBE = """
import importlib.util, json, sys, warnings
from pathlib import Path
import torch

warnings.simplefilter("ignore")
torch.set_num_threads(1)
found = {}
for folder in sys.argv[1:]:
    name = Path(folder).name
    spec = importlib.util.spec_from_file_location(
        name, Path(folder) / "__init__.py", submodule_search_locations=[folder])
    package = importlib.util.module_from_spec(spec)
    sys.modules[name] = package
    spec.loader.exec_module(package)
    support = package.op.support
    workload = support.MANIFEST["workloads"][0]
    args, kwargs = support.files.workload_arguments(workload)
    inputs = support.files.workload_inputs(workload)
    mode = support.MANIFEST["mode"] != "eval"
    reference = support.Model(*args, **kwargs).train(mode)
    optimized = package.from_reference(reference, *args, **kwargs)
    with torch.no_grad():
        row = {"why_not": optimized.why_not(*inputs)}
        expected = reference(*inputs)
        row["right"] = repr(optimized(*inputs)) == repr(expected)
        optimized.train(not mode)
        row["other_mode"] = optimized.why_not(*inputs)
        optimized.train(mode)
        compiled = torch.compile(optimized, fullgraph=True, backend="eager")
        row["compiled"] = repr(compiled(*inputs)) == repr(expected)
        row["op"] = "" if support.FACTS is None else support.FACTS.why_no_op
        row["calls"] = getattr(getattr(optimized._kernel, "_kernel", None), "calls", None)
    row["gradient"] = None
    if any(p.requires_grad for p in reference.parameters()):
        sums = [m(*inputs).square().sum() for m in (optimized, reference)]
        pairs = zip(*(torch.autograd.grad(s, list(reference.parameters())) for s in sums))
        row["gradient"] = all(torch.allclose(a, b) for a, b in pairs)
    torch.manual_seed(1)
    reference = support.Model(*args, **kwargs).train(mode)
    torch.manual_seed(1)
    twin = package.Optimized(*args, **kwargs).train(mode)
    with torch.no_grad():
        row["twin"] = repr(twin(*inputs)) == repr(reference(*inputs))
    found[name] = row
print(json.dumps(found))
"""


def candidate(source: str) -> str:
    """The reference itself under the candidate's name, counting its calls."""
    renamed = source.replace("class Model(", "class ModelNew(")
    return re.sub(
        r"( *)def forward\(.*\n",
        lambda m: f"{m[1]}calls = 0\n{m[0]}{m[1]}    self.calls += 1\n",
        renamed,
    )


def evaluation(task: Task) -> Evaluation:
    timings = tuple(
        Timing(
            workload=w.name,
            held_out=w.held_out,
            samples_us=(1.0,),
            baselines_us={"eager": (2.0,)},
            speedup=2.0,
            low=2.0,
            high=2.0,
        )
        for w in task.workloads
    )
    return Evaluation(status=Status.OK, stage=Stage.CONFIRM, score=2.0, timings=timings)


def export(folder: Path, task: Task, model: str) -> str:
    files = (SourceFile(path="model.py", text=model),)
    blobs = task.attachments.__getitem__
    write_export(folder, files, task, blobs, "cpp", evaluation(task), SPEC, "run", 1)
    return str(folder)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, object]]:
    root = tmp_path_factory.mktemp("exports")
    folders = []
    for name in ("rotary_embedding", "batchnorm_add_relu", "cross_entropy"):
        task = taskfile.read(EXAMPLES / f"{name}.py")
        folders.append(export(root / name, task, candidate(task.source)))
    texts = {"dictionary": DICTIONARY, "nested": NESTED, "training": TRAINING, "tied": TIED}
    texts["hidden"] = HIDDEN
    for name, text in texts.items():
        folders.append(export(root / name, taskfile.parse(name, text), candidate(text)))
    live = Task.from_module(Live(), [torch.randn(4, 6)], name="live")
    folders.append(export(root / "live", live, LIVE))
    (root / "probe.py").write_text(PROBE)
    done = subprocess.run(
        [sys.executable, str(root / "probe.py"), *folders],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, dict[str, object]] = json.loads(done.stdout)
    return result


@pytest.mark.parametrize(
    "name",
    ["rotary_embedding", "batchnorm_add_relu", "cross_entropy", "dictionary", "live", "tied"],
)
def test_the_kernel_runs_as_an_op(found: dict[str, dict[str, object]], name: str) -> None:
    row = found[name]
    assert (row["why_not"], row["op"], row["right"], row["compiled"]) == ("", "", True, True)
    assert row["gradient"] in (None, True)
    if name != "live":
        assert row["calls"] == 2


def test_the_mode_matters_only_where_the_module_looks_at_it(
    found: dict[str, dict[str, object]],
) -> None:
    assert found["batchnorm_add_relu"]["other_mode"] == "verified in evaluation mode only"
    assert found["rotary_embedding"]["other_mode"] == ""


def test_tensors_that_are_not_registered_are_made_from_the_same_seed(
    found: dict[str, dict[str, object]],
) -> None:
    row = found["hidden"]
    assert (row["op"], row["why_not"]) == ("it keeps tensors that are not registered", "")
    assert (row["twin"], row["compiled"]) == (True, False)


def test_deeper_outputs_are_called_without_an_op(found: dict[str, dict[str, object]]) -> None:
    row = found["nested"]
    assert row["op"] == "it returns more than one level of tensors"
    assert (row["why_not"], row["right"], row["compiled"], row["calls"]) == ("", True, True, 1)


def test_buffers_that_training_updates_are_left_to_the_reference(
    found: dict[str, dict[str, object]],
) -> None:
    assert found["training"]["why_not"] == "it updates buffers while training"
    assert found["training"]["right"]
