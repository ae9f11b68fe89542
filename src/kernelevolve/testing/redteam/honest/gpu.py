"""Honest kernels for GPUs: usual ones, and some that a nervous harness would reject."""

from kernelevolve.testing.redteam.exploits._gpu_parts import (
    CALL_ROWS,
    CALL_TWICE,
    NVIDIA,
    ROWS,
    TWICE,
)
from kernelevolve.testing.redteam.record import Honest

TYPED = """
#include <cuda_{header}.h>
extern "C" __global__ void __launch_bounds__(256)
twice(const {kind} *x, {kind} *out, long long n) {{
  long long i = blockIdx.x * 256ll + threadIdx.x;
  if (i >= n) return;
  float v = {widen}(x[i]);
  out[i] = {narrow}((v < 0 ? 0 : v) * 2);
}}
"""
CALL_TYPED = CALL_TWICE.replace("1024, 256", "-(-x.numel() // 256), 256")


def plain(name: str, task: str, does: str, body: str, arguments: str = "x") -> Honest:
    """A module without kernels of its own."""
    lines = "\n".join(f"        {line}" for line in body.strip("\n").splitlines())
    model = f"class ModelNew(nn.Module):\n    def forward(self, {arguments}):\n{lines}"
    return Honest(name=name, task=task, does=does, vendors=NVIDIA, model=model)


