"""Comparisons on a device, by the judge's kernels on an emulated one, beside the host's own."""

import subprocess
from ctypes import memmove
from functools import cached_property

import numpy as np
import pytest
import torch

from kernelevolve.core.task import Tolerance
from kernelevolve.evaluation.device_kernels import SOURCE, THREADS, Kernels, names
from kernelevolve.evaluation.device_outputs import Glance
from kernelevolve.evaluation.expected import Reference, Yardstick
from kernelevolve.evaluation.layout import Layout, packed, widened
from kernelevolve.evaluation.rounding import EPSILON
from kernelevolve.evaluation.verify import Verifier, Wrong
from kernelevolve.runtime import simt

pytestmark = pytest.mark.needs_gxx
SHARED = 232448
WIDTH = 9000
"""More than one part of a row."""


class Emulated(Kernels):
    """Host memory in the place of a device's."""

    def __init__(self, built):
        super().__init__(None)
        self.built, self.lies = built, {}

    def put(self, array):
        tensor = torch.from_numpy(array)
        self.lies[tensor.data_ptr()] = tensor
        return tensor.data_ptr()

    def _room(self, number, nbytes):
        return self.put(np.zeros(nbytes, np.uint8))

    def _given(self, number, array):
        return self.put(np.array(array))

    def _taken(self, there, array):
        memmove(array.ctypes.data, there, array.nbytes)
        return array

    def _launch(self, name, grid, before, sizes, behind=()):
        arguments = (*map(self.lies.get, before), *sizes, *map(self.lies.get, behind))
        simt.run(self.built, name, (*grid, 1), (THREADS, 1, 1), 0, SHARED, arguments)


@pytest.fixture(scope="module")
def kernels(tmp_path_factory):
    folder = tmp_path_factory.mktemp("judge")
    built, source = folder / "judge.so", folder / "judge.cu"
    source.write_text(simt.translated(SOURCE, "judge.cu", names()))
    for command in simt.commands(str(source), built, ()):
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    return Emulated(built)


class Case:
    """One output of one type beside what the reference gave."""

    def __init__(self, kernels, dtype, want):
        self.kernels, self.dtype = kernels, dtype
        self.want = want.to(getattr(torch, dtype))
        leaves = packed([(dtype, tuple(want.shape), tuple(want.stride()))])
        self.layout = Layout({"tensor": 0}, leaves)
        self.verifier = Verifier(Tolerance(), self.layout, [self.yardstick])

    @cached_property
    def yardstick(self):
        """Of a reference that is off by half a unit in the last place."""
        size = float(self.want.double().square().mean().sqrt()) * EPSILON.get(self.dtype, 0) / 4
        return Yardstick("float64", rms=size, maximum=4 * size, relative=0.5, usual=True)

    def bytes(self, tensor):
        block = np.zeros(self.layout.nbytes, np.uint8)
        taken = tensor.to(self.want.dtype).contiguous().view(torch.uint8).numpy().ravel()
        block[: taken.size] = taken
        return block

    def there(self, got):
        glance = Glance(self.kernels, self.verifier, [self.yardstick])
        return glance.accepts(*(self.kernels.put(self.bytes(t)) for t in (got, self.want)))

    def here(self, got):
        native = widened(self.layout.leaves[0], self.bytes(self.want)).copy()
        reference = Reference(self.layout.leaves[0], native, native)
        try:
            self.verifier.check([reference], self.bytes(got))
        except Wrong:
            return False
        return True


CHANGES = {
    "nothing": lambda want: want,
    "half a unit here and there": lambda want: want * (1 + 2.0**-24 * (torch.arange(WIDTH) % 2)),
    "one element": lambda want: want.index_put(
        (torch.tensor(1), torch.tensor(8999)), want[0, 0] + 1
    ),
    "no number": lambda want: want.index_put(
        (torch.tensor(2), torch.tensor(0)), torch.tensor(torch.nan)
    ),
    "without end": lambda want: want.index_put(
        (torch.tensor(0), torch.tensor(1)), torch.tensor(torch.inf)
    ),
    "a little everywhere": lambda want: want * 1.01,
    "zeros": torch.zeros_like,
    "another row": lambda want: want.roll(1, 0),
}


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("change", CHANGES)
def test_what_the_device_accepts_is_what_the_host_accepts(kernels, dtype, change):
    want = torch.randn(3, WIDTH, generator=torch.Generator().manual_seed(0))
    case = Case(kernels, dtype, want)
    got = CHANGES[change](case.want.float())
    assert case.there(got) == case.here(got)
    assert case.there(case.want)


def test_outputs_without_number_are_left_to_the_host(kernels):
    case = Case(kernels, "float32", torch.full((2, 40), torch.nan))
    assert not case.there(case.want)


def test_small_values_must_be_computed_too(kernels):
    want = torch.full((2, WIDTH), 1e-9)
    want[:, 0] = 1.0
    case = Case(kernels, "float32", want)
    got = want.clone()
    got[:, 1:] = 0
    assert not case.here(got)
    assert not case.there(got)
    got = want.clone()
    got[:, 1] = 0
    assert case.here(got)


def test_integers_must_be_equal(kernels):
    case = Case(kernels, "int32", torch.arange(2 * WIDTH).reshape(2, WIDTH))
    assert case.there(case.want)
    assert not case.there(case.want.roll(1, 1))
