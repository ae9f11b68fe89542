"""Where probes are made: the reference on one slot with made contents. In the judge."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256

import numpy as np

from kernelevolve.core.task import Task
from kernelevolve.evaluation import adversarial, inplace
from kernelevolve.evaluation.answers import Answers, Outputs, equal
from kernelevolve.evaluation.blocks import Block
from kernelevolve.evaluation.device import DeviceBlock
from kernelevolve.evaluation.domain import Domain, is_real, observe
from kernelevolve.evaluation.expected import Reference, Yardstick
from kernelevolve.evaluation.layout import Array, widened
from kernelevolve.evaluation.pool import Prepared
from kernelevolve.evaluation.probe import Plan, Probe, Skipped
from kernelevolve.evaluation.processes import Ended, Failed, Late, Runner
from kernelevolve.evaluation.traits import Traits
from kernelevolve.evaluation.verify import Verifier
from kernelevolve.evaluation.wire import Malformed
from kernelevolve.evaluation.yardstick import measure_yardstick

FROM_ONE_SET = 2.0
"""Sequential sums and sums in blocks differ by up to 1.6 times the budget of a single set."""
HONEST_ULPS = {"float64": 16.0, "float32": 16.0}
"""Equal terms round alike, so a sum of them in another order is off by this many units in the last
place of its row, however lucky the reference is. Sixteen bits are off by ten times the budget made
of it; outputs of sixteen bits are sums in more, rounded once."""
TOOTHLESS = 0.1
BEYOND = 4.0
"""What must be told apart differs by this many budgets."""


@dataclass
class Bench:
    """One workload's reference, as long as its pool lasts."""

    prepared: Prepared
    task: Task
    seed: str
    """Secret; the same one makes the same probes."""
    reference: Callable[[], Runner]
    """The reference's runner; a new one where the last has died."""
    perturb: bool
    _answers: Answers | None = None
    _slot: Block | None = None
    _there: Block | None = None
    """For the reference's outputs on the device."""
    _domains: dict[int, Domain] | None = None

    @cached_property
    def traits(self) -> Traits:
        """What the reference's operations promise; as little as can be where it cannot be run."""
        try:
            self._place(self.prepared.contents[0])
            return Traits.parse(self.answers().ask("traits"))
        except (Failed, Ended, Late, Malformed):
            self.restart()
            return Traits()

    @property
    def domains(self) -> dict[int, Domain]:
        """Which values each input may take."""
        if self._domains is None:
            prepared = self.prepared
            self._domains = observe(prepared.inputs, prepared.contents, self.traits)
        return self._domains

    @property
    def is_ambiguous_at_ties(self) -> bool:
        """Whether equal values leave open which integers, or which gradients, are right."""
        integers = any(not is_real(leaf) for leaf in self.prepared.outputs.leaves)
        gradients = self.task.backward and not self.traits.settled
        return gradients or (integers and not self.traits.selects)

    def random(self, name: str) -> np.random.Generator:
        """Chance of one probe, whatever was made before it."""
        text = f"{self.seed}/{self.prepared.workload.name}/{name}"
        return np.random.default_rng(int.from_bytes(sha256(text.encode()).digest()[:16], "big"))

    def answers(self) -> Answers:
        """The reference with this workload's state, one slot attached."""
        runner = self.reference()
        if self._answers is None or self._answers.runner is not runner:
            self._answers = Answers(runner, self.task, self.prepared.workload, self.prepared.oracle)
            self._answers.ask(
                "reference",
                seed=self.prepared.state_seed,
                perturb=self.perturb,
                mutated=list(self.prepared.mutated),
            )
            self.attach()
        return self._answers

    def attach(self) -> None:
        """Give the reference its one slot."""
        if self._slot is None:
            self._slot = self.prepared.place.room(self.prepared.inputs.nbytes)
        assert self._answers is not None
        self._answers.attach(self._slot, self.prepared.inputs, 1)

    def restart(self) -> None:
        """Set the reference up anew before the next question."""
        if self._answers is not None:
            self._answers.close()
        self._answers = None

    def close(self) -> None:
        """Free what is outside Python's reach."""
        self.restart()
        for block in (self._slot, self._there):
            if block is not None:
                block.close()

    def answer(self, content: Array) -> tuple[Outputs, Outputs]:
        """The reference's own outputs for some contents, and the oracle's.

        Raises:
            Skipped: the outputs have another shape.
            Failed: it raised.
        """
        native = self.native(content)
        return native, self.oracle(content, native)

    def native(self, content: Array) -> Outputs:
        """The reference's own outputs alone."""
        self._place(content)
        answer = self.answers().native(0)
        if answer.layout != self.prepared.outputs:
            raise Skipped("output shapes depend on the values")
        return answer.values

    def native_there(self, content: int) -> int:
        """The same on the device: contents and outputs are addresses there.

        Raises:
            Skipped, Failed: as above.
        """
        answers, outputs = self.answers(), self.prepared.outputs
        if self._there is None:
            self._there = self.prepared.place.room(outputs.nbytes)
        assert isinstance(self._slot, DeviceBlock) and isinstance(self._there, DeviceBlock)
        self._slot.adopt(content, self.prepared.inputs.nbytes)
        if answers.leave(0, self._there) != outputs:
            raise Skipped("output shapes depend on the values")
        return self._there.place

    def oracle(self, content: Array, native: Outputs) -> Outputs:
        """The oracle's outputs alone; `native` where there is no oracle."""
        if self.prepared.oracle != "float64":
            return native
        self._place(content)
        return self.answers().oracle(0)

    def _place(self, content: Array) -> None:
        self.answers()
        assert self._slot is not None
        self._slot.put(0, content)

    def probe(
        self, plan: Plan, made: Array, natural: Sequence[Reference], random: np.random.Generator
    ) -> Probe:
        """What the reference gives, and a budget from its own error and from the conditioning.

        Inputs moved by one unit in the last place may move outputs by more than the reference
        happens to be wrong: an honest kernel that rounds elsewhere may be as far off.

        Raises:
            Skipped: the reference does not define the result, or rounding decides it.
            Failed: the reference raised.
        """
        native, oracle = self.answer(made)
        answers = self.answers()
        expected = answers.judge(self.prepared.outputs, [native], [oracle])[0]
        for mine, theirs in zip(expected, natural, strict=True):
            _check_defined(mine, theirs, undefined=plan.undefined)
        own = answers.yardsticks([expected], [native])
        settled = self.traits.selects or plan.exact
        near = native if settled else self.oracle(self._jittered(made, random), native)
        judged = zip(expected, near, own, strict=True)
        yardsticks = [_wider(_conditioned(*one), one[0]) for one in judged]
        if self._toothless(expected, yardsticks):
            raise Skipped("rounding of the inputs alone moves the outputs as much as they are")
        left = inplace.NOTHING
        if self.prepared.left.yardsticks:
            left = self._left(made, near=made if settled else self._jittered(made, random))
        return Probe(plan, self.prepared.inputs, made, expected, yardsticks, left=left)

    def _left(self, made: Array, near: Array) -> inplace.Left:
        """What a reference that works in place leaves in these inputs; budgets as for outputs."""
        changed = self.prepared.left.yardsticks
        after, exact = self._places_after(made)
        found = inplace.left(self.prepared.inputs, [made], [after], exact, changed)
        others = self._places_after(near)[1] or [
            [np.array(widened(leaf, after)) for leaf in self.prepared.inputs.leaves]
        ]
        return found.wider(
            {
                index: _wider(_conditioned(reference, others[0][index], own), reference)
                for index, reference in found.expected[0].items()
                for own in [found.yardsticks[index]]
            }
        )

    def _places_after(self, content: Array) -> tuple[Array, list[Outputs]]:
        """Inputs behind the reference's call on them, and behind the oracle's if there is one."""
        self.native(content)
        assert self._slot is not None
        after = self._slot.seen(0, self.prepared.inputs.nbytes).copy()
        if self.prepared.oracle != "float64":
            return after, []
        self._place(content)
        self.answers().oracle(0)
        return after, [self.answers().oracle_inputs()]

    @cached_property
    def separates(self) -> bool:
        """Whether forward passes may come before the backward passes of earlier ones."""
        if not self.task.backward:
            return False
        self._place(self.prepared.contents[0])
        answers, count = self.answers(), len(self.prepared.plain.leaves)
        try:
            answers.ask("restore", poison=[])
            answers.ask("held", start=0, count=2, apart=True)
            found = answers.outcome().values[: 2 * count]
        except (Failed, Ended, Late, Malformed):
            self.restart()
            return False
        once = [reference.native for reference in self.prepared.expected[0][:count]]
        return equal(found, [*once, *once])

    def _jittered(self, made: Array, random: np.random.Generator) -> Array:
        return adversarial.jitter(self.prepared.inputs, self.domains, made, random)

    def excess(self, probe: Probe, outputs: Outputs) -> float:
        """How many budgets the worst output is off; at most 1 is accepted."""
        verifier = Verifier(self.task.tolerance, self.prepared.outputs, probe.yardsticks)
        both = enumerate(zip(probe.expected, outputs, strict=True))
        found = (verifier.excess(i, one, values, probe.yardsticks[i]) for i, (one, values) in both)
        return max(found, default=0.0)

    def _toothless(self, expected: Sequence[Reference], yardsticks: Sequence[Yardstick]) -> bool:
        """Whether even zeros would be within the budget of every output."""
        for reference, yardstick in zip(expected, yardsticks, strict=True):
            if reference.oracle is None:
                return False
            finite = reference.oracle[np.isfinite(reference.oracle)]
            size = float(np.sqrt(np.mean(finite**2))) if finite.size else 0.0
            if size == 0 or self.task.tolerance.rms * yardstick.rms < TOOTHLESS * size:
                return False
        return True


