import re
from pathlib import Path

import pytest
import torch

from kernelevolve.core.candidate import Candidate, SourceFile
from kernelevolve.evaluation.compiled import diagnose
from kernelevolve.languages.cuda import Cuda, disassembler
from kernelevolve.runtime import simt
from kernelevolve.targets.nvidia import Nvidia
from kernelevolve.testing.contracts.language import TASK, LanguageContract, run_here

pytest.importorskip("cuda.bindings.nvrtc", reason='pip install "kernelevolve[cuda]"')
pytestmark = pytest.mark.needs_gxx
SPEC = next(spec for spec in Nvidia().discover() if spec.arch == "sm_90")
MODEL = """
import torch
from kernelevolve.runtime import cuda
kernel = cuda.load("kernel.cu", "k", flags={flags})
class ModelNew(torch.nn.Module):
    def forward(self, x):
        out = torch.empty_like(x)
        kernel[1, x.numel()](x, out)
        return out
"""


class TestCudaContract(LanguageContract):
    name = "cuda"
    spec = SPEC
    broken = SourceFile(path="kernel.cu", text="this is not CUDA")


def built(tmp_path: Path, kernel: str, flags: str = "[]", spec=SPEC):
    files = (
        SourceFile(path="model.py", text=MODEL.format(flags=flags)),
        SourceFile(path="kernel.cu", text=kernel),
    )
    return Cuda().build(Candidate(language="cuda", files=files), spec, tmp_path, run_here)


TWICE = """
#include <cfloat>
#include <cmath>
#include <cooperative_groups.h>
#include <cstdint>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
extern "C" __global__ void __launch_bounds__(128) k(const float* x, float* out) {
  static __shared__ float s[128];
  const uint32_t first = 0;
  if (x[first] > FLT_MAX) out[first] = INFINITY;
  s[threadIdx.x] = BY * x[threadIdx.x];
  cooperative_groups::this_thread_block().sync();
  out[threadIdx.x] = s[threadIdx.x];
}
"""


def test_resources_are_those_of_the_compiler_and_flags_count(tmp_path):
    found = built(tmp_path, TWICE, '["-DBY=3", "-use_fast_math"]')
    assert found.ok, found.message
    wanted = {"shared_bytes": 512, "spill_bytes": 0, "block_threads": 128, "occupancy": 1}
    assert {k: found.resources[k] for k in wanted} == wanted
    assert 4 < found.resources["registers"] < 32
    if disassembler():
        assert found.resources["instructions_barrier"] == 1
        assert found.resources["instructions_global_load"] == 2
    x = torch.randn(20)
    assert torch.equal(Cuda().load(found, TASK)()(x), 3 * x)


@pytest.mark.parametrize(
    ("kernel", "message"),
    [
        (
            "__shared__ float s[70000]; s[threadIdx.x] = x[0]; __syncthreads(); out[0] = s[1];",
            "shared",
        ),
        ("out[0] = y;", r'kernel\.cu\(\d\): error: identifier "y" is undefined'),
        ('asm volatile("trap;");', "kernel.cu:2: inline assembly cannot be emulated"),
    ],
)
def test_what_cannot_be_built_says_why(tmp_path, kernel, message):
    text = f'extern "C" __global__ void k(const float* x, float* out) {{\n{kernel}\n}}\n'
    found = built(tmp_path, text)
    assert not found.ok
    assert re.search(message, found.message), found.message
    assert "ptxas info" not in found.message


def test_more_registers_than_a_block_can_have_are_refused(tmp_path):
    few = SPEC.model_copy(
        update={"multiprocessor": SPEC.multiprocessor.model_copy(update={"registers": 512})}
    )
    found = built(tmp_path, TWICE, '["-DBY=1"]', few)
    assert "registers for each of 128 threads" in found.message


@pytest.mark.parametrize("flag", ["-I/etc", "--pre-include=/etc/passwd", "-include=x", "-dlto"])
def test_flags_outside_the_list_are_refused(flag):
    with pytest.raises(ValueError, match="is not allowed"):
        Cuda().loads_of(f'k = cuda.load("kernel.cu", "k", flags=["{flag}"])')


def test_a_source_that_is_loaded_twice_is_built_once():
    text = 'a = cuda.load("x.cu", "a")\nb = cuda.load("x.cu", "b")\nc = cuda.load("y.cu", "c")'
    assert [load.source for load in Cuda().loads_of(text)] == ["x.cu", "y.cu"]


def test_what_is_loaded_must_be_there(tmp_path):
    found = built(tmp_path, 'extern "C" __global__ void other(float* x) { x[0] = 1; }')
    assert found.ok
    with pytest.raises(ValueError, match="'k'; it has other"):
        Cuda().load(found, TASK)
    model = SourceFile(path="model.py", text=MODEL.format(flags="[]"))
    missing = Cuda().build(Candidate(language="cuda", files=(model,)), SPEC, tmp_path, run_here)
    assert "loads 'kernel.cu', which is not among the files" in missing.message


def test_kernels_are_found_by_their_linkage():
    text = """
// extern "C" __global__ void commented(int x)
extern "C" __global__ void __launch_bounds__(128, 2) first(int x) {}
__global__ void mangled(int x) {}
extern "C" {
__global__ __launch_bounds__(32) void second(int x) { if (x) { } }
static __device__ int helper(int x) { return x; }
__global__ void third() {}
}
template <int N> __global__ void generic() {}
"""
    assert simt.kernels_of(text) == ["first", "second", "third"]


def test_of_several_kernels_the_least_occupancy_is_told(tmp_path):
    text = """
extern "C" __global__ void __launch_bounds__(1024) k(const float* x, float* out) { *out = *x; }
extern "C" __global__ void __launch_bounds__(32) wide(float* out) {
  __shared__ float s[10000];
  for (int i = threadIdx.x; i < 10000; i += 32) s[i] = i;
  __syncthreads();
  out[threadIdx.x] = s[31 - threadIdx.x];
}
"""
    told = diagnose(built(tmp_path, text), SPEC)
    assert "the least occupancy of its kernels is 8%" in told.sentence
