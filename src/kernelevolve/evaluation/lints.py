"""What is odd about a task, as far as its reference shows it: dead inputs, dead parameters.

In the judge; asked once, when a task is admitted.
"""

from collections.abc import Iterator

import numpy as np

from kernelevolve.core.detector import Detector
from kernelevolve.core.job import Finding
from kernelevolve.evaluation.bench import Bench
from kernelevolve.evaluation.domain import arguments
from kernelevolve.evaluation.layout import Array, Leaf
from kernelevolve.evaluation.probe import Plan, Probe, Skipped
from kernelevolve.evaluation.processes import Failed

MOST_PARAMETERS = 32
PLAN = Plan("lint", Detector.ERROR_BUDGET, "", "")


def lint(bench: Bench) -> Iterator[Finding]:
    """Inputs and parameters without which the outputs stay within the error budget.

    Raises:
        Failed, Ended, Late: the reference does on other inputs of its own.
    """
    name = bench.prepared.workload.name
    for index in arguments(bench.prepared.inputs.tree):
        if _without_input(bench, index):
            yield Finding(
                code="input-dead",
                message=f"{name}: the outputs do not depend on input tensor {index}: a kernel may "
                "ignore it",
            )
    for parameter in bench.answers().ask("parameters")["names"][:MOST_PARAMETERS]:
        if _without_parameter(bench, parameter):
            yield Finding(
                code="parameter-dead",
                message=f"{name}: the outputs do not depend on parameter {parameter!r}: a kernel "
                "may ignore it",
            )


def _without_input(bench: Bench, index: int) -> bool:
    """Whether other values of one input leave the outputs where they are."""
    prepared = bench.prepared
    leaf = prepared.inputs.leaves[index]
    if not leaf.elements:
        return False
    other = prepared.contents[-1].copy()
    if _same(leaf, other, prepared.contents[0]):
        other[leaf.offset : leaf.offset + leaf.span] = 0
    if _same(leaf, other, prepared.contents[0]):
        return False
    made = prepared.contents[0].copy()
    part = slice(leaf.offset, leaf.offset + leaf.span)
    made[part] = other[part]
    try:
        return _stays(bench, made)
    except (Skipped, Failed):
        return False


def _same(leaf: Leaf, a: Array, b: Array) -> bool:
    part = slice(leaf.offset, leaf.offset + leaf.span)
    return np.array_equal(a[part], b[part])


def _without_parameter(bench: Bench, name: str) -> bool:
    """Whether zeros in place of one parameter leave the outputs where they are."""
    bench.answers().ask("zeroed", name=name)
    try:
        return _stays(bench, bench.prepared.contents[0])
    except (Skipped, Failed):
        return False
    finally:
        bench.answers().ask("zeroed", name=None)


def _stays(bench: Bench, made: Array) -> bool:
    prepared = bench.prepared
    probe = Probe(PLAN, prepared.inputs, made, prepared.expected[0], prepared.yardsticks)
    return bench.excess(probe, bench.native(made)) <= 1
