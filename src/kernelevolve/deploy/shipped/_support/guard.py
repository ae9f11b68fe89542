"""Which calls were verified: dtypes, shapes and processor; anything else goes to the reference."""

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

LARGEST = 2**31 - 1
"""Elements of one tensor that unseen shapes may have."""


@dataclass(frozen=True)
class Leaf:
    """One tensor as far as a guard looks at it."""

    dtype: Any
    shape: tuple[int, ...]

    @classmethod
    def of(cls, tensor: Tensor) -> "Leaf":
        """What a guard sees of a tensor."""
        return cls(tensor.dtype, tuple(tensor.shape))


class Guard:
    """What the verified workloads have in common.

    Args:
        seen: per workload, the leaves of inputs, then of parameters and buffers.
        device: device type.
        general: held-out sizes passed too, so that other sizes are trusted where sizes varied.
    """

    def __init__(self, seen: tuple[tuple[Leaf, ...], ...], device: str, general: bool) -> None:
        kinds = {tuple((leaf.dtype, len(leaf.shape)) for leaf in leaves) for leaves in seen}
        self.device = device
        self.kinds = [list(kind) for kind in kinds]
        self.general = general and len(kinds) == 1
        self.shapes = [tuple(leaf.shape for leaf in leaves) for leaves in seen]
        self.seen = [
            (tuple(leaf.dtype for leaf in leaves), s)
            for leaves, s in zip(seen, self.shapes, strict=True)
        ]
        self.relations = _relations(self.shapes) if self.general else []

    def refuses(self, tensors: Sequence[Tensor]) -> str:
        """Why these tensors must not reach the kernel; empty when they may."""
        for tensor in tensors:
            if tensor.device.type != self.device:
                return f"device {tensor.device.type} instead of {self.device}"
            if not tensor.is_contiguous():
                return "a tensor that is not contiguous"
        kind = [(t.dtype, t.dim()) for t in tensors]
        if kind not in self.kinds:
            return _difference(kind, self.kinds[0])
        shapes = tuple([tuple(t.shape) for t in tensors])
        if (tuple([t.dtype for t in tensors]), shapes) in self.seen:
            return ""
        return self._unseen(shapes) if self.general else f"shapes {shapes} were not verified"

    def _unseen(self, shapes: tuple[tuple[int, ...], ...]) -> str:
        for shape in shapes:
            count = 1
            for size in shape:
                count = count * size
            if count == 0 or count > LARGEST:
                return f"shape {shape} is empty or too large"
        for positions, sizes in self.relations:
            found = [shapes[leaf][dim] for leaf, dim in positions]
            if any(size != found[0] for size in found):
                return f"sizes {found} differ where every verified workload had equal ones"
            if len(set(sizes)) == 1 and found[0] != sizes[0]:
                return f"size {found[0]} where every verified workload had {sizes[0]}"
        return ""


def _difference(found: list[tuple[Any, int]], wanted: list[tuple[Any, int]]) -> str:
    if len(found) != len(wanted):
        return f"{len(found)} tensors instead of {len(wanted)}"
    for (dtype, dims), (wanted_dtype, wanted_dims) in zip(found, wanted, strict=True):
        if dtype != wanted_dtype:
            return f"dtype {dtype} instead of {wanted_dtype}"
        if dims != wanted_dims:
            return f"{dims} dimensions instead of {wanted_dims}"
    return "dtypes or dimensions that were not verified"


def _relations(
    workloads: list[tuple[tuple[int, ...], ...]],
) -> list[tuple[list[tuple[int, int]], tuple[int, ...]]]:
    """Dimensions that had equal sizes in every workload, with those sizes."""
    classes: dict[tuple[int, ...], list[tuple[int, int]]] = {}
    for leaf, shape in enumerate(workloads[0]):
        for dim in range(len(shape)):
            sizes = tuple(shapes[leaf][dim] for shapes in workloads)
            classes.setdefault(sizes, []).append((leaf, dim))
    return [(positions, sizes) for sizes, positions in classes.items()]


def machine_refuses(machine: str, features: Sequence[str]) -> str:
    """Why this processor cannot run the kernel; empty when it can."""
    if platform.machine() != machine:
        return f"a {platform.machine()} processor instead of {machine}"
    missing = sorted(set(features) - processor_features())
    return f"a processor without {' '.join(missing)}" if missing else ""


def processor_features() -> set[str]:
    """Feature flags of this processor; empty where the system does not tell."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return set()
    rows = (line.partition(":") for line in lines)
    return {f for key, _, row in rows if key.strip() in ("flags", "Features") for f in row.split()}
