"""Which outputs share memory: with themselves, with each other, with the module's state.

In the judge. Whoever gets outputs may write to them and keep them: what the reference gives as
memory of its own, a candidate gives so too.
"""

from collections.abc import Collection, Iterator, Mapping
from itertools import combinations
from typing import Any

from kernelevolve.evaluation.domain import overlaps
from kernelevolve.evaluation.layout import ITEM_SIZES, Layout, Leaf, paths


def shared(layout: Layout, reply: Mapping[str, Any]) -> frozenset[tuple[int, int]]:
    """Pairs that share memory, as a runner describes its outputs; an output with itself too."""
    return frozenset(_pairs(layout, reply))


def excess(
    layout: Layout, reply: Mapping[str, Any], allowed: Collection[tuple[int, int]], count: int
) -> str:
    """What the first `count` outputs share although the reference's do not; empty where nothing."""
    names = paths(layout.tree)
    for a, b in sorted(shared(layout, reply).difference(allowed)):
        if b < count:
            other = "itself" if a == b else names[b]
            return f"{names[a]} shares memory with {other}; return tensors of their own"
    return ""


def _pairs(layout: Layout, reply: Mapping[str, Any]) -> Iterator[tuple[int, int]]:
    given = zip(layout.leaves, reply["strides"], strict=True)
    leaves = [Leaf.parse([leaf.dtype, list(leaf.shape), stride, 0]) for leaf, stride in given]
    for index, leaf in enumerate(leaves):
        if leaf.elements and overlaps(leaf):
            yield index, index
    extents = sorted(
        (int(pointer), int(pointer) + leaf.span, index)
        for index, (leaf, pointer) in enumerate(zip(leaves, reply["pointers"], strict=True))
        if leaf.span
    )
    for (a, end, i), (b, _, j) in combinations(extents, 2):
        if a == b or (b < end and _is_dense(leaves[i]) and _is_dense(leaves[j])):
            yield min(i, j), max(i, j)


def _is_dense(leaf: Leaf) -> bool:
    """Without holes, in which parts of another output may lie."""
    return leaf.span == leaf.elements * ITEM_SIZES[leaf.dtype]
