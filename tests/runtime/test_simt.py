"""CUDA kernels on the processor: what they compute, and what is said of their mistakes."""

import hashlib
import re
import subprocess

import pytest
import torch

from kernelevolve.runtime import simt

pytestmark = pytest.mark.needs_gxx
LIMIT = 232448


@pytest.fixture(scope="module")
def launch(tmp_path_factory):
    folder = tmp_path_factory.mktemp("simt")

    def launched(text, *arguments, grid=1, block=32, shared=0, kernel="k", limit=LIMIT):
        name = hashlib.sha256(text.encode()).hexdigest()[:12]
        built, source = folder / f"{name}.so", folder / name / "kernel.cu"
        if not built.exists():
            kernels = re.findall(r"__global__ void (?:__\w+\(\d+\) )?(\w+)", text)
            source.parent.mkdir()
            source.write_text(simt.translated(text, "kernel.cu", kernels))
            for command in simt.commands(str(source), built, ()):
                done = subprocess.run(
                    command, cwd=folder, capture_output=True, text=True, check=False
                )
                assert done.returncode == 0, done.stderr
        whole = [n if isinstance(n, tuple) else (n, 1, 1) for n in (grid, block)]
        simt.run(built, kernel, *whole, shared, limit, arguments)

    return launched


def kernel(arguments, body, name="k"):
    return f'extern "C" __global__ void {name}({arguments}) {{\n{body}\n}}\n'


SOFTMAX = """
extern "C" __global__ void k(const float* __restrict__ x, float* out, long width) {
  extern __shared__ float parts[];
  __shared__ float total;
  int t = threadIdx.x;
  x += blockIdx.x * width, out += blockIdx.x * width;
  float top = -INFINITY;
  for (long i = t; i < width; i += blockDim.x) top = fmaxf(top, x[i]);
  for (int by = 16; by; by >>= 1) top = fmaxf(top, __shfl_xor_sync(0xffffffff, top, by));
  if (t % 32 == 0) parts[t / 32] = top;
  if (t == 0) total = 0;
  __syncthreads();
  for (int i = 0; i < blockDim.x / 32; i++) top = fmaxf(top, parts[i]);
  float sum = 0;
  for (long i = t; i < width; i += blockDim.x) sum += __expf(x[i] - top);
  atomicAdd(&total, sum);
  __syncthreads();
  for (long i = t; i < width; i += blockDim.x) out[i] = __expf(x[i] - top) / total;
}
"""


def test_a_softmax_with_shuffles_shared_memory_and_atomics_is_right(launch):
    x, out = torch.randn(5, 300), torch.full((5, 300), float("nan"))
    launch(SOFTMAX, x, out, 300, grid=5, block=128, shared=16)
    torch.testing.assert_close(out, torch.softmax(x, -1))


def test_thread_and_block_numbers_in_three_dimensions(launch):
    out = torch.full((2, 3, 4, 2, 2, 2), -1, dtype=torch.int32)
    body = """
      int block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
      int thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
      out[block * 8 + thread] = block * 100 + thread;
    """
    launch(kernel("int* out", body), out, grid=(4, 3, 2), block=(2, 2, 2))
    expected = torch.arange(24)[:, None] * 100 + torch.arange(8)
    assert torch.equal(out.flatten(), expected.flatten().int())


