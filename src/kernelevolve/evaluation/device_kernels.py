"""The judge's own kernels on a GPU: elements crossed, blocks compared, outputs looked at.

In the judge.
"""

from collections.abc import Sequence
from ctypes import c_uint64, c_void_p
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from kernelevolve.evaluation.layout import Array

if TYPE_CHECKING:
    from kernelevolve.evaluation.device import Device

THREADS = 256
PART = 1 << 13
"""Elements of a row that one block looks at."""
MOST_BLOCKS = 1 << 12
ELEMENTS = {1: "unsigned char", 2: "unsigned short", 4: "unsigned", 8: "uint2", 16: "uint4"}
CROSSING = """
#define CROSS(name, type) extern "C" __global__ void name( \\
    const size* places, const size* slots, const size* others, const size* shifts, \\
    size wanted, size count) { \\
  size i = blockIdx.x * (size)blockDim.x + threadIdx.x; \\
  if (i >= wanted) return; \\
  size at = places[i] + shifts[blockIdx.y]; \\
  if (at >= count) at -= count; \\
  ((type*)slots[blockIdx.y])[at] = ((const type*)others[blockIdx.y])[at]; \\
}
""" + "".join(f"CROSS(cross{size}, {kind})\n" for size, kind in ELEMENTS.items())
DIFFERING = """
extern "C" __global__ void differ(
    const unsigned char* a, const unsigned char* b, size nbytes, size* found) {
  size step = gridDim.x * (size)blockDim.x, first = blockIdx.x * (size)blockDim.x + threadIdx.x;
  int bad = 0;
  for (size i = first; i < nbytes / 8; i += step) bad |= ((const size*)a)[i] != ((const size*)b)[i];
  for (size i = nbytes / 8 * 8 + first; i < nbytes; i += step) bad |= a[i] != b[i];
  if (bad) *found = 1;
}
"""
FLOATS = {"float32": "float", "float16": "unsigned short", "bfloat16": "short"}
"""Each type of elements has a C type of its own."""
LOOKING = f"""
__device__ double value(float x) {{ return x; }}
__device__ double value(short x) {{ return __uint_as_float((unsigned)(unsigned short)x << 16); }}
__device__ double value(unsigned short x) {{
  unsigned sign = (x & 0x8000u) << 16, exponent = x >> 10 & 31, rest = x & 1023;
  if (exponent == 31) return __uint_as_float(sign | 0x7f800000u | rest << 13);
  if (exponent) return __uint_as_float(sign | (exponent + 112) << 23 | rest << 13);
  return (sign ? -1.0 : 1.0) * 5.9604644775390625e-8 * rest;
}}
__device__ double least(double a, double b) {{ return a < b ? a : b; }}
__device__ double most(double a, double b) {{ return a < b ? b : a; }}

#define LOOK(name, type) extern "C" __global__ void name( \\
    const type* got, const type* want, size width, size parts, double* found) {{ \\
  __shared__ double all[5][{THREADS}]; \\
  size row = blockIdx.x / parts * width, from = blockIdx.x % parts * {PART}; \\
  size to = from + {PART} < width ? from + {PART} : width; \\
  int t = threadIdx.x; \\
  double seen[5] = {{0, 0, 1e308, 0, 0}}; \\
  for (size i = row + from + t; i < row + to; i += {THREADS}) {{ \\
    double w = value(want[i]), error = fabs(value(got[i]) - w); \\
    if (!(error <= 1e308)) error = 2 * 1e308; \\
    seen[0] = most(seen[0], error), seen[1] = most(seen[1], fabs(w)); \\
    seen[2] = least(seen[2], fabs(w)); \\
    seen[3] += error * error, seen[4] += w * w; \\
  }} \\
  for (int k = 0; k < 5; k++) all[k][t] = seen[k]; \\
  __syncthreads(); \\
  for (int by = {THREADS} / 2; by; by /= 2) {{ \\
    if (t < by) {{ \\
      all[0][t] = most(all[0][t], all[0][t + by]), all[1][t] = most(all[1][t], all[1][t + by]); \\
      all[2][t] = least(all[2][t], all[2][t + by]); \\
      all[3][t] += all[3][t + by], all[4][t] += all[4][t + by]; \\
    }} \\
    __syncthreads(); \\
  }} \\
  if (t < 5) found[t * (size)gridDim.x + blockIdx.x] = all[t][0]; \\
}} \\
extern "C" __global__ void name##_small( \\
    const type* want, size width, size parts, const double* limits, size* found) {{ \\
  size number = blockIdx.x / parts, row = number * width, from = blockIdx.x % parts * {PART}; \\
  size to = from + {PART} < width ? from + {PART} : width, count = 0; \\
  for (size i = row + from + threadIdx.x; i < row + to; i += {THREADS}) \\
    count += fabs(value(want[i])) < limits[number]; \\
  if (count) atomicAdd(found, count); \\
}}
""" + "".join(f"LOOK(look_{name}, {kind})\n" for name, kind in FLOATS.items())
SOURCE = f"typedef unsigned long long size;\n{CROSSING}{DIFFERING}{LOOKING}"


class Look(NamedTuple):
    """Two outputs beside each other, row by row; infinite where an error is no number."""

    largest: Array
    """Absolute errors."""
    scale: Array
    """Largest magnitudes of what is wanted."""
    least: Array
    """Smallest magnitudes of it."""
    squares: float
    """Sum of squared errors."""
    sizes: float
    """Sum of squares of what is wanted."""


