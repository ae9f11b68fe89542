"""Loads HIP C++ that lies beside a candidate's `model.py` and launches its kernels.

Tensors in host memory are worked on by the emulator, with wavefronts of 64; those on an NVIDIA GPU
there, compiled by NVRTC against our own `hip/hip_runtime.h`, where a warp has 32 lanes and what
reaches beyond them ends the launch. Nothing here has been run on AMD's hardware.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from kernelevolve.runtime import kernels

INCLUDE = Path(__file__).parent / "hip_include"
DIALECT = kernels.Dialect("hip", warp=64, flags=(f"-I{INCLUDE}",))


def load(source: str, kernel: str, flags: Sequence[str] = ()) -> kernels.Kernel:
    """An `extern "C" __global__` function of `source`, a file beside the caller's.

    It is launched as kernels of `kernelevolve.runtime.cuda` are.

    Raises:
        ValueError: there is no such kernel in it, or it cannot be emulated.
        OSError: the file is missing or the compiler failed; the message holds its errors.
    """
    folder = Path(sys._getframe(1).f_globals["__file__"]).resolve().parent
    return kernels.load(DIALECT, folder, source, kernel, flags)