def _check_defined(probe: Reference, natural: Reference, *, undefined: bool) -> None:
    """What is not a number in the inputs may be so in the outputs where the probe is about that."""
    if probe.oracle is None or natural.oracle is None:
        return
    lost = np.isinf(probe.oracle) if undefined else ~np.isfinite(probe.oracle)
    if (lost & np.isfinite(natural.oracle)).any():
        raise Skipped("the float64 reference is not finite where it is on the task's own inputs")
    if not np.array_equal(np.isfinite(probe.native), np.isfinite(probe.oracle)):
        raise Skipped("the reference overflows in its own precision")


def _wider(measured: Yardstick, reference: Reference) -> Yardstick:
    """One set of inputs tells less of the reference's error than the pool does."""
    found = replace(
        measured,
        rms=FROM_ONE_SET * measured.rms,
        maximum=FROM_ONE_SET * measured.maximum,
        relative=FROM_ONE_SET * measured.relative,
    )
    ulps = HONEST_ULPS.get(reference.base, 0.0)
    if reference.oracle is None or not ulps or not reference.ulps.size:
        return found
    rms = float(np.sqrt(np.mean(reference.ulps**2)))
    return found.wider(
        Yardstick(found.oracle, ulps * rms, ulps * float(reference.ulps.max()), ulps)
    )


def _conditioned(reference: Reference, near: Array, own: Yardstick) -> Yardstick:
    if reference.oracle is None:
        stays = near == reference.native
        if reference.alternative is not None:
            stays |= near == reference.alternative
        if not stays.all():
            raise Skipped("rounding of the inputs alone changes integer outputs")
        return own
    return own.wider(measure_yardstick([reference], [near], own.oracle, 1.0))
