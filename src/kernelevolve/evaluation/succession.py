"""The probes of tasks whose calls change buffers: a later call finds what earlier ones left."""

from dataclasses import replace

from kernelevolve.core.detector import Detector
from kernelevolve.evaluation.bench import BEYOND, Bench
from kernelevolve.evaluation.probe import Plan, Probe, Skipped
from kernelevolve.evaluation.yardstick import measure_yardstick

ADVICE = "change the buffers in every call as the reference does"
PLANS = (
    Plan(
        "succession",
        Detector.ADVERSARIAL,
        "a call right behind another one, whose changes to buffers stay",
        ADVICE,
    ),
    Plan(
        "long-succession",
        Detector.ADVERSARIAL,
        "a call behind so many that a buffer which they fill is full",
        f"{ADVICE}, beyond its end too",
    ),
)
MOST_CALLS = 130
MOST_BYTES = 32 << 20


def _calls(bench: Bench, plan: Plan) -> int:
    """Two, or one more than there are places along any dimension of a buffer."""
    if plan is PLANS[0]:
        return 2
    prepared = bench.prepared
    buffers = prepared.outputs.leaves[len(prepared.plain.leaves) :]
    places = [n for leaf in buffers for n in leaf.shape if n < MOST_CALLS]
    calls = max(places, default=0) + 1
    if calls <= 2 or calls * prepared.inputs.nbytes > MOST_BYTES:
        raise Skipped("no buffer has an end that few calls reach")
    return calls


def make(bench: Bench, plan: Plan, base: int) -> Probe:
    """Set `base` of the pool behind others.

    Raises:
        Skipped: calls change no buffers, or change their inputs.
    """
    prepared = bench.prepared
    if not prepared.mutated or prepared.mutates_inputs or len(prepared.contents) < 2:
        raise Skipped("calls change no buffers that a second call could find changed")
    calls, sets = _calls(bench, plan), len(prepared.contents)
    before = [prepared.contents[(base - left) % sets] for left in range(calls - 1, 0, -1)]
    content, answers, nbytes = prepared.contents[base], bench.answers(), prepared.inputs.nbytes
    block = prepared.place.room(calls * nbytes)
    try:
        answers.attach(block, prepared.inputs, calls)
        for number, one in enumerate((*before, content)):
            block.put(number, one)
        native = answers.native(0, count=calls).values
        last, wide = calls - 1, prepared.oracle == "float64"
        oracle = answers.oracle(last, behind=last) if wide else native
    finally:
        block.close()
        bench.attach()
    expected = answers.judge(prepared.outputs, [native], [oracle])[0]
    yardsticks = [
        replace(usual, rms=calls * usual.rms, maximum=calls * usual.maximum).wider(
            measure_yardstick([reference], [values], usual.oracle, calls)
        )
        for usual, reference, values in zip(prepared.yardsticks, expected, native, strict=True)
    ]
    probe = Probe(plan, prepared.inputs, content.copy(), expected, yardsticks, before=before)
    if bench.excess(probe, [reference.native for reference in prepared.expected[base]]) < BEYOND:
        raise Skipped("later calls leave what a single one leaves")
    return probe
