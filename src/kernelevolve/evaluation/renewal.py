"""The probe of parameters that change under a module that was called, as training changes them."""

import numpy as np

from kernelevolve.evaluation.bench import BEYOND, Bench
from kernelevolve.evaluation.probe import Plan, Probe, Skipped

NAME = "renewed-parameters"
WHAT = "parameters that changed in place since the first call"
ADVICE = (
    "derive what you need of parameters in prepare(), which is called again when they have "
    "changed, or in every forward"
)


def make(bench: Bench, plan: Plan, base: int, random: np.random.Generator) -> Probe:
    """Set `base` of the pool with other parameters.

    Raises:
        Skipped: there are none, or they do not matter.
    """
    prepared, answers = bench.prepared, bench.answers()
    if not answers.ask("moved", seed=int(random.integers(1 << 62)))["changed"]:
        raise Skipped("there are no float parameters")
    try:
        natural = prepared.expected[base]
        probe = bench.probe(plan, prepared.contents[base].copy(), natural, random)
        answers.ask("restore", poison=[])
        state_fd = answers.state()[1]
    finally:
        answers.ask("moved", seed=None)
    probe.state_fd = state_fd
    probe.yardsticks = [
        mine.wider(theirs)
        for mine, theirs in zip(probe.yardsticks, prepared.yardsticks, strict=True)
    ]
    if bench.excess(probe, [reference.native for reference in natural]) < BEYOND:
        probe.close()
        raise Skipped("other parameters do not move the outputs beyond the budget")
    return probe
