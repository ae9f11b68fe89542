"""What a reference that works in place leaves in its inputs; candidates must leave the same."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from kernelevolve.core.task import Tolerance
from kernelevolve.evaluation.expected import Reference, Yardstick, is_float
from kernelevolve.evaluation.layout import Array, Layout, Leaf, contiguous, raw, widened
from kernelevolve.evaluation.verify import Verifier
from kernelevolve.evaluation.yardstick import measure_yardstick


@dataclass(frozen=True)
class Left:
    """For each set of the pool, what is in the tensors that the reference changes."""

    inputs: Layout
    expected: list[dict[int, Reference]]
    """By set, then by the tensor's index."""
    yardsticks: dict[int, Yardstick]

    @property
    def any(self) -> bool:
        """Whether the reference changes inputs at all."""
        return bool(self.yardsticks)

    def fault(self, content: int, given: Array, memory: Array, tolerance: Tolerance) -> str:
        """What is wrong with inputs that a call on one set left; empty where nothing is.

        Args:
            content: the set.
            given: its bytes before the call.
            memory: the same memory after the call.
            tolerance: the task's.
        """
        for index, reference in self.expected[content].items():
            leaf = self.inputs.leaves[index]
            verifier = Verifier(tolerance, Layout({"tensor": 0}, (leaf,)), [self.yardsticks[index]])
            off = verifier.excess(0, reference, widened(leaf, memory), self.yardsticks[index])
            if off > 1:
                return (
                    f"input tensor {index} is left otherwise than the reference leaves it "
                    f"({off:.3g} times the error budget): write what the reference writes"
                )
        return self.touched(given, memory)

    def wider(self, yardsticks: Mapping[int, Yardstick]) -> "Left":
        """The same with other budgets."""
        return replace(self, yardsticks=dict(yardsticks))

    def touched(self, given: Array, memory: Array) -> str:
        """Which input was changed that the reference leaves alone; empty where none was."""
        for index, leaf in enumerate(self.inputs.leaves):
            if index not in self.yardsticks and _differ(leaf, given, memory):
                return f"forward changes input tensor {index}; the reference leaves it as it is"
        return ""


NOTHING = Left(Layout(None, ()), [], {})


def left(
    inputs: Layout,
    given: Sequence[Array],
    native: Sequence[Array],
    oracle: Sequence[list[Array]],
    changed: Collection[int] = (),
) -> Left:
    """From what lay in the slots before and after calls, and what the oracle left in its copies.

    Args:
        inputs: their layout.
        given: each set's bytes before a call.
        native: the same after the reference's call.
        oracle: the values of each tensor after the oracle's call; empty where there is no oracle.
        changed: tensors that the reference may change, even where it does not for these sets.
    """
    changed = changed or [
        index
        for index, leaf in enumerate(inputs.leaves)
        if any(_differ(leaf, a, b) for a, b in zip(given, native, strict=True))
    ]
    found: list[dict[int, Reference]] = []
    for number, memory in enumerate(native):
        found.append({})
        for index in changed:
            leaf = inputs.leaves[index]
            plain = Leaf(leaf.dtype, leaf.shape, contiguous(leaf.shape), 0)
            values = np.array(widened(leaf, memory))
            exact = oracle[number][index] if oracle else values
            wide = exact.astype(np.float64) if is_float(leaf) else None
            found[-1][index] = Reference(plain, values, wide)
    yardsticks = {
        index: measure_yardstick(
            [f[index] for f in found], [f[index].native for f in found], "float64", 1.0
        )
        for index in changed
    }
    return Left(inputs, found, yardsticks)


def _differ(leaf: Leaf, a: Array, b: Array) -> bool:
    return leaf.elements > 0 and not np.array_equal(_bits(leaf, a), _bits(leaf, b))


def _bits(leaf: Leaf, block: Array) -> Array:
    """The elements' bytes; complex and brain floats too, and NaN as they are."""
    values = np.ascontiguousarray(raw(leaf, block))
    bits: Array = values.reshape(-1).view(np.uint8)
    return bits
