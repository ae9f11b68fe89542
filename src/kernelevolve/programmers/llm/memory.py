"""What a node's parents and history say: one directive now, the rest later, what already failed.

The context memory of the universal operator. An agent with a model of its own may refine it; these
rules need none.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from kernelevolve.core.candidate import Attempt, Brief
from kernelevolve.core.evaluation import Evaluation, Status
from kernelevolve.core.record import Record

MOST_FAILED = 8
FAR_FRACTION = 0.3
"""Of a measured peak: below it, the limit that is named does not bind yet."""
GOOD_FRACTION = 0.85
"""Of a measured peak: beyond it, little is left to gain by what the limit names."""

DIRECTIVES = {
    "memory": "Move fewer bytes: fuse passes so that every input is read and every output written "
    "once, keep intermediates in registers or on-chip memory, make accesses contiguous and wide.",
    "cache": "Work within the fastest memory that the data fits: smaller tiles, fewer passes, "
    "independent streams of loads.",
    "compute": "Do less arithmetic or do it faster: vector or tensor instructions, cheaper "
    "formulas of equal accuracy, more independent operations in flight.",
    "overhead": "Cut what happens around the work: fewer launches and allocations, less Python, "
    "one kernel instead of several.",
    "unknown": "Try a structurally different kernel.",
}
REPAIRS = {
    Status.INVALID: "Bring the answer into the form of a candidate; keep what the kernel computes.",
    Status.BUILD_FAILED: "Make it compile; change nothing else until it does.",
    Status.INCOMPATIBLE_STATE: "Give ModelNew the reference's constructor, parameter and buffer "
    "names and shapes, so that its state loads.",
    Status.WRONG: "Make it correct before it is fast: find which elements differ and why (bounds, "
    "a remainder of a tile, an uninitialised value, accumulation in too little precision).",
    Status.CRASHED: "Find the access or call that fails: bounds, strides, sizes that a tile does "
    "not divide, non-contiguous inputs.",
    Status.TIMEOUT: "It did not end in time: look for an endless loop or a wait, or for work that "
    "grows with the square of a size.",
    Status.OUT_OF_MEMORY: "Use less memory: no copies of large inputs, scratch that is freed or "
    "reused.",
    Status.IMPOSSIBLE: "It was faster than the hardware allows: it does not do all of the work. "
    "Compute every output from the inputs of this call.",
    Status.REJECTED: "It broke a rule of the harness; obey the message below to the letter.",
}


class Reading(Record):
    """A structured diagnosis with one primary directive."""

    symptom: str
    """What binds, in a phrase that a knowledge base can be searched for."""
    directive: str
    """The one thing to do now."""
    deferred: tuple[str, ...] = Field(default=(), max_length=6)
    """What is worth doing later."""
    failed: tuple[str, ...] = Field(default=(), max_length=MOST_FAILED)
    """Strategies that were tried and did not help, with what came of each."""


def read(brief: Brief) -> Reading:
    """The reading that needs no model."""
    parent = brief.parents[0] if brief.parents else None
    failed = tuple(_failed(brief))[-MOST_FAILED:]
    if parent is None:
        return Reading(
            symptom=_subject(brief),
            directive="Begin with the earlier kernel that is shown, changed to what this task asks."
            if brief.recalled
            else "Write a first kernel that is correct, with the plainest structure that "
            "reads each input once; let later attempts refine it."
            if not brief.history
            else "Start anew, with a structure that none of the attempts shown has.",
            failed=failed,
        )
    if len(brief.parents) > 1:
        return Reading(
            symptom=_symptom(parent.evaluation),
            directive=f"Combine what is good in {_names(brief.parents)} into one kernel; where "
            "they exclude each other, keep what measured faster.",
            deferred=(_directive(parent.evaluation),),
            failed=failed,
        )
    return Reading(
        symptom=_symptom(parent.evaluation),
        directive=_directive(parent.evaluation),
        deferred=tuple(_deferred(parent.evaluation)),
        failed=failed,
    )


def _directive(evaluation: Evaluation) -> str:
    if not evaluation.ok:
        return REPAIRS.get(evaluation.status, DIRECTIVES["unknown"])
    diagnosis = evaluation.diagnosis
    if diagnosis is None:
        return DIRECTIVES["unknown"]
    if diagnosis.fraction is not None and diagnosis.fraction >= GOOD_FRACTION:
        return (
            f"It reaches {diagnosis.fraction:.0%} of the measured peak, so that little is left: "
            "look for less work (algebra, recomputation, another layout), else leave it as it is "
            "but for tuning."
        )
    if diagnosis.fraction is not None and diagnosis.fraction < FAR_FRACTION:
        return (
            f"It reaches {diagnosis.fraction:.0%} of the nearest peak, so that neither bandwidth "
            "nor arithmetic binds yet: look for latency (dependent operations, loads that wait for "
            f"each other, short loops, calls), then: {DIRECTIVES[diagnosis.limit]}"
        )
    return DIRECTIVES[diagnosis.limit]


def _deferred(evaluation: Evaluation) -> list[str]:
    """Workloads that lag behind, which come after the binding limit."""
    usual = evaluation.score or 0.0
    slow = [t for t in evaluation.timings if t.speedup < 0.8 * usual]
    return [f"workload {t.workload} gains only {t.speedup:.2f}x" for t in slow[:2]]


def _symptom(evaluation: Evaluation) -> str:
    if not evaluation.ok:
        first = evaluation.message.strip().splitlines() or [""]
        return f"{str(evaluation.status).replace('_', ' ')}: {first[0][:200]}"
    diagnosis = evaluation.diagnosis
    return diagnosis.sentence if diagnosis else "no diagnosis"


def _subject(brief: Brief) -> str:
    statement = brief.task.statement.strip().splitlines() or [""]
    return f"{brief.task.name.replace('_', ' ')} {statement[0]}".strip()


def _failed(brief: Brief) -> list[str]:
    """Of what is remembered: what did not pass, or passed and was slower than its elders."""
    lines, best = [], 0.0
    for attempt in brief.history:
        score = attempt.evaluation.score
        if score is None:
            lines.append(f"{_what(attempt)}: {_symptom(attempt.evaluation)}")
        elif score <= best:
            lines.append(f"{_what(attempt)}: {score:.2f}x, no gain")
        best = max(best, score or 0.0)
    return lines


def _what(attempt: Attempt) -> str:
    return f"#{attempt.number} {attempt.summary or 'without a summary'}"


def _names(attempts: Sequence[Attempt]) -> str:
    return " and ".join(f"#{a.number}" for a in attempts)
