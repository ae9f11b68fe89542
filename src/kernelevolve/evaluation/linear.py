"""The probe of linear tasks: small integers, whose sums are exact in any order."""

import numpy as np

from kernelevolve.evaluation import adversarial
from kernelevolve.evaluation.answers import Outputs
from kernelevolve.evaluation.bench import Bench
from kernelevolve.evaluation.domain import is_real, read, write
from kernelevolve.evaluation.expected import Reference
from kernelevolve.evaluation.layout import Array
from kernelevolve.evaluation.probe import Plan, Probe, Skipped

WHAT = "inputs and parameters that are small integers, where a linear task is exact"
ADVICE = "form every product and sum in the declared precision, with the parameters as they are"
MOST_INPUTS = 8


def make(bench: Bench, plan: Plan, base: int, random: np.random.Generator) -> Probe:
    """Integer inputs and parameters on which the outputs must be equal to the bit.

    Raises:
        Skipped: the task is not linear in each of its inputs, or not exact.
    """
    prepared = bench.prepared
    if prepared.oracle != "float64" or prepared.mutated:
        raise Skipped("there is no float64 reference, or calls change buffers")
    made = adversarial.integers(prepared.inputs, bench.domains, prepared.contents[base], random)
    if made is None:
        raise Skipped("inputs cannot be small integers")
    answers = bench.answers()
    changed = answers.ask("integers", seed=int(random.integers(1 << 62)))["changed"]
    try:
        native, exact = bench.answer(made)
        if not all(np.array_equal(a, b) for a, b in zip(native, exact, strict=True)):
            raise Skipped("the task is not exact on small integers")
        _check_linear(bench, made, exact, random)
        state_fd = answers.state()[1] if changed else None
    finally:
        answers.ask("integers", seed=None)
    leaves = zip(prepared.outputs.leaves, native, strict=True)
    expected = [Reference(leaf, values, None) for leaf, values in leaves]
    return Probe(plan, prepared.inputs, made, expected, prepared.yardsticks, state_fd=state_fd)


def _check_linear(bench: Bench, made: Array, outputs: Outputs, random: np.random.Generator) -> None:
    """f(x + y) - f(x) - f(y) + f(0) must be zero for each real input alone."""
    layout = bench.prepared.inputs
    real = [i for i, d in bench.domains.items() if d.kind == "real"]
    moves = False
    for index in real[:MOST_INPUTS]:
        leaf = layout.leaves[index]
        x = read(leaf, made)
        y = random.integers(-1, 2, leaf.shape).astype(x.dtype)
        found = []
        for values in (x + y, y, np.zeros_like(x)):
            other = made.copy()
            write(leaf, other, values)
            found.append(bench.oracle(other, outputs))
        for f_x, f_sum, f_y, f_0 in zip(outputs, *found, strict=True):
            if not np.array_equal(f_sum + f_0, f_x + f_y):
                raise Skipped("the task is not linear")
            moves |= not np.array_equal(f_x, f_0)
    if not moves or not any(is_real(leaf) for leaf in bench.prepared.outputs.leaves):
        raise Skipped("no real output depends on a real input")
