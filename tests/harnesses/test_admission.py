import io

import pytest
import torch

from kernelevolve.core.task import Task, Workload

ADD = """
class Model(nn.Module):
    def forward(self, x):
        return {body}

def get_inputs():
    return [{inputs}]
"""


def admit(bench, body="x + 1", inputs="torch.randn(4, 4)", before=""):
    found = bench.admission(bench.task(before + ADD.format(body=body, inputs=inputs)))
    return found.admitted, {f.code: f.message for f in found.findings}


@pytest.mark.parametrize(
    ("change", "code", "says"),
    [
        ({"body": "x + torch.rand(4, 4)"}, "nondeterministic", "MODE"),
        ({"body": "x @ torch.ones(3, 3)"}, "reference-raises", "mat1"),
        ({"inputs": "torch.randn(4, 4, device='meta')"}, "inputs-device", "meta"),
        ({"inputs": "3"}, "inputs-none", "no tensor"),
        ({"body": "'done'"}, "outputs-none", "returns str"),
        ({"body": "None"}, "outputs-none", "returns None"),
        ({"inputs": "torch.randn(0, 4)"}, "null-nothing", "sizes above zero"),
        (
            {"body": "(x.shape[0], {'loss': x.sum().item()})"},
            "outputs-none",
            "tuple of int, dict of float",
        ),
        ({"inputs": "torch.randn(torch.randint(3, 99, ()))"}, "inputs-vary", "shapes"),
        ({"before": "raise ValueError('no')\n"}, "reference-raises", "ValueError: no"),
        ({"before": "import os; os._exit(3)\n"}, "reference-crashes", "3"),
        ({"inputs": "torch.zeros(1 << 20, 1 << 20)"}, "memory", " GB "),
    ],
)
def test_tasks_that_cannot_be_searched(bench, change, code, says):
    admitted, findings = admit(bench, **change)
    assert not admitted
    assert says in findings[code]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"body": "x * 0"}, "null-zeros"),
        ({"body": "torch.softmax(x, -1).mean()"}, "null-constant"),
        ({"body": "x + 0"}, "null-input-0"),
        (
            {"body": "x.exp()", "before": "TOLERANCE = {'rms': 1e9, 'maximum': 1e9}\n"},
            "null-zeros",
        ),
    ],
)
def test_tasks_that_a_kernel_without_a_computation_would_pass(bench, change, code):
    admitted, findings = admit(bench, **change)
    assert not admitted
    assert "passes" in findings[code]


def test_the_trace_of_an_import_shows_the_tasks_own_line_alone(bench):
    _, findings = admit(bench, before="import sys; sys.exit(3)\n")
    said = findings["reference-raises"].splitlines()
    assert "SystemExit: 3" in said[0]
    assert [line.split(" in ")[0] for line in said[1:]] == ["  task.py:5"]


def test_an_empty_workload_may_be_held_out(bench):
    text = ADD.format(body="x.exp()", inputs="torch.randn(rows, 4)")
    text = text.replace("get_inputs()", "get_inputs(rows=8)")
    sizes = "WORKLOADS = {'some': {'rows': 8}}\nHELD_OUT = {'none': {'rows': 0}}\n"
    found = bench.admission(bench.task(text + sizes))
    assert found.admitted, found.findings


def test_what_is_not_tried_and_what_is_dead_is_said(bench):
    text = ADD.format(body="x.relu()", inputs="torch.randn(4, 4), torch.randn(3)")
    found = bench.admission(bench.task(text.replace("(self, x)", "(self, x, y)")))
    assert found.admitted
    findings = {f.code: f.message for f in found.findings}
    assert "tensor 1" in findings["input-dead"]
    assert "equal-integers (no input has such values)" in findings["probes"]


def test_oddities_are_warnings(bench):
    admitted, findings = admit(
        bench,
        body="torch.log(x - 5), x.sum()",
        inputs="torch.ones(4, 4)",
        before="print('hello')\ntorch.set_default_dtype(torch.float32)\n"
        "open('left', 'w').close()\n",
    )
    assert admitted
    assert set(findings) >= {"inputs-constant", "outputs-nan", "prints", "side-effects"}
    assert "left" in findings["side-effects"]


def test_empty_tensors_are_judged(bench):
    task = bench.task(ADD.format(body="x.relu()", inputs="torch.randn(0, 4)"))
    model = "class ModelNew(nn.Module):\n    def forward(self, x):\n        return {}\n"
    assert bench.verdict(task, model.format("x.relu()")).ok
    assert "float32[4, 0]" in bench.verdict(task, model.format("x.relu().t()")).message


def test_captured_inputs_are_a_workload(bench):
    file = io.BytesIO()
    torch.save([torch.arange(12.0).reshape(3, 4), torch.tensor([2, 0])], file)
    bench.blobs["captured"] = file.getvalue()
    source = bench.task(
        "class Model(nn.Module):\n    def forward(self, x, i):\n        return x[i]\n"
        "def get_inputs():\n    raise RuntimeError\n"
    ).source
    workloads = (Workload(name="captured", captured=True),)
    task = Task(name="rows", source=source, workloads=workloads, captured="captured")
    model = "class ModelNew(nn.Module):\n    def forward(self, x, i):\n        return x[{}]\n"
    assert bench.verdict(task, model.format("i")).ok
    found = bench.verdict(task, model.format("i.flip(0)"))
    assert "outside the error budget" in found.message


def test_a_module_is_a_task_by_its_exported_program(bench):
    module = torch.nn.Linear(5, 3).eval()
    file = io.BytesIO()
    torch.export.save(torch.export.export(module, (torch.randn(2, 5),)), file)
    bench.blobs["program"] = file.getvalue()
    task = Task(name="module", source="", workloads=(Workload(name="default"),), program="program")
    model = """
class ModelNew(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(3, 5))
        self.bias = nn.Parameter(torch.empty(3))
    def forward(self, x):
        return F.linear(x, self.weight, self.bias)
"""
    found = bench.verdict(task, model)
    assert found.ok, found.message


def test_precision_may_be_lowered_only_where_the_task_says_so(bench):
    text = ADD.format(body="x @ x", inputs="torch.randn(64, 64)")
    model = """
class ModelNew(nn.Module):
    def forward(self, x):
        return (x.bfloat16() @ x.bfloat16()).float()
"""
    assert not bench.verdict(bench.task(text), model).ok
    found = bench.verdict(bench.task("PRECISION = 'downcast'\n" + text), model)
    assert found.ok, found.message
    assert "downcast" in {f.rule for f in found.flags}
    exact = model.replace(".bfloat16()", "").replace(".float()", "")
    found = bench.verdict(bench.task("PRECISION = 'downcast'\n" + text), exact)
    assert "downcast" not in {f.rule for f in found.flags}


def test_float64_tasks_allow_another_order_of_summation(bench):
    text = ADD.format(body="x.sum(-1)", inputs="torch.randn(8, 5000).double()")
    model = """
class ModelNew(nn.Module):
    def forward(self, x):
        return x.flip(-1).reshape(8, 50, 100).sum(1).sum(1)
"""
    found = bench.verdict(bench.task(text), model)
    assert found.ok, found.message
