"""C++ kernels that are right by luck: found in confirm, before anything is timed."""

import pytest

from kernelevolve.core.detector import Detector
from kernelevolve.core.evaluation import Stage, Status
from kernelevolve.evaluation import sanitize

pytestmark = [
    pytest.mark.needs_gxx,
    pytest.mark.needs_sandbox,
    pytest.mark.skipif(not sanitize.preloaded(), reason=f"libasan is missing: {sanitize.INSTALL}"),
    pytest.mark.slow,
]
TASK = """
class Model(nn.Module):
    def forward(self, x):
        return x * 2

def get_inputs():
    return [torch.randn(63, 17)]
"""
MODEL = """
from kernelevolve.runtime import cpp
kernel = cpp.load("kernel.cpp", flags=["-O2"])
class ModelNew(nn.Module):
    def forward(self, x):
        x = x.contiguous()
        y = torch.empty_like(x)
        kernel.twice(x, y, x.numel())
        return y
"""
KERNEL = """
#include <cstdint>
#include <cstdlib>
#include <mutex>
#include <thread>
static volatile int sink;
static volatile int largest = 2147483647;
static float table[4];
extern "C" void twice(const float *x, float *y, int64_t n) {{
    {body}
    for (int64_t i = 0; i < n; ++i) y[i] = 2 * x[i];
}}
"""
GUARDED = """static std::mutex lock;
    int64_t done = 0;
    std::thread other([&] { std::lock_guard<std::mutex> held(lock); ++done; });
    { std::lock_guard<std::mutex> held(lock); ++done; }
    other.join();
    sink = done;"""
FAULTS = {
    "data race": (
        GUARDED.replace("std::lock_guard<std::mutex> held(lock);", ""),
        "ThreadSanitizer: data race, ",
    ),
    "read past the end": ("sink = x[n] > 0;", "heap-buffer-overflow, READ of size 4"),
    "write past the end": ("y[n] = 1;", "heap-buffer-overflow, WRITE of size 4"),
    "signed overflow": ("sink = largest + 1;", "signed integer overflow"),
    "shift too far": ("volatile int far = 40; sink = 1 << far;", "shift exponent 40"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_that_changes_no_output_is_rejected_with_its_line(bench, name):
    body, says = FAULTS[name]
    found = bench.verdict(bench.task(TASK), MODEL, Stage.CONFIRM, kernel=KERNEL.format(body=body))
    assert (found.status, found.detector) == (Status.REJECTED, Detector.SANITIZERS), found.message
    assert says in found.message
    assert "at kernel.cpp:" in found.message


@pytest.mark.long
def test_a_right_kernel_passes_and_a_fault_is_timed_where_nobody_looks(bench):
    task, off = bench.task(TASK), frozenset({Detector.SANITIZERS})
    honest = bench.verdict(task, MODEL, Stage.CONFIRM, kernel=KERNEL.format(body=GUARDED))
    assert honest.status is Status.OK, honest.message
    assert "races" not in " ".join(honest.remarks)
    assert honest.stage is Stage.CONFIRM
    assert honest.stages_ms["sanitizers"] > 0
    fault = KERNEL.format(body=FAULTS["read past the end"][0])
    unseen = bench.verdict(task, MODEL, Stage.CONFIRM, without=off, kernel=fault)
    assert unseen.stage is Stage.CONFIRM, unseen.message
    assert unseen.detector is not Detector.SANITIZERS
