"""Extents as `capture` writes them: numbers, or the names of counts that only data decide."""

from __future__ import annotations

from typing import Any

import torch


class Unsupported(Exception):
    """The model does something that the captured form cannot say."""


def extent(size: Any) -> Any:
    """An extent as JSON; `{"counted": name}` where forward has to count before it is known."""
    if isinstance(size, int):
        return size
    expr = size.node.expr
    if expr.is_number:
        return int(expr)
    if expr.is_Symbol:
        return {"counted": str(expr)}
    raise Unsupported(f"an extent computed from what data decide: {expr}")


def is_size(node: torch.fx.Node) -> bool:
    """Tell whether a node computes or checks an extent, which a type or an argument says already.

    Raises:
        Unsupported: it makes a number of what a tensor holds.
    """
    value = node.meta.get("val")
    if (
        isinstance(value, torch.SymFloat)
        or node.target is torch.ops.aten._local_scalar_dense.default
    ):
        raise Unsupported("a number read from a tensor")
    return isinstance(value, int | torch.SymInt | torch.SymBool | None)


def counts(graph: torch.fx.Graph) -> dict[str, int]:
    """A plausible value of each count: half of the largest tensor that it can be counted in."""
    found: dict[str, int] = {}
    for node in graph.nodes:
        value = node.meta.get("val")
        if isinstance(value, torch.Tensor):
            for size in map(extent, value.shape):
                if isinstance(size, dict):
                    found.setdefault(size["counted"], _largest(node) // 2)
    return found


def _largest(node: torch.fx.Node) -> int:
    tensors = [n.meta.get("val") for n in node.all_input_nodes]
    shapes = [[extent(s) for s in t.shape] for t in tensors if isinstance(t, torch.Tensor)]
    known = [torch.Size(s).numel() for s in shapes if all(isinstance(e, int) for e in s)]
    return max(known, default=2)
