"""Probes of memory layout: the pool's own values, as views of larger buffers."""

from dataclasses import dataclass

import numpy as np

from kernelevolve.evaluation.bench import Bench
from kernelevolve.evaluation.domain import overlaps
from kernelevolve.evaluation.layout import (
    ITEM_SIZES,
    PAGE,
    Array,
    Layout,
    Leaf,
    contiguous,
    raw,
)
from kernelevolve.evaluation.probe import Plan, Probe, Skipped

ADVICE = "call .contiguous() on inputs whose layout you assume, and load without assuming alignment"
FILL = 0xFF
"""Between the elements; as floats it is NaN."""
PITCH = 3


@dataclass(frozen=True)
class View:
    """How tensors lie in memory."""

    what: str
    last: int = 1
    """Step along the last dimension."""
    pitch: int = 0
    """Elements between rows, and rows between matrices."""
    swapped: bool = False
    """The last two dimensions change places in memory."""


VIEWS = {
    "misaligned": View("inputs that begin one element behind an aligned address"),
    "sliced": View("inputs that are slices of wider tensors", pitch=PITCH),
    "stepped": View("inputs that are every other element of a tensor", last=2),
    "transposed": View("inputs that are transposed in memory", swapped=True),
}


def make(bench: Bench, plan: Plan, base: int) -> Probe:
    """Set `base` of the pool in another layout.

    Raises:
        Skipped: the reference cannot take it.
        Failed: the reference raises.
    """
    prepared = bench.prepared
    layout = arranged(prepared.inputs, VIEWS[plan.name])
    if layout is None:
        raise Skipped("no input can lie so")
    content = placed(prepared.inputs, prepared.contents[base], layout)
    block = prepared.place.room(layout.nbytes)
    block.put(0, content)
    answers = bench.answers()
    answers.attach(block, layout, 1)
    try:
        answer = answers.native(0)
    finally:
        block.close()
        bench.attach()
    if answer.layout != prepared.outputs or list(answer.reply["aliases"]) != prepared.may_alias:
        raise Skipped("the reference's outputs depend on the layout of its inputs")
    probe = Probe(
        plan, layout, content, prepared.expected[base], prepared.yardsticks, may_refuse=True
    )
    if bench.excess(probe, answer.values) > 1:
        raise Skipped("the reference's values depend on the layout of its inputs")
    return probe


def arranged(inputs: Layout, view: View) -> Layout | None:
    """The same tensors in another layout; None where no tensor can lie so."""
    leaves: list[Leaf] = []
    offset, differs = PAGE, False
    for leaf in inputs.leaves:
        stride = _strides(leaf, view)
        if stride is None:
            leaves.append(Leaf(leaf.dtype, leaf.shape, leaf.stride, offset))
        else:
            differs = True
            start = offset + ITEM_SIZES[leaf.dtype]
            leaves.append(Leaf(leaf.dtype, leaf.shape, stride, start))
        end = leaves[-1].offset + leaves[-1].span
        offset = -(-end // PAGE) * PAGE + PAGE
    return Layout(inputs.tree, tuple(leaves)) if differs else None


def _strides(leaf: Leaf, view: View) -> tuple[int, ...] | None:
    """In elements; None where the tensor stays as it is."""
    shape = leaf.shape
    if leaf.elements < 2 or overlaps(leaf) or (view.swapped and len(shape) < 2):
        return None
    if view.swapped:
        inner = contiguous((*shape[:-2], shape[-1], shape[-2]))
        return (*inner[:-2], inner[-1], inner[-2])
    taller = tuple(n + view.pitch for n in shape[-2:-1])
    wider = (*shape[:-2], *taller, shape[-1] * view.last + view.pitch)
    return (*contiguous(wider)[:-1], view.last)


def placed(inputs: Layout, content: Array, layout: Layout) -> Array:
    """The same values where the other layout has them."""
    block = np.full(layout.nbytes, FILL, np.uint8)
    for old, new in zip(inputs.leaves, layout.leaves, strict=True):
        if not overlaps(old):
            raw(new, block)[...] = raw(old, content)
        else:
            part = slice(new.offset, new.offset + new.span)
            block[part] = content[old.offset : old.offset + old.span]
    return block
