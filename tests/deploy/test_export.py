"""An export works in a process that has torch and the export, and nothing of ours."""

import ast
import json
import re
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest

from kernelevolve import runtime, taskfile
from kernelevolve.core.candidate import Candidate, SourceFile
from kernelevolve.core.errors import UsageError
from kernelevolve.core.evaluation import Evaluation, Stage, Status, Timing
from kernelevolve.core.target import TargetSpec
from kernelevolve.deploy.op import needed_features, write_export

pytestmark = [pytest.mark.needs_gxx, pytest.mark.timeout(120)]

PROBE = Path(__file__).with_name("probe.py")
CHECKS = re.findall(r"^def (check_\w+)", PROBE.read_text(), re.MULTILINE)
SHAPES = ("check_guard", "check_unseen_sizes", "check_compile_other_sizes")

TASK = '''"""Scale, shift, add, and cut at zero."""
import torch
from torch import nn

WORKLOADS = {"small": {"rows": 64, "columns": 96}, "large": {"rows": 128, "columns": 512}}
HELD_OUT = {"odd": {"rows": 33, "columns": 77}}

class Model(nn.Module):
    def __init__(self, columns):
        super().__init__()
        self.weight = nn.Parameter(torch.rand(columns))
        self.bias = nn.Parameter(torch.zeros(columns))
    def forward(self, x, y):
        return torch.relu(x * self.weight + y + self.bias)

def get_inputs(rows=64, columns=96):
    return [torch.randn(rows, columns), torch.randn(rows, columns)]

def get_init_inputs(columns=96):
    return [columns]
'''
MODEL = """import torch
from torch import nn
from kernelevolve.runtime import cpp

native = cpp.load("kernel.cpp", flags=["-O3", "-march=native"])

class ModelNew(nn.Module):
    def __init__(self, columns):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(columns))
        self.bias = nn.Parameter(torch.empty(columns))
        self.calls = 0

    def prepare(self):
        self.packed = torch.stack([self.weight, self.bias]).contiguous()

    def forward(self, x, y):
        self.calls += 1
        out = torch.empty_like(x)
        native.fused(x, y, self.packed, out, x.size(0), x.size(1))
        return out
"""
KERNEL = """#include <cstdint>
extern "C" void fused(const float* x, const float* y, const float* packed, float* out,
                      int64_t rows, int64_t columns) {
  for (int64_t r = 0; r < rows; r++)
    for (int64_t c = 0; c < columns; c++) {
      float v = x[r * columns + c] * packed[c] + y[r * columns + c] + packed[columns + c];
      out[r * columns + c] = v > 0 ? v : 0;
    }
}
"""
EXAMPLES = Path(__file__).parents[2] / "examples"
IN_AN_EXPORT = """
import sys
from pathlib import Path

sys.path.append("_support/runtime")
import torch
import model
from kernelevolve.runtime import gpu, kernels, nvrtc

x = torch.randn(3, 33)
torch.testing.assert_close(model.ModelNew()(x), x.softmax(-1))
assert "_support" in kernels.__file__ and Path(gpu.launcher.SOURCE).exists()
kernels._compile([sys.executable, "-S", "-c", f"import {nvrtc.__name__}"], Path())
"""
SPEC = TargetSpec(vendor="cpu", arch="x86_64", name="a processor", cores=(0,))


def evaluation(*names: str) -> Evaluation:
    timings = tuple(
        Timing(
            workload=name,
            held_out=name == "odd",
            samples_us=(10.0, 10.2, 9.9),
            baselines_us={"eager": (20.0, 21.0, 20.5), "compile": (30.0, 30.0, 31.0)},
            speedup=2.05,
            low=1.9,
            high=2.1,
        )
        for name in names
    )
    return Evaluation(status=Status.OK, stage=Stage.CONFIRM, score=2.05, timings=timings)


def export(folder: Path, *names: str, task: str = TASK, kernel: str = KERNEL) -> list[Path]:
    names = names or ("small", "large", "odd")
    return write_export(
        folder,
        (SourceFile(path="model.py", text=MODEL), SourceFile(path="kernel.cpp", text=kernel)),
        taskfile.parse("scale-add", task),
        lambda ref: b"",
        "cpp",
        evaluation(*names),
        SPEC,
        "scale-add-1",
        7,
    )