@dataclass
class Kernels:
    """Compiled for one device at first use. Addresses are those of the judge's context."""

    device: "Device"
    _rooms: dict[int, tuple[int, int]] = field(default_factory=dict)

    def cross(
        self,
        size: int,
        count: int,
        places: Array,
        slots: Array,
        others: Array,
        shifts: Array,
    ) -> None:
        """Copy elements of `others` to the same places of `slots`, each pair with its own shift.

        Args:
            size: bytes of an element.
            count: elements of one tensor.
            places: uint64, which elements; all are moved on by the pair's shift, round the end.
            slots: uint64, where each tensor lies that takes elements.
            others: uint64, where each lies that they are taken from.
            shifts: uint64, below `count`.
        """
        given = [self._given(n, array) for n, array in enumerate((places, slots, others, shifts))]
        grid = (-(-len(places) // THREADS), len(slots))
        self._launch(f"cross{size}", grid, given, (len(places), count))

    def differ(self, a: int, b: int, nbytes: int) -> bool:
        """Whether two parts of the device's memory hold other bytes."""
        found = np.zeros(1, np.uint64)
        there = self._given(0, found)
        blocks = max(1, min(MOST_BLOCKS, nbytes // 8 // THREADS))
        self._launch("differ", (blocks, 1), (a, b), (nbytes,), (there,))
        return bool(self._taken(there, found)[0])

    def look(self, dtype: str, got: int, want: int, height: int, width: int) -> Look:
        """Compare matrices of one of `FLOATS`, in double precision."""
        parts = -(-width // PART)
        found = np.empty((5, height, parts))
        there = self._room(0, found.nbytes)
        self._launch(f"look_{dtype}", (height * parts, 1), (got, want), (width, parts), (there,))
        largest, scale, least, squares, sizes = self._taken(there, found)
        return Look(
            largest.max(axis=1),
            scale.max(axis=1),
            least.min(axis=1),
            float(squares.sum()),
            float(sizes.sum()),
        )

    def small(self, dtype: str, want: int, limits: Array, width: int) -> int:
        """How many elements of a matrix are smaller than the limit of their row."""
        parts, found = -(-width // PART), np.zeros(1, np.uint64)
        there = self._given(1, found)
        given = (self._given(0, limits), there)
        grid = (len(limits) * parts, 1)
        self._launch(f"look_{dtype}_small", grid, (want,), (width, parts), given)
        return int(self._taken(there, found)[0])

    def _launch(self, name: str, grid: tuple[int, int], *arguments: Sequence[int]) -> None:
        """Arguments are addresses, sizes and addresses again."""
        cuda, (before, *others) = self.device.cuda, arguments
        sizes, behind = (*others, (), ())[:2]
        values = (*before, *sizes, *behind)
        pointer, number = (c_void_p,), (c_uint64,)
        kinds = pointer * len(before) + number * len(sizes) + pointer * len(behind)
        kernel = self._functions[name]
        launched = cuda.cuLaunchKernel(kernel, *grid, 1, THREADS, 1, 1, 0, 0, (values, kinds), 0)
        self.device.call(launched)

    def _given(self, number: int, array: Array) -> int:
        """A copy of the judge's array on the device."""
        array = np.ascontiguousarray(array)
        there = self._room(number, array.nbytes)
        copied = self.device.cuda.cuMemcpyHtoD(there, array.ctypes.data, array.nbytes)
        self.device.call(copied)
        return there

    def _taken(self, there: int, array: Array) -> Array:
        """The judge's array with what lies on the device."""
        copied = self.device.cuda.cuMemcpyDtoH(array.ctypes.data, there, array.nbytes)
        self.device.call(copied)
        return array

    def _room(self, number: int, nbytes: int) -> int:
        held = self._rooms.get(number)
        if held is None or held[1] < nbytes:
            if held is not None:
                self.device.call(self.device.cuda.cuMemFree(held[0]))
            nbytes = max(1 << 16, 2 * nbytes)
            address = int(self.device.call(self.device.cuda.cuMemAlloc(nbytes)))
            held = self._rooms[number] = address, nbytes
        return held[0]

    @cached_property
    def _functions(self) -> dict[str, Any]:
        from cuda.bindings import nvrtc

        call, cuda = self.device.call, self.device.cuda
        major, minor = (
            call(cuda.cuDeviceGetAttribute(which, self.device.index))
            for which in (
                cuda.CUdevice_attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR,
                cuda.CUdevice_attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR,
            )
        )
        program = call(nvrtc.nvrtcCreateProgram(SOURCE.encode(), b"judge.cu", 0, [], []))
        options = [f"--gpu-architecture=sm_{major}{minor}".encode()]
        call(nvrtc.nvrtcCompileProgram(program, len(options), options))
        cubin = b" " * call(nvrtc.nvrtcGetCUBINSize(program))
        call(nvrtc.nvrtcGetCUBIN(program, cubin))
        module = call(cuda.cuModuleLoadData(cubin))
        return {name: call(cuda.cuModuleGetFunction(module, name.encode())) for name in names()}


def names() -> list[str]:
    """Of all kernels in `SOURCE`."""
    looks = [f"look_{name}" for name in FLOATS]
    return [
        *(f"cross{size}" for size in ELEMENTS),
        "differ",
        *looks,
        *(f"{n}_small" for n in looks),
    ]
