import sys
from pathlib import Path

import pytest
import torch

from kernelevolve.core.candidate import Candidate, SourceFile
from kernelevolve.languages.triton import Triton
from kernelevolve.runtime import launched
from kernelevolve.targets.amd import Amd
from kernelevolve.targets.nvidia import Nvidia
from kernelevolve.testing.contracts.language import TASK, LanguageContract, run_here

INSTALL = 'pip install "kernelevolve[triton]"'
SPEC = next(spec for spec in Nvidia().discover() if spec.arch == "sm_90")
pytestmark = [
    pytest.mark.filterwarnings("ignore:TRITON_DEFAULT_FP_FUSION"),
    pytest.mark.skipif(torch.cuda.is_available(), reason="the GPU would be used"),
]
HEAD = """
import torch, triton
import triton.language as tl
from triton.language.extra import libdevice

class ModelNew(torch.nn.Module):
    def forward(self, *inputs):
        return launch(*inputs)

"""


class TestTritonContract(LanguageContract):
    name = "triton"
    spec = SPEC
    broken = SourceFile(path="model.py", text="def :\n")

    def test_starter_builds_loads_and_is_right(self, tmp_path: Path) -> None:
        pytest.importorskip("triton", reason=INSTALL)
        super().test_starter_builds_loads_and_is_right(tmp_path)


@pytest.fixture
def run(tmp_path):
    """Runs `launch` of a source, for a device with some shared memory."""
    pytest.importorskip("triton", reason=INSTALL)
    launched.kernels.clear()

    def of(source, *inputs, shared=None, more=(), spec=SPEC):
        limits = spec.multiprocessor
        limits = limits.model_copy(update={"shared_block": shared or limits.shared_block})
        spec = spec.model_copy(update={"multiprocessor": limits})
        files = (SourceFile(path="model.py", text=HEAD + source), *more)
        candidate = Candidate(language="triton", files=files)
        built = Triton().build(candidate, spec, tmp_path, run_here)
        assert built.ok, built.message
        return Triton().load(built, TASK)()(*inputs)

    return of


MAP = """
@triton.jit
def kernel(x, y, out, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    a, b = tl.load(x + i, mask=i < n), tl.load(y + i, mask=i < n)
    tl.store(out + i, {expression}, mask=i < {bound})

def launch(x, y):
    out = torch.empty_like(x)
    kernel[(1,)](x, y, out, x.numel(), BLOCK={block})
    return out
"""


def mapped(expression, bound="n", block=128):
    return MAP.format(expression=expression, bound=bound, block=block)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(
    ("expression", "wanted"),
    [
        ("a * b + a", lambda a, b: a * b + a),
        ("tl.abs(a - b)", lambda a, b: (a - b).abs()),
        ("tl.where(a > b, a, 3)", lambda a, b: torch.where(a > b, a, 3)),
        ("tl.sqrt(b * b.to(tl.float32))", lambda a, b: b.float().square().sqrt().to(a)),
        ("libdevice.tanh(a.to(tl.float32))", lambda a, b: a.float().tanh().to(a)),
        ("a.to(tl.int32).to(tl.bfloat16)", lambda a, b: a.int().bfloat16().to(a)),
        ("a + tl.sum(b, 0) * 0", lambda a, b: a),
    ],
)
def test_numbers_are_rounded_as_on_a_device(run, dtype, expression, wanted):
    a, b = (300 * torch.randn(2, 100)).to(dtype)
    assert torch.equal(run(mapped(expression), a, b), wanted(a, b))


def test_special_values_of_bfloat16_stay_special(run):
    a = torch.tensor([float("inf"), -float("inf"), float("nan"), -0.0, 3.4e38, 1e-40]).bfloat16()
    found = run(mapped("a + b * 0"), a, torch.zeros_like(a))
    assert torch.equal(found.nan_to_num(7), (a + 0).nan_to_num(7))


def test_an_access_outside_is_told_by_line_and_argument(run):
    with pytest.raises(RuntimeError) as raised:
        run(mapped("a", bound="n + 1"), torch.randn(100), torch.randn(100))
    line = HEAD.count("\n") + 1 + mapped("a").splitlines().index("@triton.jit") + 4
    assert str(raised.value).startswith(
        f"model.py:{line}: program [0, 0, 0] writes 4 bytes, 0 bytes past the end of argument "
        "'out', which has 400 bytes: mask"
    )


def test_a_view_is_all_that_may_be_read(run):
    x = torch.randn(300)
    with pytest.raises(RuntimeError, match="reads 4 bytes, 4 bytes before the start of argument"):
        run(mapped("tl.load(x + i - 1, mask=i < n)"), x[100:200], torch.randn(100))


def test_what_the_interpreter_would_take_and_the_compiler_does_not_is_refused(run):
    with pytest.raises(Exception, match="power of 2"):
        run(mapped("a", block=100), torch.randn(100), torch.randn(100))


DOT = """
@triton.jit
def kernel(a, b, out, HOW: tl.constexpr, N: tl.constexpr):
    at = tl.arange(0, N)[:, None] * N + tl.arange(0, N)[None, :]
    tl.store(out + at, tl.dot(tl.load(a + at), tl.load(b + at), input_precision=HOW))

def launch(a, b, how):
    out = torch.empty(a.shape)
    kernel[(1,)](a, b, out, how, a.shape[0])
    return out
"""