TABLE = (
    plain("gpu-library", "gpu_rows", "Calls PyTorch.", "return torch.softmax(x, -1)"),
    plain("gpu-product", "gpu_product", "Multiplies by cuBLAS.", "return torch.mm(x, w)", "x, w"),
    plain(
        "gpu-synchronises",
        "gpu_twice",
        "Waits for the device in the middle of every call.",
        "y = torch.relu(x)\ntorch.cuda.synchronize()\nreturn y * 2",
    ),
    plain(
        "gpu-branches-on-values",
        "gpu_twice",
        "Reads a number back, and takes another way where nothing is positive.",
        "return torch.relu(x) * 2 if bool((x > 0).any()) else x.clamp_min(0) * 2",
    ),
    Honest(
        name="gpu-running-mean",
        task="gpu_running",
        does="Updates a buffer in every call, so that windows have one call.",
        vendors=NVIDIA,
        model="""
            class ModelNew(nn.Module):
                def __init__(self):
                    super().__init__()
                    self.register_buffer("mean", torch.zeros(1024))

                def forward(self, x):
                    self.mean.lerp_(x.mean(0), 0.1)
                    return torch.softmax(x - self.mean, -1)
        """,
    ),
    Honest(
        name="gpu-elementwise",
        task="gpu_twice",
        does="One thread for each element, in blocks that stride over all.",
        cuda=TWICE,
        model=CALL_TWICE,
    ),
    Honest(
        name="gpu-softmax",
        task="gpu_rows",
        does="One row for each block, with shuffles and shared memory.",
        cuda=ROWS,
        model=CALL_ROWS,
    ),
    Honest(
        name="gpu-much-shared-memory",
        task="gpu_rows",
        does="Keeps sixteen rows in 64 KB of shared memory, which a kernel must ask for.",
        cuda="""
            #define INFINITE __int_as_float(0x7f800000)
            extern "C" __global__ void __launch_bounds__(256)
            kept(const float *x, float *out, int rows, int width) {
              extern __shared__ float part[];
              long long first = blockIdx.x * 16ll;
              int here = rows - first < 16 ? rows - first : 16;
              x += first * width;
              out += first * width;
              for (int i = threadIdx.x; i < here * width; i += blockDim.x) part[i] = x[i];
              __syncthreads();
              int lane = threadIdx.x % 32;
              for (int r = threadIdx.x / 32; r < here; r += blockDim.x / 32) {
                float *row = part + r * width, top = -INFINITE, total = 0;
                for (int i = lane; i < width; i += 32)
                  top = row[i] > top || isnan(row[i]) ? row[i] : top;
                for (int by = 16; by; by >>= 1) {
                  float other = __shfl_xor_sync(0xffffffff, top, by);
                  top = other > top || isnan(other) ? other : top;
                }
                for (int i = lane; i < width; i += 32) total += row[i] = expf(row[i] - top);
                for (int by = 16; by; by >>= 1) total += __shfl_xor_sync(0xffffffff, total, by);
                for (int i = lane; i < width; i += 32) out[r * width + i] = row[i] / total;
              }
            }
        """,
        model="""
            class ModelNew(nn.Module):
                def forward(self, x):
                    x = x.contiguous()
                    out = torch.empty_like(x)
                    rows, width = x.shape
                    kept[-(-rows // 16), 256, 16 * width * 4](x, out, rows, width)
                    return out
        """,
    ),
    Honest(
        name="gpu-two-kernels-and-scratch",
        task="gpu_sums",
        does="Sums parts of rows into memory that it keeps, and then the parts.",
        cuda="""
            __device__ float all_of(float mine) {
              __shared__ float parts[8];
              for (int by = 16; by; by >>= 1) mine += __shfl_xor_sync(0xffffffff, mine, by);
              if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = mine;
              __syncthreads();
              float total = 0;
              for (int warp = 0; warp < 8; warp++) total += parts[warp];
              return total;
            }
            extern "C" __global__ void __launch_bounds__(256)
            parts_of(const float *x, float *scratch, int width, int parts) {
              const float *row = x + blockIdx.x / parts * (long long)width;
              float mine = 0;
              for (int i = blockIdx.x % parts * 256 + threadIdx.x; i < width; i += 256 * parts)
                mine += row[i];
              mine = all_of(mine);
              if (threadIdx.x == 0) scratch[blockIdx.x] = mine;
            }
            extern "C" __global__ void sum_of(const float *scratch, float *out, int parts) {
              float total = 0;
              for (int i = 0; i < parts; i++) total += scratch[blockIdx.x * parts + i];
              out[blockIdx.x] = total;
            }
        """,
        model="""
            class ModelNew(nn.Module):
                def __init__(self):
                    super().__init__()
                    self.scratch = None

                def forward(self, x):
                    x, rows, parts = x.contiguous(), x.shape[0], 16
                    if self.scratch is None or self.scratch.numel() != rows * parts:
                        self.scratch = x.new_empty(rows * parts)
                    out = x.new_empty(rows)
                    parts_of[rows * parts, 256](x, self.scratch, x.shape[1], parts)
                    sum_of[rows, 1](self.scratch, out, parts)
                    return out
        """,
    ),
    Honest(
        name="gpu-atomics",
        task="gpu_counts",
        does="Counts in shared memory and adds the counts of all blocks by atomics.",
        cuda="""
            extern "C" __global__ void __launch_bounds__(256)
            count(const long long *x, unsigned long long *out, long long n) {
              __shared__ unsigned found[64];
              if (threadIdx.x < 64) found[threadIdx.x] = 0;
              __syncthreads();
              long long step = 256ll * gridDim.x;
              for (long long i = blockIdx.x * 256ll + threadIdx.x; i < n; i += step)
                atomicAdd(&found[x[i]], 1u);
              __syncthreads();
              unsigned long long mine = threadIdx.x < 64 ? found[threadIdx.x] : 0;
              if (threadIdx.x < 64) atomicAdd(&out[threadIdx.x], mine);
            }
        """,
        model="""
            class ModelNew(nn.Module):
                def forward(self, x):
                    x = x.contiguous()
                    out = x.new_zeros(64)
                    count[264, 256](x, out, x.numel())
                    return out
        """,
    ),
    Honest(
        name="gpu-persistent-blocks",
        task="gpu_twice",
        does="As many blocks as the device holds at once take pieces from a counter.",
        cuda="""
            __device__ float twice_of(float v) { return (v < 0 ? 0 : v) * 2; }
            extern "C" __global__ void __launch_bounds__(256)
            pieces(const float *x, float *out, int *next, long long n) {
              __shared__ long long piece;
              while (true) {
                if (threadIdx.x == 0) piece = atomicAdd(next, 1);
                __syncthreads();
                long long begin = piece * 4096;
                if (begin >= n) return;
                long long end = begin + 4096 < n ? begin + 4096 : n;
                for (long long i = begin + threadIdx.x; i < end; i += 256) out[i] = twice_of(x[i]);
                __syncthreads();
              }
            }
        """,
        model="""
            class ModelNew(nn.Module):
                def forward(self, x):
                    x = x.contiguous()
                    out = torch.empty_like(x)
                    next_piece = torch.zeros(1, dtype=torch.int32, device=x.device)
                    pieces[264, 256](x, out, next_piece, x.numel())
                    return out
        """,
    ),
    Honest(
        name="gpu-half",
        task="gpu_half",
        does="Reads and writes float16, computes in float32.",
        cuda=TYPED.format(
            header="fp16", kind="__half", widen="__half2float", narrow="__float2half"
        ),
        model=CALL_TYPED,
    ),
    Honest(
        name="gpu-brain-float",
        task="gpu_brain",
        does="Reads and writes bfloat16, computes in float32.",
        cuda=TYPED.format(
            header="bf16",
            kind="__nv_bfloat16",
            widen="__bfloat162float",
            narrow="__float2bfloat16",
        ),
        model=CALL_TYPED,
    ),
    Honest(
        name="gpu-joined-streams",
        task="gpu_twice",
        does="Works two halves on streams of their own, and joins both by events.",
        cuda=TWICE,
        model="""
            sides = [torch.cuda.Stream() for _ in range(2)]

            class ModelNew(nn.Module):
                def forward(self, x):
                    x = x.contiguous()
                    out, here = torch.empty_like(x), torch.cuda.current_stream()
                    begun = here.record_event()
                    for side, given, made in zip(sides, x.chunk(2), out.chunk(2)):
                        side.wait_event(begun)
                        with torch.cuda.stream(side):
                            twice[512, 256](given, made, given.numel())
                        here.wait_event(side.record_event())
                    return out
        """,
    ),
    Honest(
        name="gpu-waiting-streams",
        task="gpu_rows",
        does="Works on another stream that waits, and is waited for; says so to the allocator.",
        vendors=NVIDIA,
        model="""
            side = torch.cuda.Stream()

            class ModelNew(nn.Module):
                def forward(self, x):
                    here = torch.cuda.current_stream()
                    side.wait_stream(here)
                    with torch.cuda.stream(side):
                        out = torch.softmax(x, -1)
                    here.wait_stream(side)
                    out.record_stream(here)
                    return out
        """,
    ),
    Honest(
        name="gpu-graph-with-copies",
        task="gpu_rows",
        does="Captures a graph once; copies every input into it and every output out of it.",
        vendors=NVIDIA,
        model="""
            class ModelNew(nn.Module):
                def __init__(self):
                    super().__init__()
                    self.graph = None

                def capture(self, x):
                    self.given = x.clone(memory_format=torch.contiguous_format)
                    side = torch.cuda.Stream()
                    side.wait_stream(torch.cuda.current_stream())
                    with torch.cuda.stream(side):
                        torch.softmax(self.given, -1)
                    torch.cuda.current_stream().wait_stream(side)
                    self.graph = torch.cuda.CUDAGraph()
                    with torch.cuda.graph(self.graph):
                        self.made = torch.softmax(self.given, -1)

                def forward(self, x):
                    if self.graph is None:
                        self.capture(x)
                    self.given.copy_(x)
                    self.graph.replay()
                    return self.made.clone()
        """,
    ),
    Honest(
        name="gpu-packed-weights",
        task="gpu_layer",
        does="Transposes its weight in prepare(), and multiplies by it.",
        vendors=NVIDIA,
        model="""
            class ModelNew(nn.Module):
                def __init__(self):
                    super().__init__()
                    self.linear = nn.Linear(512, 768)

                def prepare(self):
                    self.packed = self.linear.weight.detach().t().contiguous()

                def forward(self, x):
                    return torch.addmm(self.linear.bias, x, self.packed)
        """,
    ),
    Honest(
        name="gpu-triton",
        task="gpu_twice",
        does="Is written in Triton.",
        vendors=NVIDIA,
        model="""
            import triton
            import triton.language as tl

            @triton.jit
            def twice(x, out, n, BLOCK: tl.constexpr):
                at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
                value = tl.load(x + at, at < n)
                tl.store(out + at, tl.where(value < 0, 0.0, value) * 2, at < n)

            class ModelNew(nn.Module):
                def forward(self, x):
                    x = x.contiguous()
                    out = torch.empty_like(x)
                    twice[(triton.cdiv(x.numel(), 1024),)](x, out, x.numel(), BLOCK=1024)
                    return out
        """,
    ),
)
