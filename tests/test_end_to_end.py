"""The main job through the command line and from Python, on this machine's processor."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import kernelevolve

pytestmark = [
    pytest.mark.needs_gxx,
    pytest.mark.needs_sandbox,
    pytest.mark.slow,
    pytest.mark.long,
    pytest.mark.timeout(300),
]

UNSEEN = '''
import torch
import torch.nn as nn


class Model(nn.Module):
    """Scales, adds a learned shift, applies a squared activation, normalises every row."""

    def __init__(self, features: int, eps: float = 1e-6):
        super().__init__()
        self.shift = nn.Parameter(torch.randn(features) * 0.1)
        self.eps = eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(x * 1.25 + self.shift) ** 2
        return y / (y.sum(dim=-1, keepdim=True) + self.eps)


batch_size = 96
features = 200


def get_inputs():
    return [torch.rand(batch_size, features)]


def get_init_inputs():
    return [features]
'''
SOFTMAX = """
import torch

class Model(torch.nn.Module):
    def forward(self, x):
        return torch.softmax(x, dim=-1)

def get_inputs():
    return [torch.randn(24, 40)]

def get_init_inputs():
    return []
"""
HEAD = "import torch\nclass ModelNew(torch.nn.Module):\n    def forward(self, x):\n        "
BAD = {
    "wrong": ("return torch.softmax(x, 0)", "wrong"),
    "crashing": ("import ctypes; ctypes.string_at(0)", "SIGSEGV"),
    "endless": ("\n        while True: pass", "limit"),
}


def command(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """One command in a process of its own."""
    run = "from kernelevolve.cli.main import run; run()"
    line = [sys.executable, "-c", run, *map(str, words)]
    return subprocess.run(line, capture_output=True, text=True, check=False, timeout=280)


@pytest.mark.parametrize("baselines", [["--eager-only"], []])
def test_an_unseen_kernelbench_file_ends_confirmed_and_exports_itself(
    baselines: list[str], tmp_path: Path
) -> None:
    task, store = tmp_path / "unseen.py", tmp_path / "store"
    task.write_text(UNSEEN)
    short = ["--nodes", "4", "--confirm", "1", *baselines]
    done = command("optimize", task, *short, "--store", store, "--json")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["best"]["confirmed"]
    assert summary["fidelity"] == "measured"
    assert not summary["best"]["fallback"]
    assert ("compile" in summary["best"]["speedup_over"]) == (not baselines)
    assert all(Path(file).exists() for file in summary["best"]["files"])

    shown = json.loads(command("show", summary["run"], "--store", store, "--json").stdout)
    assert [n["number"] for n in shown["nodes"]] == [1, 2, 3, 4]
    node = json.loads(command("show", summary["run"], "best", "--store", store, "--json").stdout)
    assert "ModelNew" in node["source"]["model.py"]

    export = tmp_path / "export"
    written = command("best", summary["run"], "-o", export, "--store", store, "--json")
    assert written.returncode == 0, written.stderr
    verify = [sys.executable, str(export / "verify.py"), "--quick", "--json"]
    verified = subprocess.run(verify, capture_output=True, text=True, check=False)
    assert verified.returncode == 0, verified.stdout + verified.stderr


@pytest.mark.parametrize("name", ["crashing", "wrong", "endless"])
def test_a_bad_kernel_is_one_line_and_exit_code_one(name: str, tmp_path: Path) -> None:
    body, says = BAD[name]
    task, kernel = tmp_path / "task.py", tmp_path / "kernel.py"
    task.write_text(SOFTMAX)
    kernel.write_text(HEAD + body)
    done = command(
        "evaluate", task, kernel, "--store", tmp_path / "store",
        "--set", "limits.run_seconds=3", "--eager-only",
    )  # fmt: skip
    assert done.returncode == 1
    verdict = done.stdout.strip().splitlines()
    assert len(verdict) == 1
    assert says in verdict[0]


def test_a_live_module_is_optimised_from_python(tmp_path: Path) -> None:
    torch.manual_seed(0)
    live = torch.nn.Sequential(torch.nn.LayerNorm(48), torch.nn.Linear(48, 24), torch.nn.GELU())
    x = torch.randn(30, 48)
    result = kernelevolve.optimize(
        live.eval(), [x], nodes=2, confirm=1, eager_only=True, store=str(tmp_path)
    )
    assert result.best is not None
    assert result.summary["best"]["confirmed"]
    fast = result.best.module()
    with torch.no_grad():
        assert not fast.why_not(x)
        torch.testing.assert_close(fast(x), live(x), rtol=1e-5, atol=1e-5)
