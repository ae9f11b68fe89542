"""The torch side of `layout`: trees of tensors to and from shared memory. Runs in runners only."""

import ctypes
import mmap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kernelevolve.evaluation.layout import (
    ITEM_SIZES,
    Layout,
    Leaf,
    Tree,
    contiguous,
    guarded,
    packed,
    unused_pages,
)

DTYPES: dict[str, torch.dtype] = {
    name: getattr(torch, name) for name in ITEM_SIZES if hasattr(torch, name)
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}
HUGE_PAGE = 2 << 20
MOST_GUARDED = 8192
"""Every guard splits a mapping, and a process may have some ten thousands."""
LIBC = ctypes.CDLL(None)
LIBC.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)


class Unsupported(Exception):
    """A value that cannot travel between processes."""


def flatten(value: object) -> tuple[Tree, list[Tensor]]:
    """The tree of a value and its tensors in order.

    Raises:
        Unsupported: it holds something that is neither tensor nor plain data.
    """
    tensors: list[Tensor] = []
    return _flatten(value, tensors), tensors


def _flatten(value: object, tensors: list[Tensor]) -> Tree:
    match value:
        case Tensor():
            tensors.append(value)
            return {"tensor": len(tensors) - 1}
        case list():
            return {"list": [_flatten(v, tensors) for v in value]}
        case tuple() | torch.Size():
            return {"tuple": [_flatten(v, tensors) for v in value]}
        case Mapping():
            return {"dict": [[str(k), _flatten(v, tensors)] for k, v in value.items()]}
        case _:
            return {"value": _plain(value)}


def _plain(value: object) -> list[Any]:
    match value:
        case None | bool() | int() | str():
            return [type(value).__name__, value]
        case float():
            return ["float", value.hex()]
        case torch.dtype() | torch.device():
            return [type(value).__name__, str(value).removeprefix("torch.")]
        case _:
            raise Unsupported(
                f"a value of type {type(value).__module__}.{type(value).__qualname__}; "
                "only tensors, numbers, strings and lists, tuples and dicts of them are taken"
            )


def unflatten(tree: Tree, tensors: Sequence[Tensor]) -> Any:
    """The value that `flatten` saw."""
    match tree:
        case {"tensor": index}:
            return tensors[index]
        case {"list": items}:
            return [unflatten(v, tensors) for v in items]
        case {"tuple": items}:
            return tuple(unflatten(v, tensors) for v in items)
        case {"dict": items}:
            return {k: unflatten(v, tensors) for k, v in items}
        case {"value": ["float", text]}:
            return float.fromhex(text)
        case {"value": ["dtype", text]}:
            return getattr(torch, text)
        case {"value": ["device", text]}:
            return torch.device(text)
        case {"value": [_, value]}:
            return value
        case _:
            raise Unsupported(f"not a tree: {tree}")


def layout_of(
    tree: Tree, tensors: Sequence[Tensor], *, keep_strides: bool, sides: int | None = None
) -> Layout:
    """Where the tensors would lie in one block.

    Args:
        tree: what `flatten` gave.
        tensors: what `flatten` gave.
        keep_strides: as they are, instead of row-major.
        sides: for `guarded`; without it they lie side by side.
    """
    specs = []
    for tensor in tensors:
        if tensor.dtype not in NAMES:
            raise Unsupported(f"a tensor of {tensor.dtype}")
        shape = tuple(tensor.shape)
        stride = tuple(tensor.stride()) if keep_strides else contiguous(shape)
        specs.append((NAMES[tensor.dtype], shape, stride))
    return Layout(tree, packed(specs) if sides is None else guarded(specs, sides))


@dataclass
class Memory:
    """A shared block of bytes mapped into this process."""

    buffer: mmap.mmap
    base: int

    @classmethod
    def map(cls, fd: int, nbytes: int, *, private: bool = False) -> "Memory":
        """Map a descriptor's first `nbytes`; the descriptor may be closed afterwards."""
        kept = mmap.MAP_PRIVATE if private else mmap.MAP_SHARED | mmap.MAP_POPULATE
        buffer = mmap.mmap(fd, nbytes, flags=kept)
        if nbytes >= HUGE_PAGE:
            buffer.madvise(mmap.MADV_HUGEPAGE)
        base = torch.frombuffer(buffer, dtype=torch.uint8).data_ptr()
        return cls(buffer, base)

    def holds(self, tensor: Tensor) -> bool:
        """Whether the tensor's storage lies in it."""
        return self.base <= tensor.untyped_storage().data_ptr() < self.base + len(self.buffer)

    def guard(self, leaves: Sequence[Leaf]) -> None:
        """From now on, touching a page that holds none of these leaves ends the process."""
        if len(leaves) <= MOST_GUARDED:
            for offset, nbytes in unused_pages(leaves, len(self.buffer)):
                LIBC.mprotect(self.base + offset, nbytes, 0)

    def view(self, leaf: Leaf, start: int = 0) -> Tensor:
        """The leaf of the block at `start`, as a tensor over this memory."""
        dtype = DTYPES[leaf.dtype]
        if leaf.span == 0:
            return torch.empty_strided(leaf.shape, leaf.stride, dtype=dtype)
        flat = torch.frombuffer(
            self.buffer, dtype=torch.uint8, count=leaf.span, offset=start + leaf.offset
        ).view(dtype)
        return flat.as_strided(leaf.shape, leaf.stride)

    def write(self, layout: Layout, tensors: Sequence[Tensor], start: int = 0) -> None:
        """Copy tensors into the block at `start`."""
        for leaf, tensor in zip(layout.leaves, tensors, strict=True):
            if leaf.elements:
                target = self.view(leaf, start)
                _without_expansion(target).copy_(_without_expansion(tensor.detach()))

    def read(self, layout: Layout, start: int = 0) -> Any:
        """The value in the block at `start`, over this memory."""
        return unflatten(layout.tree, [self.view(leaf, start) for leaf in layout.leaves])


def _without_expansion(tensor: Tensor) -> Tensor:
    """One element along each dimension that repeats the same memory."""
    for dimension, (size, stride) in enumerate(zip(tensor.shape, tensor.stride(), strict=True)):
        if stride == 0 and size > 1:
            tensor = tensor.narrow(dimension, 0, 1)
    return tensor


def alone(tensor: Tensor) -> Tensor:
    """The same values and strides, in memory that holds nothing else."""
    if tensor.numel() == 0:
        return tensor
    extents = zip(tensor.shape, tensor.stride(), strict=True)
    span = 1 + sum((size - 1) * stride for size, stride in extents)
    copy = tensor.detach().as_strided((span,), (1,)).clone()
    return copy.as_strided(tensor.shape, tensor.stride()).requires_grad_(tensor.requires_grad)


def tree_map(function: Callable[[Tensor], Tensor], value: object) -> Any:
    """Replace each tensor in a nest of lists, tuples and dicts."""
    tree, tensors = flatten(value)
    return unflatten(tree, [function(t) for t in tensors])


def require_gradients(value: object) -> None:
    """Of all float tensors in a nest."""
    for tensor in flatten(value)[1]:
        if tensor.is_floating_point():
            tensor.requires_grad_()
