"""What kernels need that are compiled when they are launched, for whoever asks this process."""

from collections.abc import Iterator
from typing import Any

kernels: dict[str, dict[str, float]] = {}
"""Of each kernel with its options: registers, spilled bytes, shared memory, threads of a block."""
WARP = 32


def collect(module: Any) -> None:
    """Take what Triton compiled for a GPU of the kernels that a module defines."""
    for value in vars(module).values():
        for kernel in _compiled(value):
            meta = kernel.metadata
            kernels[meta.hash] = {
                "registers": float(kernel.n_regs or 0),
                "spill_bytes": float(kernel.n_spills or 0),
                "shared_bytes": float(meta.shared),
                "block_threads": float(WARP * meta.num_warps),
            }


def _compiled(value: Any) -> Iterator[Any]:
    """Of a function, or of one that chooses among its configurations."""
    while hasattr(value, "fn") and not hasattr(value, "device_caches"):
        value = value.fn
    caches = getattr(value, "device_caches", None)
    for cache in caches.values() if isinstance(caches, dict) else ():
        found = (kernel for kernel in cache[0].values() if hasattr(kernel, "metadata"))
        yield from (kernel for kernel in found if getattr(kernel, "n_regs", None) is not None)
