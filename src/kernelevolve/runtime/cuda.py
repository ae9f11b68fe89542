"""Loads CUDA C++ that lies beside a candidate's `model.py` and launches its kernels.

Tensors on a GPU are worked on there, by what NVRTC compiled for it; those in host memory by the
emulator (`kernelevolve.runtime.simt`). Either is built ahead by content, or on first use.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from kernelevolve.runtime import kernels

DIALECT = kernels.Dialect("cuda", warp=32)


def load(source: str, kernel: str, flags: Sequence[str] = ()) -> kernels.Kernel:
    """An `extern "C" __global__` function of `source`, a file beside the caller's.

    Launch it as `kernel[grid, block](...)` or `kernel[grid, block, shared_bytes](...)`, where grid
    and block are numbers or up to three of them. A tensor arrives as its data pointer, an int or a
    float as what the kernel declares, None as a null pointer.

    Raises:
        ValueError: there is no such kernel in it, or it cannot be emulated.
        OSError: the file is missing or the compiler failed; the message holds its errors.
    """
    folder = Path(sys._getframe(1).f_globals["__file__"]).resolve().parent
    return kernels.load(DIALECT, folder, source, kernel, flags)
