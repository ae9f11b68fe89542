"""Stands for a GPU in Triton, on the processor.

Triton's own front end compiles each kernel for the device's architecture, with the arguments and
options of its launch, and holds it to the device's limits; then Triton's interpreter runs it on
tensors in host memory. What a compiled kernel needs is left in `kernelevolve.runtime.launched`.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Device:
    """What is to be stood for."""

    backend: str
    """Of Triton: `cuda` or `hip`."""
    arch: str
    """`sm_90`, `gfx942` …"""
    warp: int
    """Threads of a warp."""
    multiprocessors: int
    """How many there are."""
    shared_block: int
    """Bytes of shared memory that a block may have."""


def emulate(device: Device) -> None:
    """Have every launch of this process go there; for good."""
    from kernelevolve.runtime.tiles.driver import install

    install(device)
