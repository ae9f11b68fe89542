"""What a launch on a GPU gives to a kernel's parameters."""

import ctypes
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch

from kernelevolve.runtime import launcher

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


RUN = ctypes.CFUNCTYPE(
    ctypes.c_int,
    ctypes.c_void_p,
    *(ctypes.c_uint,) * 7,
    ctypes.c_void_p,
    ctypes.POINTER(ctypes.c_void_p),
    ctypes.c_void_p,
)
GRID = (3, 1, 1, 64, 2, 1, 1024)


class Driver:
    """Takes launches as the driver does, and answers with `error`."""

    def __init__(self, kinds, error=0):
        self.launches = []
        self.function = RUN(self._launch)
        self._kinds, self._error = kinds, error

    def _launch(self, kernel, *rest):
        *size, stream, pointers, _ = rest
        given = [kind.from_address(pointers[n]).value for n, kind in enumerate(self._kinds)]
        self.launches.append((kernel, tuple(size), stream, given))
        return self._error


def refused(error):
    raise RuntimeError(f"the driver said {error}")


@pytest.fixture(scope="module")
def native(tmp_path_factory):
    folder = tmp_path_factory.mktemp("launcher")
    command = launcher.command(launcher.built_path(folder))
    if shutil.which(command[0]) is None or subprocess.run(command, check=False).returncode:
        pytest.skip("needs g++ and Python's headers")
    return launcher.of(folder)


@pytest.fixture(params=["native", "foreign"])
def prepared(request):
    """Makes a launch of kernel 5 on device 1, where stream 17 is current."""

    def made(driver, kinds):
        if request.param == "foreign":
            return gpu.Foreign(driver.function, 5, kinds, GRID, lambda: 17, refused)
        module = request.getfixturevalue("native")
        address = ctypes.cast(driver.function, ctypes.c_void_p).value
        return module.Launch(address, 5, gpu.codes(kinds), *GRID, {1: 17}.get, 1, refused)

    return made


@pytest.mark.parametrize(
    ("kind", "argument", "given"),
    [
        (ctypes.c_uint32, np.int64(7), 7),
        (ctypes.c_uint32, 7.0, 7),
        (ctypes.c_uint32, -1, 2**32 - 1),
        (ctypes.c_int64, -(2**40), -(2**40)),
        (ctypes.c_float, 7, 7.0),
        (ctypes.c_float, np.float32(0.5), 0.5),
        (ctypes.c_double, 0.1, 0.1),
        (ctypes.c_uint8, True, 1),
        (ctypes.c_uint64, None, 0),
    ],
)
def test_any_number_arrives_and_none_is_null(prepared, kind, argument, given):
    driver = Driver([ctypes.c_int32, kind])
    prepared(driver, [ctypes.c_int32, kind])(99, argument)
    assert driver.launches == [(5, GRID, 17, [99, given])]


def test_a_tensor_arrives_as_its_address(prepared):
    tensor = torch.zeros(3)
    driver = Driver([ctypes.c_uint64])
    prepared(driver, [ctypes.c_uint64])(tensor)
    assert driver.launches[0][-1] == [tensor.data_ptr()]


def test_what_is_no_number_is_refused_before_a_launch(prepared):
    driver = Driver([ctypes.c_uint64])
    with pytest.raises((TypeError, ValueError)):
        prepared(driver, [ctypes.c_uint64])("text")
    assert not driver.launches


def test_what_the_driver_refuses_is_told(prepared):
    driver = Driver([ctypes.c_int32], error=701)
    with pytest.raises(RuntimeError, match="the driver said 701"):
        prepared(driver, [ctypes.c_int32])(1)
