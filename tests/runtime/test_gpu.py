"""What a launch on a GPU gives to a kernel's parameters."""

import ctypes
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("cuda.bindings", reason='needs pip install "kernelevolve[cuda]"')
gpu = pytest.importorskip("kernelevolve.runtime.gpu")

SOURCE = """#include <cuda_fp16.h>
struct Pair { int a, b; };
extern "C" __global__ void plain(float *x, const half *y, int n, long long m, float s, double d,
                                 bool f) { if (f) x[n] = s * d + m; }
extern "C" __global__ void bare() {}
extern "C" __global__ void nested(Pair p, float *x) { x[0] = p.a; }
"""


@pytest.fixture(scope="module")
def ptx(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kernel")
    (folder / "k.cu").write_text(SOURCE)
    command = [sys.executable, "-m", "kernelevolve.runtime.nvrtc", "k.cu", "sm_90", "k"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return (folder / "k.ptx").read_text()


def test_numbers_arrive_as_what_the_kernel_declares(ptx):
    found = gpu.types(ptx, "plain")
    sizes = [ctypes.sizeof(kind) for kind in found]
    assert sizes == [8, 8, 4, 8, 4, 8, 1]
    assert found[4] is ctypes.c_float
    assert found[5] is ctypes.c_double


def test_a_kernel_may_take_nothing(ptx):
    assert gpu.types(ptx, "bare") == []


def test_what_is_neither_pointer_nor_number_is_refused(ptx):
    with pytest.raises(ValueError, match="nested: parameter 0 is neither"):
        gpu.types(ptx, "nested")


@pytest.mark.parametrize(
    ("kind", "argument", "given"),
    [
        (ctypes.c_uint32, np.int64(7), 7),
        (ctypes.c_uint32, 7.0, 7),
        (ctypes.c_float, 7, 7.0),
        (ctypes.c_uint8, True, 1),
        (ctypes.c_uint64, None, 0),
    ],
)
def test_any_number_arrives_and_none_is_null(kind, argument, given):
    value = kind(99)
    gpu.put(value, argument)
    assert value.value == given
