"""Real messages of compilers, profilers and verdicts lead to the note that helps."""

import pytest

from kernelevolve.knowledge.library import Library

LIBRARY = Library()
NVIDIA, CPU, AMD = "nvidia:sm_90:0", "cpu:x86_64", "amd:gfx942"

MESSAGES = [
    (
        "triton.runtime.errors.OutOfResources: out of resource: shared memory, Required: 278528, "
        "Hardware limit: 232448. Reducing block sizes or `num_stages` may help.",
        NVIDIA,
        "triton",
        "languages/triton/stages-and-shared-memory",
    ),
    (
        "ptxas info    : Function properties for k\n    328 bytes stack frame, 540 bytes spill "
        "stores, 612 bytes spill loads\nptxas info    : Used 255 registers",
        NVIDIA,
        "cuda",
        "hardware/nvidia/register-spilling",
    ),
    (
        "reads and writes 268 MB in 412.3 µs: 650 GB/s, 21% of this machine's 3.03e+03 GB/s at "
        "that size: bound by memory; 168 registers a thread and 98304 bytes of shared memory a "
        "block fill 12% of a multiprocessor",
        NVIDIA,
        "cuda",
        "hardware/nvidia/occupancy",
    ),
    (
        "OPT   Est. Speedup: 62.3%  This kernel has uncoalesced global accesses resulting in a "
        "total of 3670016 excessive sectors (78% of the total 4718592 sectors)",
        NVIDIA,
        "cuda",
        "hardware/nvidia/coalescing",
    ),
    (
        "The memory access pattern for shared loads might not be optimal and causes on average a "
        "8.0 - way bank conflict across all 65536 shared load requests",
        NVIDIA,
        "cuda",
        "hardware/nvidia/shared-memory-banks",
    ),
    (
        "On average, each warp of this workload spends 19.4 cycles being stalled waiting for a "
        "scoreboard dependency on a L1TEX (local, global, surface, texture) operation",
        NVIDIA,
        "triton",
        "hardware/nvidia/waiting-for-memory",
    ),
    (
        "out: 37 of 8192 elements are outside the error budget; first at [3, 17]: expected 1.52, "
        "got 1.5207 (allowed error 2.1e-06); the worst is 412 times its budget",
        NVIDIA,
        "",
        "constraints/error-budget",
    ),
    (
        "rows of very different scales: out: RMS error 3e-4 is 90 times its budget; keep the whole "
        "computation in the declared precision, whatever the magnitudes",
        NVIDIA,
        "triton",
        "constraints/declared-precision",
    ),
    (
        "kernel.cpp:12:21: missed: couldn't vectorize loop\nkernel.cpp:13:14: missed: statement "
        "clobbers memory: _5 = expf (_4);",
        CPU,
        "cpp",
        "languages/cpp/why-not-vectorised",
    ),
    (
        "ERROR: AddressSanitizer: heap-buffer-overflow on address 0x6210 READ of size 64 at thread "
        "T0 #0 in softmax kernel.cpp:9",
        CPU,
        "cpp",
        "languages/cpp/crashes-and-sanitizers",
    ),
    (
        "model.py:11: NameError: Cannot access global variable EPS from within @jit'ed function. "
        "Triton kernels can only access global variables that are instanstiated as constexpr",
        NVIDIA,
        "triton",
        "languages/triton/global-constants",
    ),
    (
        "AssertionError: Input shapes should have M >= 16, N >= 16 and K >= 16",
        NVIDIA,
        "triton",
        "languages/triton/dot-shapes",
    ),
    (
        "AssertionError: Loop-carried variable acc has initial type fp32 but is re-assigned to "
        "<[256], fp32> in loop! Please make sure that the type stays consistent.",
        NVIDIA,
        "triton",
        "languages/triton/loop-carried-types",
    ),
    (
        "kernel.cu:7: reads shared memory that thread 5 wrote, with no barrier between "
        "(thread 0,0,0 of block 0,0,0)",
        NVIDIA,
        "cuda",
        "languages/cuda/missing-barriers",
    ),
    (
        "torch.AcceleratorError: CUDA error: an illegal memory access was encountered",
        NVIDIA,
        "cuda",
        "languages/cuda/illegal-addresses",
    ),
    (
        "ptxas fatal: Instruction 'wgmma.fence' not supported on .target 'sm_90'; feature requires "
        ".target sm_90a",
        NVIDIA,
        "cuda",
        "hardware/nvidia/architecture-suffix",
    ),
    (
        "error: static assertion failed: The mask must be a 64-bit integer. Implicitly promoting a "
        "smaller integer is almost always an error.",
        AMD,
        "hip",
        "languages/hip/masks-are-64-bit",
    ),
    (
        ".vgpr_count: 170 .vgpr_spill_count: 0 ; Occupancy: 2",
        AMD,
        "triton",
        "hardware/amd/vgpr-occupancy",
    ),
    (
        "4.21 µs a call, of which 3.9 µs are the call itself",
        CPU,
        "cpp",
        "hardware/cpu/threads-below-forty-microseconds",
    ),
    (
        "out shares memory with an input or parameter; return its own",
        CPU,
        "cpp",
        "constraints/plain-outputs-of-their-own",
    ),
]


@pytest.mark.parametrize(("message", "target", "language", "ref"), MESSAGES)
def test_a_message_leads_to_its_note(message: str, target: str, language: str, ref: str) -> None:
    found = LIBRARY.recall(message, limit=3, target=target, language=language)
    assert ref in [note.ref for note in found]
