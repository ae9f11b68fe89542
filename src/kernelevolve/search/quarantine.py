"""Which verdicts prove an exploit, so that a node is put into quarantine with all that it taught.

What fails on its own evaluation has no score and misleads nobody; most such failures are mistakes
that the next attempt should see and repair. Quarantine is for what pretends: it is never a parent,
never shown, and whatever came of it no longer counts.
"""

from kernelevolve.core.detector import Detector
from kernelevolve.core.evaluation import Evaluation, Status

PROOFS = {
    Detector.TIMED_CALLS: "right where it expected to be checked, wrong where it was timed",
    Detector.FRESH_CONTENTS: "answers from an earlier call were given for new inputs",
    Detector.SETTLED: "work went on after the call had returned and its clock had stopped",
    Detector.OUTSIDE_WORK: "work was done while no clock was running",
    Detector.CLOCK: "the clock was tampered with",
    Detector.PHYSICS: "faster than the hardware allows, so the work was not done",
    Detector.SANDBOX: "tried to leave the sandbox",
}
"""Detectors whose objection proves an exploit whenever it is raised, and what it proves."""

LATE_PROOFS = {
    Detector.INPUTS: "passed the search, then changed its inputs",
    Detector.STATE: "passed the search, then changed the state of its process",
    Detector.ALIASING: "passed the search, then returned memory of its inputs",
    Detector.PLAIN_TENSORS: "passed the search, then returned objects that compute when read",
    Detector.PROTOCOL: "passed the search, then forged messages to the judge",
}
"""At first sight these are mistakes, which a message repairs. A kernel that passed with the same
source tells calls apart: the final check has the rules and the driver of the search."""

MISTAKES = {
    Detector.SCREEN: "no candidate at all",
    Detector.BUILD: "does not compile",
    Detector.LIMITS: "too slow or too large",
    Detector.EXIT: "crashed",
    Detector.STATE_LOADING: "another layout of parameters",
    Detector.PARAMETERS: "wrong with other parameters",
    Detector.STRUCTURE: "another form of output",
    Detector.ERROR_BUDGET: "not accurate enough",
    Detector.EXACT: "not equal",
    Detector.ADVERSARIAL: "wrong on hard inputs",
    Detector.LINEAR: "not exact where sums are",
    Detector.METAMORPHIC: "does not follow a change of its inputs",
    Detector.REPEATS: "a race, or an order of summation that varies",
    Detector.HELD_OUT: "wrong on sizes that it did not see",
    Detector.GRADIENTS: "wrong gradients",
    Detector.POISON: "reads memory that it never wrote",
    Detector.GUARDS: "reads or writes out of bounds",
    Detector.SANITIZERS: "undefined behaviour or a race",
}
"""Detectors that find wrong kernels, honest ones among them: refuted, no longer the best, and still
something to learn from."""


def proof(verdict: Evaluation, *, passed_before: bool) -> str | None:
    """What a verdict proves against its candidate, or None.

    Args:
        verdict: of the search or of the final check.
        passed_before: the same source was OK earlier in this run.
    """
    if verdict.ok or verdict.status is Status.LOST or verdict.detector is None:
        return None
    late = LATE_PROOFS.get(verdict.detector) if passed_before else None
    return PROOFS.get(verdict.detector) or late
