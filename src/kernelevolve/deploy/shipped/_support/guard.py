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
        self.seen = [
            ([(leaf.dtype, len(leaf.shape)) for leaf in leaves], [list(x.shape) for x in leaves])
            for leaves in seen
        ]
        self.relations = _relations([shapes for _, shapes in self.seen]) if self.general else []

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
        shapes = [list(t.shape) for t in tensors]
        return self._unlike(shapes) if self.general else self._unseen(kind, shapes)

    def _unseen(self, kind: list[tuple[Any, int]], shapes: list[list[int]]) -> str:
        """Whether no workload had exactly these shapes."""
        for wanted_kind, wanted in self.seen:
            if kind == wanted_kind and _same(shapes, wanted):
                return ""
        return "shapes that were not verified"

    def _unlike(self, shapes: list[list[int]]) -> str:
        """Whether sizes vary in another way than those of the workloads."""
        for shape in shapes:
            count = 1
            for size in shape:
                count = count * size
            if count == 0:
                return "an empty tensor"
            if count > LARGEST:
                return "a tensor with too many elements"
        for positions, sizes in self.relations:
            leaf, dim = positions[0]
            first = shapes[leaf][dim]
            for leaf, dim in positions[1:]:
                if shapes[leaf][dim] != first:
                    return "sizes that differ where every verified workload had equal ones"
            if len(set(sizes)) == 1 and first != sizes[0]:
                return f"another size than {sizes[0]}, which every verified workload had"
        return ""


def _same(shapes: list[list[int]], wanted: list[list[int]]) -> bool:
    """Compares one size after the other: a compiler that traces it learns each, not their join."""
    for shape, wanted_shape in zip(shapes, wanted, strict=True):
        for size, wanted_size in zip(shape, wanted_shape, strict=True):
            if size != wanted_size:
                return False
    return True


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
    workloads: list[list[list[int]]],
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
