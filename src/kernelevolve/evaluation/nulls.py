"""Kernels that compute nothing, judged against the pool: a task that one of them passes is no task.

In the judge; no process is started for them.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from kernelevolve.core.job import Finding
from kernelevolve.core.task import Task
from kernelevolve.evaluation.domain import arguments, read
from kernelevolve.evaluation.layout import FLOATS, Array, widened
from kernelevolve.evaluation.pool import Prepared
from kernelevolve.evaluation.verify import Verifier

Null = Callable[[Prepared, int, int], Array | None]
"""One output for one set of the pool; None where this null does not fit."""
LARGE_BYTES = 8 << 20
FEW_SETS = 2


def _native(prepared: Prepared, content: int, output: int) -> Array:
    return prepared.expected[content][output].native


def _zeros(prepared: Prepared, content: int, output: int) -> Array:
    return np.zeros_like(_native(prepared, content, output))


def _ones(prepared: Prepared, content: int, output: int) -> Array:
    return np.ones_like(_native(prepared, content, output))


def _memory(prepared: Prepared, content: int, output: int) -> Array:
    leaf = prepared.outputs.leaves[output]
    random = np.random.default_rng(content)
    found = random.integers(0, 256, leaf.offset + leaf.span, np.uint8)
    if leaf.dtype == "bool":
        found &= 1
    return widened(leaf, found)


def _poison(prepared: Prepared, content: int, output: int) -> Array:
    leaf = prepared.outputs.leaves[output]
    return widened(leaf, np.full(leaf.offset + leaf.span, leaf.dtype == "bool" or 0xFF, np.uint8))


def _constant(prepared: Prepared, content: int, output: int) -> Array | None:
    """From another set: for the same one it would be the answer where that is one number."""
    other = _previous(prepared, content, output)
    if other is None:
        return None
    finite = other[np.isfinite(other)] if other.dtype.kind == "f" else other
    mean = finite.mean(dtype=np.float64) if finite.size else 0.0
    return np.full(other.shape, mean).astype(other.dtype)


def _average(prepared: Prepared, content: int, output: int) -> Array | None:
    if len(prepared.expected) < 2:
        return None
    natives = [e[output].native for e in prepared.expected]
    found: Array = np.mean(natives, axis=0, dtype=np.float64).astype(natives[0].dtype)
    return found


def _previous(prepared: Prepared, content: int, output: int) -> Array | None:
    count = len(prepared.expected)
    return _native(prepared, (content + 1) % count, output) if count > 1 else None


def _copy(source: int) -> Null:
    def null(prepared: Prepared, content: int, output: int) -> Array | None:
        leaf = prepared.inputs.leaves[source]
        native = _native(prepared, content, output)
        if leaf.dtype not in FLOATS or native.dtype.kind != "f" or not native.size:
            return None
        given = read(leaf, prepared.contents[content])
        if given.size == native.size:
            return given.reshape(native.shape)
        try:
            return np.broadcast_to(given, native.shape)
        except ValueError:
            return np.full(native.shape, given.mean(dtype=np.float64))

    return null


@dataclass(frozen=True)
class Kind:
    """One null kernel."""

    null: Null
    says: str
    """What it returns."""
    why: str
    """What is wrong with a task that it passes."""


REMEMBERS = "the outputs hardly depend on the inputs"
KINDS: Mapping[str, Kind] = {
    "zeros": Kind(_zeros, "zeros", "the outputs are zero, or tiny next to the error budget"),
    "ones": Kind(_ones, "ones", "the outputs are one within the error budget"),
    "memory": Kind(_memory, "uninitialised memory", "any value is accepted"),
    "poison": Kind(_poison, "NaN or -1", "every expected value is NaN or -1"),
}
REMEMBERING: Mapping[str, Kind] = {
    "constant": Kind(_constant, "the mean of earlier outputs in each element", REMEMBERS),
    "average": Kind(_average, "the average of earlier outputs", REMEMBERS),
    "previous": Kind(_previous, "the outputs of an earlier call", REMEMBERS),
}
"""They pass as well where `get_inputs` gives the same values each time; mutants then tell."""
WIDENED = "; TOLERANCE is wider than the default: tighten it"


def passed(prepared: Prepared, task: Task) -> Iterator[Finding]:
    """A fatal finding for each null kernel that this workload does not tell from the reference."""
    kinds = dict(KINDS)
    for index in arguments(prepared.inputs.tree):
        what = f"a copy or the mean of input tensor {index}"
        kinds[f"input-{index}"] = Kind(_copy(index), what, "the task changes its input too little")
    yield from _found(prepared, task, kinds)


def remembered(prepared: Prepared, task: Task) -> Iterator[Finding]:
    """The same for those that give earlier outputs again."""
    yield from _found(prepared, task, REMEMBERING)


def _found(prepared: Prepared, task: Task, kinds: Mapping[str, Kind]) -> Iterator[Finding]:
    if not any(leaf.elements for leaf in prepared.outputs.leaves):
        return
    for name, kind in kinds.items():
        if _passes(prepared, task, kind.null):
            yield Finding(
                code=f"null-{name}",
                message=f"{prepared.workload.name}: a kernel that returns {kind.says} passes: "
                f"{kind.why}{WIDENED if task.tolerance.widened else ''}",
                fatal=True,
            )


def _passes(prepared: Prepared, task: Task, null: Null) -> bool:
    verifier = Verifier(task.tolerance, prepared.outputs, prepared.yardsticks)
    large = prepared.outputs.nbytes + prepared.inputs.nbytes > LARGE_BYTES
    sets = range(len(prepared.expected))[: FEW_SETS if large else None]
    return all(
        _accepts(verifier, prepared, null, content, output)
        for content in sets
        for output in range(len(prepared.outputs.leaves))
    )


def _accepts(verifier: Verifier, prepared: Prepared, null: Null, content: int, output: int) -> bool:
    values = null(prepared, content, output)
    if values is None:
        return False
    reference = prepared.expected[content][output]
    with np.errstate(invalid="ignore", over="ignore"):
        return verifier.excess(output, reference, values, prepared.yardsticks[output]) <= 1
