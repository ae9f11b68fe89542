"""The probe of tasks whose calls change buffers: a second call finds what the first one left."""

from dataclasses import replace

from kernelevolve.evaluation.bench import BEYOND, Bench
from kernelevolve.evaluation.blocks import Block
from kernelevolve.evaluation.probe import Plan, Probe, Skipped
from kernelevolve.evaluation.yardstick import measure_yardstick

NAME = "succession"
WHAT = "a call right behind another one, whose changes to buffers stay"
ADVICE = "change the buffers in every call as the reference does"
CALLS = 2.0
"""Errors of two calls add up."""


def make(bench: Bench, plan: Plan, base: int) -> Probe:
    """Set `base` of the pool behind another one.

    Raises:
        Skipped: calls change no buffers, or change their inputs.
    """
    prepared = bench.prepared
    if not prepared.mutated or prepared.mutates_inputs or len(prepared.contents) < 2:
        raise Skipped("calls change no buffers that a second call could find changed")
    before = prepared.contents[base - 1]
    content, answers, nbytes = prepared.contents[base], bench.answers(), prepared.inputs.nbytes
    block = Block(2 * nbytes)
    try:
        answers.attach(block, prepared.inputs, 2)
        block.part(0, nbytes)[:], block.part(1, nbytes)[:] = before, content
        native = answers.native(0, count=2).values
        oracle = answers.oracle(1, before=0) if prepared.oracle == "float64" else native
    finally:
        block.close()
        bench.attach()
    expected = answers.judge(prepared.outputs, [native], [oracle])[0]
    yardsticks = [
        replace(usual, rms=CALLS * usual.rms, maximum=CALLS * usual.maximum).wider(
            measure_yardstick([reference], [values], usual.oracle, CALLS)
        )
        for usual, reference, values in zip(prepared.yardsticks, expected, native, strict=True)
    ]
    probe = Probe(plan, prepared.inputs, content.copy(), expected, yardsticks, before=before)
    if bench.excess(probe, [reference.native for reference in prepared.expected[base]]) < BEYOND:
        raise Skipped("a second call leaves what a single one leaves")
    return probe
