"""What CUDA and HIP call what is the same kernel."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Spelling:
    """A language for kernels of threads in blocks."""

    name: str
    """Its module in `kernelevolve.runtime`."""
    file: str
    """Beside `model.py`."""
    flags: tuple[str, ...]
    """Of every source."""
    tensor: bool
    """Whether products of 16-bit floats have an instruction that we write."""
    tree: int
    """Most KiB of shared memory that a block copies a table's first levels into."""


CUDA = Spelling("cuda", "kernel.cu", ("-std=c++17",), tensor=True, tree=128)
HIP = Spelling("hip", "kernel.hip", ("-std=c++17",), tensor=False, tree=32)
