"""The probes of parameters that change under a module that was called, as training changes them."""

import numpy as np

from kernelevolve.core.detector import Detector
from kernelevolve.evaluation.bench import BEYOND, Bench
from kernelevolve.evaluation.probe import Plan, Probe, Skipped

ADVICE = (
    "derive what you need of parameters in prepare(), which is called again when they have "
    "changed, or in every forward"
)
SECOND = "second-module"
TRAINED = "training gives parameters any sign and size: rely on none, or take another path there"
PLANS = (
    Plan(
        "renewed-parameters",
        Detector.PARAMETERS,
        "parameters that changed in place since the first call",
        ADVICE,
    ),
    Plan("trained-parameters", Detector.PARAMETERS, "parameters of any sign and size", TRAINED),
    Plan("large-parameters", Detector.PARAMETERS, "parameters of four times their size", TRAINED),
    Plan(
        SECOND,
        Detector.PARAMETERS,
        "a second module with other parameters, beside the first",
        "keep what belongs to a module on the module, not in globals or static variables",
    ),
)
FAR = {
    "renewed-parameters": ("",),
    "trained-parameters": ("zeros", "signs"),
    "large-parameters": ("large",),
    SECOND: ("",),
}
"""How far parameters move, the strongest first; see `modules.train`."""


def make(bench: Bench, plan: Plan, base: int, random: np.random.Generator) -> Probe:
    """Set `base` of the pool with other parameters, as far away as the reference can take.

    Raises:
        Skipped: there are none, they do not matter, or the reference takes no others.
    """
    reason = ""
    for far in FAR[plan.name]:
        try:
            return _make(bench, plan, base, random, far)
        except Skipped as error:
            reason = str(error)
    raise Skipped(reason)


def _make(bench: Bench, plan: Plan, base: int, random: np.random.Generator, far: str) -> Probe:
    prepared, answers = bench.prepared, bench.answers()
    if not answers.ask("moved", seed=int(random.integers(1 << 62)), far=far)["changed"]:
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
