"""CUDA of notes: NVRTC compiles it for sm_90, the emulator runs it against NumPy."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kernelevolve.runtime import nvrtc, simt
from tests.knowledge.notes_kit import shown

pytestmark = [pytest.mark.needs_gxx, pytest.mark.slow]
CODE = shown("cuda")
LIMIT = 232448
Launch = Callable[..., None]


@pytest.fixture(scope="module")
def launch(tmp_path_factory: pytest.TempPathFactory) -> Launch:
    """Runs a kernel of any note; all are compiled together, by both compilers."""
    folder = tmp_path_factory.mktemp("notes")
    text = "\n".join(f"// {ref}\n{code}" for ref, code in CODE.items())
    source = folder / "notes.cu"
    source.write_text(text)
    fine, log = nvrtc.compile_file(str(source), "sm_90", folder / "notes", [])
    assert fine, log
    kernels = re.findall(r"__global__ void (\w+)", text)
    translated, built = folder / "translated" / "notes.cu", folder / "notes.so"
    translated.parent.mkdir()
    translated.write_text(simt.translated(text, "notes.cu", kernels))
    for command in simt.commands(str(translated), built, ()):
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    def run(name: str, *arguments: Any, grid: Any, block: Any) -> None:
        whole = [n if isinstance(n, tuple) else (n, 1, 1) for n in (grid, block)]
        simt.run(Path(built), name, *whole, 0, LIMIT, arguments)

    return run


def near(out: torch.Tensor, expected: np.ndarray[Any, Any], tolerance: float = 1e-5) -> None:
    np.testing.assert_allclose(out.numpy(), expected, rtol=tolerance, atol=tolerance)


def warp_sums(launch: Launch) -> None:
    x, out = torch.randn(5, 70), torch.empty(5)
    launch("warp_sums", x, out, 5, 70, grid=2, block=128)
    near(out, x.numpy().sum(1))


def rms(launch: Launch) -> None:
    x, out = torch.randn(3, 301), torch.empty(3, 301)
    launch("rms", x, out, 301, 1e-5, grid=3, block=128)
    v = x.numpy().astype(float)
    near(out, v / np.sqrt((v * v).mean(1, keepdims=True) + 1e-5))


def relu(launch: Launch) -> None:
    for start in (0, 1):
        x, out = torch.randn(1030)[start:], torch.empty(1030)[start:]
        launch("relu", x, out, x.numel(), grid=2, block=64)
        near(out, np.maximum(x.numpy(), 0), 0)


def transpose(launch: Launch) -> None:
    x, out = torch.randn(37, 70), torch.empty(70, 37)
    launch("transpose", x, out, 37, 70, grid=(3, 2, 1), block=(32, 8, 1))
    near(out, x.numpy().T, 0)


def softmax(launch: Launch) -> None:
    x, out = torch.randn(2, 401) * 10, torch.empty(2, 401)
    launch("softmax8", x, out, 401, grid=2, block=64)
    near(out, x.double().softmax(1).numpy())


def weighted(launch: Launch) -> None:
    x, w, out = torch.randn(7, 300), torch.randn(7), torch.empty(300)
    launch("weighted", x, w, out, 300, 7, grid=2, block=256)
    near(out, w.numpy() @ x.numpy())


def gelu_like(launch: Launch) -> None:
    x = torch.randn(66, dtype=torch.float16)
    out = torch.empty_like(x)
    launch("gelu_like", x, out, 33, grid=2, block=32)
    v = x.double()
    near(out, (v * torch.sigmoid(1.702 * v)).numpy(), 1e-3)


def row_cumsum(launch: Launch) -> None:
    x, out = torch.randn(2, 300), torch.empty(2, 300)
    launch("row_cumsum", x, out, 300, grid=2, block=128)
    near(out, x.double().cumsum(1).numpy())


CHECKS = {
    "languages/cuda/warp-reduction": warp_sums,
    "languages/cuda/block-reduction": rms,
    "languages/cuda/wide-loads": relu,
    "languages/cuda/transpose-through-a-padded-tile": transpose,
    "languages/cuda/softmax-in-registers": softmax,
    "languages/cuda/copy-pipeline": weighted,
    "languages/cuda/half-pairs": gelu_like,
    "languages/cuda/warp-scan": row_cumsum,
}


def test_every_note_with_code_is_checked() -> None:
    assert set(CODE) == set(CHECKS)


@pytest.mark.parametrize("ref", sorted(CHECKS))
def test_code_of_a_note_computes_what_it_says(launch: Launch, ref: str) -> None:
    CHECKS[ref](launch)