def test_products_in_tf32_lose_what_a_device_loses(run):
    a, b = torch.randn(2, 32, 32)
    assert torch.allclose(run(DOT, a, b, "ieee"), a @ b, atol=1e-5)
    assert 1e-4 < (run(DOT, a, b, "tf32") - a @ b).abs().max() < 0.1
    narrow = run(DOT, a.bfloat16(), b.bfloat16(), "tf32")
    assert torch.allclose(narrow, a.bfloat16().float() @ b.bfloat16().float(), atol=1e-5)


def test_shared_memory_is_that_of_the_device(run):
    a, b = torch.randn(2, 64, 64).half()
    run(DOT, a, b, "ieee")
    (needs,) = launched.kernels.values()
    assert needs["shared_bytes"] >= 8192
    assert needs["block_threads"] == 128
    found = SPEC.multiprocessor.needs([needs, needs | {"block_threads": 256.0}])
    assert found["block_threads"] == 256
    assert 0 < found["occupancy"] <= 1
    with pytest.raises(Exception, match=r"shared memory, Required: \d+, Hardware limit: 4096"):
        run(DOT, a, b, "ieee", shared=4096)


TUNED = """
@triton.autotune([triton.Config({{"N": n}}, num_warps=8) for n in (64, 32)], key=["rows"])
@triton.jit
def kernel(a, b, out, rows, N: tl.constexpr):
    for first in range(0, rows, N):
        at = (first + tl.arange(0, N)[:, None]) * N + tl.arange(0, N)[None, :]
        tl.store(out + at, tl.dot(tl.load(a + at), tl.load(b + at)) + {count})

def launch(a, b):
    out = torch.zeros(a.shape)
    kernel[lambda meta: (32 // meta["N"],)](a, b, out, 32)
    return out, kernel.best_config.kwargs
"""


def test_of_tuned_configurations_the_first_that_fits_is_run(run):
    a, b = torch.randn(2, 32, 32).half()
    out, chosen = run(TUNED.format(count="tl.num_programs(0)"), a, b, shared=40_000)
    assert chosen == {"N": 32}
    assert torch.allclose(out, a.float() @ b.float() + 1, atol=1e-3)
    assert [kernel["block_threads"] for kernel in launched.kernels.values()] == [256]


OTHERS = """
from helpers import combine, twice

@triton.jit
def kernel(x, out, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    v = tl.load(x + i, mask=i < n, other=1.0)
    tl.store(out + i, twice(tl.associative_scan(v, 0, combine)).cast(tl.float32), mask=i < n)
    tl.store(out, v.sum(0) + tl.atomic_add(out + n, v.max(0)))

def launch(x):
    out = torch.zeros(x.numel() + 1)
    kernel[(1,)](x, out, x.numel(), BLOCK=16)
    return out, triton.runtime.driver.active.utils.get_device_properties(0)["multiprocessor_count"]
"""
HELPERS = """
import triton

@triton.jit
def combine(a, b):
    return a * b

@triton.jit
def twice(x):
    y = 2 * x
    return y
"""


def test_functions_of_other_files_methods_scans_and_atomics(run):
    x = torch.rand(16)
    before = list(sys.path)
    out, count = run(OTHERS, x, more=[SourceFile(path="helpers.py", text=HELPERS)])
    assert sys.path == before
    assert torch.allclose(out[1:16], 2 * x.cumprod(0)[1:])
    assert torch.allclose(out[[0, 16]], torch.stack([x.sum(), x.max()]))
    assert count == SPEC.multiprocessor.count


def test_what_cannot_be_interpreted_says_so(run):
    with pytest.raises(RuntimeError, match=r"model.py:\d+: .*__nv_j0f cannot be interpreted"):
        run(mapped("libdevice.j0(a)"), torch.randn(9), torch.randn(9))


def test_a_file_that_does_not_parse_is_named(tmp_path):
    files = (
        SourceFile(path="model.py", text=HEAD),
        SourceFile(path="helpers.py", text="def :"),
    )
    candidate = Candidate(language="triton", files=files)
    built = Triton().build(candidate, SPEC, tmp_path, run_here)
    assert built.message.startswith("helpers.py:1: ")


AMD = {spec.arch: spec for spec in Amd().discover()}


@pytest.mark.parametrize("arch", AMD)
def test_for_an_amd_gpu_kernels_are_compiled_with_wavefronts_of_64(run, arch):
    a, b = torch.rand(2, 128) + 1
    expression = "a * libdevice.rsqrt(b) + tl.sum(b, 0)"
    found = run(mapped(expression), a, b, spec=AMD[arch])
    assert torch.allclose(found, a * b.rsqrt() + b.sum())
    (needed,) = launched.kernels.values()
    assert (needed["block_threads"], needed["spill_bytes"]) == (256, 0)
    assert 4 < needed["registers"] < 64


def test_products_for_an_amd_gpu_have_its_precision_and_fit_its_lds(run):
    a, b = torch.randn(2, 128, 128)
    usual = DOT.replace(", input_precision=HOW", "")
    assert torch.allclose(run(usual, a, b, "", spec=AMD["gfx950"]), a @ b, atol=1e-4)
    small = [x[:32, :32].contiguous() for x in (a, b)]
    off = run(usual, *small, "", spec=AMD["gfx942"]) - small[0] @ small[1]
    assert 1e-4 < off.abs().max() < 0.1
    with pytest.raises(Exception, match=r"shared memory, Required: \d+, Hardware limit: 2048"):
        run(usual, *small, "", shared=2048, spec=AMD["gfx942"])
