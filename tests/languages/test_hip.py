import re
from pathlib import Path

import pytest
import torch

from kernelevolve.core.candidate import Candidate, SourceFile
from kernelevolve.languages.hip import Hip
from kernelevolve.runtime import hip, hipcc, nvrtc, simt
from kernelevolve.targets.amd import Amd
from kernelevolve.testing.contracts.language import TASK, LanguageContract, run_here

pytestmark = pytest.mark.needs_gxx
SPECS = {spec.arch: spec for spec in Amd().discover()}
MODEL = """
import torch
from kernelevolve.runtime import hip
kernel = hip.load("kernel.hip", "k")
class ModelNew(torch.nn.Module):
    def forward(self, x, dynamic=0):
        out = torch.zeros_like(x)
        kernel[1, x.numel(), dynamic](x, out)
        return out
"""
HEAD = """#include <hip/hip_runtime.h>
extern "C" __global__ void __launch_bounds__(256) k(const float *x, float *out) {
  const int t = threadIdx.x;
"""
needs_compiler = pytest.mark.skipif(not hipcc.compiler(), reason=hipcc.INSTALL)


class TestHipContract(LanguageContract):
    name = "hip"
    spec = SPECS["gfx942"]
    broken = SourceFile(path="kernel.hip", text="this is not HIP")


def built(folder: Path, body: str, arch: str = "gfx942"):
    files = (
        SourceFile(path="model.py", text=MODEL),
        SourceFile(path="kernel.hip", text=f"{HEAD}{body}\n}}\n"),
    )
    return Hip().build(Candidate(language="hip", files=files), SPECS[arch], folder, run_here)


@pytest.fixture
def emulated(monkeypatch):
    monkeypatch.setattr(hipcc, "compiler", list)


def test_a_wavefront_has_64_lanes_that_meet_where_they_are(tmp_path, emulated):
    body = """
  float sum = x[t];
  for (int by = warpSize / 2; by; by >>= 1) sum += __shfl_xor(sum, by);
  float half = x[t];
  for (int by = 16; by; by >>= 1) half += __shfl_xor(half, by, 32);
  const unsigned long long odd = __ballot(t % 2);
  int here = -1, rounds = 0;
  if (t % 64 > 60) here = __popcll(__activemask());
  for (int i = 0; i < t % 64; i++) rounds += __any(i == 62);
  out[t] = sum + 1000 * half + 1e6f * (odd == 0xaaaaaaaaaaaaaaaaull) + 1e7f * here + rounds;
"""
    found = built(tmp_path, body)
    assert found.ok, found.message
    x = torch.ones(128)
    wanted = torch.full((128,), 64 + 32_000 + 1e6)
    lanes = torch.arange(128) % 64
    wanted += torch.where(lanes > 60, 3e7, -1e7) + (lanes == 63)
    assert torch.equal(Hip().load(found, TASK)()(x), wanted)


def test_where_no_compiler_is_the_build_says_what_to_install(tmp_path, emulated):
    found = built(tmp_path, "out[t] = x[t];")
    assert found.ok
    assert "emulated only, not compiled" in found.remarks[0]
    assert "apt-get install clang-22" in found.remarks[0]


@pytest.mark.parametrize(
    ("body", "dynamic", "message"),
    [
        ("extern __shared__ float s[]; s[t] = 0;", 65_540, "65540 bytes of dynamic shared memory"),
        (
            "__shared__ float s[16400]; for (int i = t; i < 16400; i += 64) s[i] = 0;",
            0,
            "65600 bytes of shared memory for a block, of which the device has 65536",
        ),
    ],
)
def test_more_lds_than_there_is_ends_the_launch(tmp_path, emulated, body, dynamic, message):
    found = built(tmp_path, body)
    assert found.ok, found.message
    with pytest.raises(simt.Fault, match=message):
        Hip().load(found, TASK)()(torch.ones(64), dynamic)


def test_all_of_the_lds_may_be_used(tmp_path, emulated):
    body = "__shared__ float s[16384]; for (int i = t; i < 16384; i += 64) s[i] = x[t];\n"
    found = built(tmp_path, body + "__syncthreads(); out[t] = s[t];")
    assert torch.equal(Hip().load(found, TASK)()(torch.ones(64)), torch.ones(64))


def test_masks_of_32_bits_are_refused_by_every_compiler(tmp_path, emulated):
    found = built(tmp_path, "out[t] = __shfl_xor_sync(0xffffffff, x[t], 1);")
    assert "The mask must be a 64-bit integer" in found.message


def test_on_an_nvidia_gpu_the_same_text_is_compiled_for_warps_of_32(tmp_path):
    pytest.importorskip("cuda.bindings.nvrtc", reason='pip install "kernelevolve[cuda]"')
    body = "out[t] = __shfl_xor(x[t], 32) + __popcll(__ballot(t));"
    source = tmp_path / "kernel.hip"
    source.write_text(f"{HEAD}{body}\n}}\n")
    flags = [*hip.DIALECT.flags]
    fine, said = nvrtc.compile_file(str(source), "sm_90", tmp_path / "k", flags)
    assert fine, said
    assert "reaches beyond a warp of 32" in _strings((tmp_path / "k.ptx").read_text())


def _strings(ptx: str) -> str:
    """What PTX holds as lists of bytes."""
    lists = re.findall(r"\{((?:\d+, ){8,}\d+)\}", ptx)
    return "".join(chr(int(n)) for found in lists for n in found.split(", "))


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("arch", SPECS)
def test_what_a_kernel_needs_is_what_the_compiler_says(tmp_path, arch):
    body = """
  __shared__ float s[256];
  s[t] = __shfl_xor(expf(x[t]), 32);
  __syncthreads();
  out[t] = s[255 - t];
"""
    found = built(tmp_path, body, arch)
    assert found.ok, found.message
    wanted = {"shared_bytes": 1024, "spill_bytes": 0, "block_threads": 256, "occupancy": 1}
    assert {k: found.resources[k] for k in wanted} == wanted
    assert found.resources["instructions_barrier"] == 1
    assert found.resources["instructions_special"] >= 1
    assert list(tmp_path.glob(f".build/*-{arch}.hsaco"))
    assert "; Occupancy: 8" in next(tmp_path.glob(f".build/*-{arch}.s")).read_text()


@needs_compiler
def test_more_lds_than_there_is_is_no_build(tmp_path):
    found = built(tmp_path, "__shared__ float s[20000]; s[t * 70] = x[t]; out[t] = s[t + 1];")
    assert not found.ok
    assert re.search(r"80000.*65536", found.message), found.message