STEPS = [
    ("__shfl_sync(~0u, lane, 3)", lambda i: torch.full_like(i, 3)),
    ("__shfl_sync(~0u, lane, 1, 8)", lambda i: i // 8 * 8 + 1),
    ("__shfl_up_sync(~0u, lane, 2)", lambda i: torch.where(i < 2, i, i - 2)),
    ("__shfl_down_sync(~0u, lane, 5)", lambda i: torch.where(i > 26, i, i + 5)),
    ("__shfl_xor_sync(~0u, lane, 4)", lambda i: i ^ 4),
    ("(int)__ballot_sync(~0u, lane % 2)", lambda i: torch.full_like(i, 0xAAAAAAAA - 2**32)),
    ("__any_sync(~0u, lane == 7)", torch.ones_like),
    ("__all_sync(~0u, lane < 31)", torch.zeros_like),
    ("__reduce_add_sync(~0u, lane)", lambda i: torch.full_like(i, 496)),
    ("__reduce_max_sync(~0u, -lane)", torch.zeros_like),
    ("__popc(lane) + __clz(1) - 31", lambda i: torch.tensor([n.bit_count() for n in i.tolist()])),
    ("__syncthreads_count(lane < 5)", lambda i: torch.full_like(i, 5)),
    ("__syncthreads_or(lane == 5)", torch.ones_like),
    ("__syncthreads_and(lane != 5)", torch.zeros_like),
    ("lane < 16 ? __shfl_sync(0xffff, lane, 2) : -1", lambda i: torch.where(i < 16, 2, -1)),
]


@pytest.mark.parametrize("number", range(len(STEPS)), ids=[step for step, _ in STEPS])
def test_a_warps_and_a_blocks_operations(launch, number):
    text = "".join(
        kernel("int* out", f"int lane = threadIdx.x; out[lane] = {step};", f"k{i}")
        for i, (step, _) in enumerate(STEPS)
    )
    out = torch.full((32,), -99, dtype=torch.int32)
    launch(text, out, kernel=f"k{number}")
    lanes = torch.arange(32, dtype=torch.int32)
    assert torch.equal(out, STEPS[number][1](lanes).int())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_narrow_floats_are_rounded_once_a_step(launch, dtype):
    half = "__half" if dtype is torch.float16 else "__nv_bfloat16"
    header = "cuda_fp16.h" if dtype is torch.float16 else "cuda_bf16.h"
    text = f"#include <{header}>\n" + kernel(
        f"const {half}* x, const {half}* y, {half}* out, float s",
        "int i = threadIdx.x; out[i] = x[i] * y[i] + x[i]; out[32 + i] = float(x[i]) * s;",
    )
    x, y = torch.randn(32).to(dtype), torch.randn(32).to(dtype)
    out = torch.empty(64, dtype=dtype)
    launch(text, x, y, out, 0.3)
    assert torch.equal(out[:32], x * y + x)
    assert torch.equal(out[32:], (x.float() * torch.tensor(0.3)).to(dtype))


def test_shared_arrays_of_narrow_floats_in_templates(launch):
    text = """
#include <cuda_fp16.h>
template <class T, int N> __device__ T turned(T mine) {
  __shared__ T room[N], again[N];
  room[threadIdx.x] = mine;
  __syncthreads();
  again[threadIdx.x] = room[N - 1 - threadIdx.x];
  __syncthreads();
  return again[threadIdx.x];
}
extern "C" __global__ void k(const __half* x, __half* out) {
  out[threadIdx.x] = turned<__half, 32>(x[threadIdx.x]);
}
"""
    x, out = torch.randn(32).half(), torch.empty(32, dtype=torch.float16)
    launch(text, x, out)
    assert torch.equal(out, x.flip(0))


def test_cooperative_groups_of_blocks_and_tiles(launch):
    text = """
#include <cooperative_groups.h>
#include <cooperative_groups/reduce.h>
namespace cg = cooperative_groups;
extern "C" __global__ void k(const float* x, float* out) {
  auto block = cg::this_thread_block();
  auto half = cg::tiled_partition<16>(block);
  float v = x[block.thread_rank()];
  float sum = cg::reduce(half, v, cg::plus<float>());
  float top = cg::reduce(half, v, cg::greater<float>());
  for (int by = half.size() / 2; by > 0; by /= 2) v += half.shfl_down(v, by);
  block.sync();
  if (half.thread_rank() == 0) {
    float* mine = out + 4 * half.meta_group_rank();
    mine[0] = sum, mine[1] = top, mine[2] = v, mine[3] = half.meta_group_size();
  }
  unsigned above = half.ballot(x[block.thread_rank()] > 0);
  if (half.thread_rank() == 0) out[16 + half.meta_group_rank()] = __popc(above);
}
"""
    x, out = torch.arange(64.0) - 20, torch.zeros(20)
    launch(text, x, out, block=64)
    parts = x.view(4, 16)
    wanted = torch.stack([parts.sum(1), parts.amax(1), parts.sum(1), torch.full((4,), 4.0)], 1)
    assert torch.equal(out[:16].view(4, 4), wanted)
    assert torch.equal(out[16:], (parts > 0).sum(1).float())


def test_text_for_devices_only_may_hold_what_no_processor_has(launch):
    text = kernel(
        "float* out",
        '#ifdef SIMT_EMULATED\nout[threadIdx.x] = 3;\n#else\nasm("trap;");\n#endif\n'
        '#ifndef SIMT_EMULATED\n#ifdef X\nasm("trap;");\n#endif\n#endif',
    )
    out = torch.zeros(32)
    launch(text, out)
    assert out.tolist() == [3] * 32


def test_globals_constants_and_helpers_keep_their_values_between_blocks(launch):
    text = """
__device__ int blocks_seen = 0;
__constant__ float weights[2] = {2.0f, 3.0f};
template <typename T> __device__ __forceinline__ T twice(T x) { return x + x; }
__device__ float2 split(float x) { return make_float2(x * weights[0], x * weights[1]); }
extern "C" __global__ void __launch_bounds__(32) k(float* out, int* seen) {
  if (threadIdx.x == 0) atomicAdd(&blocks_seen, 1);
  float2 both = split(1.0f);
  out[threadIdx.x] = twice(both.x) + both.y;
  *seen = blocks_seen;
}
"""
    out, seen = torch.zeros(32), torch.zeros(1, dtype=torch.int32)
    launch(text, out, seen, grid=7)
    assert (out.tolist(), seen.item()) == ([7.0] * 32, 7)


FAULTS = {
    "past the end": (
        "float* out",
        "out[threadIdx.x] = 0;",
        r"^kernel.cu:2: k: writes 4 bytes, 0 bytes past the end of argument 1, which has 64 bytes "
        r"\(thread 16,0,0 of block 0,0,0\)$",
    ),
    "before the start": ("float* out", "out[-2] = 0;", "8 bytes before argument 1"),
    "null": ("float* out, float* none", "none[1] = 0;", "through a null pointer"),
    "far away": ("float* out", "*(float*)0x123450 = 0;", "belongs to no argument"),
    "misaligned members": (
        "float* out",
        "float4 v = ((float4*)(out + 1))[0];\nout[0] = v.x + v.w;",
        r"^kernel.cu:2: k: accesses 16 bytes at an address that is no multiple of 16",
    ),
    "misaligned": (
        "float* out",
        "((float4*)(out + 1))->x = 0; *(double*)(out + 1) = 0;",
        "no multiple of (8|16)",
    ),
    "unwritten": (
        "float* out",
        "__shared__ float s[32];\nout[0] = s[threadIdx.x ^ 1];",
        "^kernel.cu:3: k: reads shared memory that no thread of the block has written yet",
    ),
    "written too late": (
        "float* out",
        "__shared__ float s[32];\ns[threadIdx.x] = 1;\nout[0] = s[31 - threadIdx.x];",
        "^kernel.cu:4: k: reads shared memory that",
    ),
    "overwritten too soon": (
        "float* out",
        "__shared__ float s[64];\ns[threadIdx.x] = 1;\n__syncthreads();\n"
        "if (threadIdx.x < 32) out[0] = s[threadIdx.x + 32];\nelse s[threadIdx.x] = 2;",
        r"^kernel.cu:6: k: writes shared memory that thread \d+ read, with no barrier between",
    ),
    "the next round too soon": (
        "float* out",
        "static __shared__ float s[64];\nfor (int i = 0; i < 2; i++) {\n"
        "s[threadIdx.x] = i;\n__syncthreads();\nout[0] = s[63 - threadIdx.x];\n}",
        "^kernel.cu:(4|6): k: .*no barrier between .*; the other access is at kernel.cu:(4|6)$",
    ),
    "two write": (
        "float* out",
        "__shared__ float s;\ns = threadIdx.x;",
        "^kernel.cu:3: k: writes shared memory that thread 0 wrote, with no barrier between",
    ),
    "ended lane": (
        "float* out",
        "if (threadIdx.x == 9) return;\nout[0] = __shfl_sync(~0u, 1.0f, 0);",
        "^kernel.cu:3: k: a warp's operation waits for lane 9, which has ended",
    ),
    "lane at a barrier": (
        "float* out",
        "if (threadIdx.x == 9) __syncthreads();\nout[0] = __shfl_sync(~0u, 1.0f, 0);",
        "waits for lane 9, which waits at a barrier",
    ),
    "left out": ("float* out", "out[0] = __shfl_sync(1u, 1.0f, 0);", "whose mask 1 leaves it out"),
    "assertion": (
        "float* out",
        "\nassert(threadIdx.x < 3);",
        "^kernel.cu:3: k: assertion failed: ",
    ),
    "beyond dynamic": (
        "float* out",
        "extern __shared__ __align__(16) int s[];\ns[threadIdx.x] = 0;",
        "^kernel.cu:3: k: writes dynamic shared memory at byte 64, beyond the 64",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_told_by_its_line_and_the_next_launch_is_unharmed(launch, name):
    names = {one: f"k{number}" for number, one in enumerate(FAULTS)}
    text = "".join(
        '#line 1 "kernel.cu"\n' + kernel(arguments, body, names[one])
        for one, (arguments, body, _) in FAULTS.items()
    )
    text += kernel("float* out", "out[threadIdx.x] = 1;", "fine")
    arguments, _, message = FAULTS[name]
    given = [torch.zeros(16), *[None] * arguments.count(",")]
    with pytest.raises(simt.Fault, match=message.replace("k:", f"{names[name]}:")):
        launch(text, *given, block=64, shared=64, kernel=names[name])
    launch(text, given[0], block=16, kernel="fine")
    assert given[0].sum() == 16


def test_lanes_of_a_warp_may_meet_at_syncwarp_instead_of_a_barrier(launch):
    text = """
extern "C" __global__ void k(float* out) {
  __shared__ float s[64];
  int t = threadIdx.x;
  s[t] = t;
  __syncwarp();
  float other = s[t ^ 1];
  __syncwarp();
  s[t] = other;
  __syncwarp(0xffffffff);
  out[t] = s[t ^ 1];
}
"""
    out = torch.zeros(64)
    launch(text, out, block=64)
    assert torch.equal(out, torch.arange(64.0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"block": 2048}, "at most 1024 threads"),
        ({"grid": 0}, "at least one block"),
        ({"grid": (1, 70000, 1)}, "65535"),
        ({"shared": 50_000, "limit": 49_152}, "50000 bytes of dynamic shared memory for a block"),
    ],
)
def test_a_launch_that_a_device_refuses(launch, options, message):
    with pytest.raises(simt.Fault, match=message):
        launch(kernel("float* out", "out[0] = 0;"), torch.zeros(1), **options)


def test_another_number_of_arguments_is_told(launch):
    with pytest.raises(simt.Fault, match="takes 1 arguments, not 2"):
        launch(kernel("float* out", "out[0] = 0;"), torch.zeros(1), 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\n#include <mma.h>\n", "kernel.cu:2: a header for devices only"),
        ('void f() {\n asm volatile("bar.sync 0;");\n}', "kernel.cu:2: inline assembly"),
    ],
)
def test_what_no_processor_has_is_refused_with_its_line(text, message):
    with pytest.raises(simt.Unemulated, match=message):
        simt.translated(text, "kernel.cu", [])