@pytest.fixture(scope="session")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Site-packages without kernelevolve."""
    folder = tmp_path_factory.mktemp("site")
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if "kernelevolve" not in entry.name and entry.suffix != ".pth":
            (folder / entry.name).symlink_to(entry)
    return folder


def run(bare: Path, folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-S", *command],
        cwd=folder,
        env={"PYTHONPATH": str(bare), "PATH": "/usr/bin:/bin", "HOME": str(folder)},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


def probe(bare: Path, folder: Path, *checks: str) -> dict[str, str]:
    done = run(bare, folder, str(PROBE), *checks)
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.slow
def test_with_held_out_sizes(bare: Path, tmp_path: Path) -> None:
    export(tmp_path)
    assert probe(bare, tmp_path) == dict.fromkeys(CHECKS, "")


@pytest.mark.slow
def test_without_held_out_sizes(bare: Path, tmp_path: Path) -> None:
    export(tmp_path, "small", "large")
    assert probe(bare, tmp_path, *SHAPES) == dict.fromkeys(SHAPES, "")


def verify(bare: Path, folder: Path, *flags: str) -> tuple[int, dict[str, Any]]:
    done = run(bare, folder, "verify.py", "--json", "--seconds", "0.1", *flags)
    assert done.returncode in (0, 1, 3), done.stderr
    return done.returncode, json.loads(done.stdout)


def test_verify_passes_a_right_kernel(bare: Path, tmp_path: Path) -> None:
    export(tmp_path)
    code, report = verify(bare, tmp_path, "--quick")
    assert code == 0
    assert report["ok"]
    assert report["kernel_runs"]
    assert [w["workload"] for w in report["workloads"]] == ["small", "large", "odd"]
    assert all(w["error"] <= 1 for w in report["workloads"])
    assert all(w["median_us"]["drop-in"] > 0 for w in report["workloads"])


@pytest.mark.slow
def test_verify_catches_a_wrong_kernel(bare: Path, tmp_path: Path) -> None:
    export(tmp_path, kernel=KERNEL.replace("? v : 0", "? v : 1e-3f"))
    done = run(bare, tmp_path, "verify.py", "--quick", "--seconds", "0.1")
    assert done.returncode == 1
    assert "WRONG: its error is" in done.stdout


@pytest.mark.slow
def test_without_a_compiler_the_reference_runs(bare: Path, tmp_path: Path) -> None:
    export(tmp_path, kernel="this is not C++")
    code, report = verify(bare, tmp_path, "--quick")
    assert code == 3
    assert report["ok"]
    assert not report["kernel_runs"]
    assert "could not compile" in report["workloads"][0]["why_not"]


@pytest.mark.slow
def test_kernels_of_cuda_bring_what_compiles_and_launches_them(bare: Path, tmp_path: Path) -> None:
    kernel = EXAMPLES / "kernels" / "softmax_cuda"
    files = tuple(SourceFile(path=p.name, text=p.read_text()) for p in sorted(kernel.iterdir()))
    task = taskfile.parse("softmax", (EXAMPLES / "softmax.py").read_text())
    given = (evaluation("rows512"), SPEC, "softmax-1", 1)
    write_export(tmp_path, files, task, lambda ref: b"", "cuda", *given)
    done = run(bare, tmp_path, "-c", IN_AN_EXPORT)
    assert done.returncode == 0, done.stderr


def test_what_is_written(tmp_path: Path) -> None:
    written = export(tmp_path)
    assert all(path.is_file() for path in written)
    assert (tmp_path / "model.py").read_text() == MODEL
    assert (tmp_path / "kernel.cpp").read_text() == KERNEL
    assert (tmp_path / "reference.py").read_text() == TASK
    readme = (tmp_path / "README.md").read_text()
    for text in ("2.05×", "a processor", "kernelevolve best scale-add-1", "| odd | yes | 10.0 |"):
        assert text in readme
    assert sorted(set(export(tmp_path))) == sorted(set(written))


def test_a_name_of_ours_is_refused(tmp_path: Path) -> None:
    files = (SourceFile(path="model.py", text=MODEL), SourceFile(path="verify.py", text=""))
    task = taskfile.parse("t", TASK)
    with pytest.raises(UsageError, match=r"verify\.py"):
        write_export(tmp_path, files, task, lambda r: b"", "cpp", evaluation("small"), SPEC, "r", 1)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="export folder"):
        export(tmp_path / "file")


def test_needed_features() -> None:
    present = {"avx2", "avx", "fma", "avx512f", "sse4_2", "amx_tile"}

    def needed(text: str) -> list[str]:
        files = (SourceFile(path="model.py", text=text),)
        return needed_features(Candidate(language="cpp", files=files), present)

    assert needed("-march=native") == []
    assert needed("_mm256_add_ps") == ["avx", "avx2", "fma"]
    assert needed("_mm512_add_ps") == ["avx512f"]


def test_the_runtime_stands_alone() -> None:
    for path in Path(runtime.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            name = getattr(node, "module", None) or ""
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else [name]
            for imported in names:
                assert not imported.startswith("kernelevolve") or imported.startswith(
                    "kernelevolve.runtime"
                ), f"{path.name} imports {imported}, which exports do not have"
