"""Triton of notes: compiled for sm_90 and interpreted, against NumPy."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from kernelevolve.core.candidate import Candidate, SourceFile
from kernelevolve.languages.triton import Triton
from kernelevolve.targets.nvidia import Nvidia
from kernelevolve.testing.contracts.language import TASK, run_here
from tests.knowledge.notes_kit import shown

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:TRITON_DEFAULT_FP_FUSION"),
    pytest.mark.skipif(torch.cuda.is_available(), reason="the GPU would be used"),
]
CODE = shown("triton")
HEAD = """
import torch, triton
import triton.language as tl

class ModelNew(torch.nn.Module):
    def forward(self):
        return globals()

"""
Kernels = dict[str, Any]


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Kernels:
    """All kernels of all notes by name."""
    pytest.importorskip("triton", reason='pip install "kernelevolve[triton]"')
    text = HEAD + "\n\n".join(f"# {ref}\n{code}" for ref, code in CODE.items())
    candidate = Candidate(language="triton", files=(SourceFile(path="model.py", text=text),))
    spec = next(spec for spec in Nvidia().discover() if spec.arch == "sm_90")
    built = Triton().build(candidate, spec, tmp_path_factory.mktemp("notes"), run_here)
    assert built.ok, built.message
    found: Kernels = Triton().load(built, TASK)()()
    return found


def near(out: torch.Tensor, expected: torch.Tensor, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(out, expected.to(out.dtype), rtol=tolerance, atol=tolerance)


def spread(kernels: Kernels) -> None:
    x, out = torch.randn(3, 37) + 5, torch.empty(3)
    kernels["row_spread"][(3,)](x, out, 37, BLOCK=64)
    near(out, x.amax(1) - x.amin(1))


def product(kernels: Kernels) -> None:
    a, b, c = torch.randn(20, 40), torch.randn(40, 18), torch.empty(20, 18)
    kernels["product"][(2, 2)](a, b, c, 20, 18, 40, BM=16, BN=16, BK=32)
    near(c, a.double() @ b.double(), 1e-4)


def layer_norm(kernels: Kernels) -> None:
    x, w, b, out = torch.randn(2, 50) + 100, torch.randn(50), torch.randn(50), torch.empty(2, 50)
    kernels["layer_norm"][(2,)](x, w, b, out, 50, 1e-5, BLOCK=64)
    near(out, torch.nn.functional.layer_norm(x.double(), (50,), w.double(), b.double()), 1e-4)


def logsumexp(kernels: Kernels) -> None:
    x, out = torch.randn(2, 150) * 20, torch.empty(2)
    kernels["logsumexp"][(2,)](x, out, 150, BLOCK=64)
    near(out, x.double().logsumexp(1))


def weighted_rows(kernels: Kernels) -> None:
    x, w, out, partial = torch.randn(7, 30), torch.randn(30), torch.empty(7, 30), torch.empty(2, 30)
    kernels["weighted_rows"][(2,)](x, w, out, partial, 7, 30, BLOCK=32)
    near(out, x * w)
    near(partial.sum(0), x.sum(0))


def visited(kernels: Kernels) -> None:
    out = torch.empty(5, 3, dtype=torch.int32)
    kernels["visit"][(15,)](out, 5, 3, GROUP=2)
    assert out.tolist() == [[0, 2, 4], [1, 3, 5], [6, 8, 10], [7, 9, 11], [12, 13, 14]]


def argmax(kernels: Kernels) -> None:
    x, out = torch.randint(0, 4, (4, 70)).float(), torch.empty(4, dtype=torch.int32)
    x[3] = float("-inf")
    kernels["row_argmax"][(4,)](x, out, 70, BLOCK=32)
    first = [row.index(max(row)) for row in x.tolist()]
    assert out.tolist() == first


CHECKS: dict[str, Callable[[Kernels], None]] = {
    "languages/triton/masks-and-neutral-elements": spread,
    "languages/triton/float32-dot-precision": product,
    "languages/triton/row-in-a-block": layer_norm,
    "languages/triton/long-rows-in-a-loop": logsumexp,
    "languages/triton/persistent-rows": weighted_rows,
    "languages/triton/grouped-program-order": visited,
    "languages/triton/argmax-with-ties": argmax,
}


def test_every_note_with_code_is_checked() -> None:
    assert set(CODE) == set(CHECKS)


@pytest.mark.parametrize("ref", sorted(CHECKS))
def test_code_of_a_note_computes_what_it_says(kernels: Kernels, ref: str) -> None:
    CHECKS[ref](kernels)
