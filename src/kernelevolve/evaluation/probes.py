"""The probes of one workload: inputs made for a purpose, and what the reference gives for them.

In the judge. Each is made when it is first needed; what the reference cannot take is skipped, with
the reason.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random

from kernelevolve.core.detector import Detector
from kernelevolve.evaluation import (
    adversarial,
    beyond,
    linear,
    mutation,
    placement,
    renewal,
    succession,
)
from kernelevolve.evaluation.adversarial import Generator
from kernelevolve.evaluation.bench import Bench
from kernelevolve.evaluation.fresh import Fresh
from kernelevolve.evaluation.probe import Plan, Probe, Skipped
from kernelevolve.evaluation.processes import Ended, Failed, Late
from kernelevolve.evaluation.wire import Malformed

MUTANTS = 4
SMALL_BYTES = 1 << 18
LARGE_BYTES = 8 << 20
HUGE_BYTES = 64 << 20
FEW = 2
SOME = 6
KEPT_BYTES = 256 << 20
FIRST = {Detector.METAMORPHIC: 0, Detector.PARAMETERS: 1}
"""Whose probes come before the others: those after them may blame something else."""


@dataclass
class Suite:
    """All probes of one workload."""

    bench: Bench
    skipped: dict[str, str] = field(default_factory=dict)
    """Name to reason."""
    _made: dict[str, Probe] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.plans = _plans()
        self.fresh = Fresh(self.bench)
        self._few = self.plans
        if self.large:
            secret = Random(f"{self.bench.seed}/few")
            mutants = [p for p in self.plans if p.detector is Detector.METAMORPHIC]
            others = [p for p in self.plans if p.detector is not Detector.METAMORPHIC]
            self._few = [*mutants[:1], *secret.sample(others, 3)][: self._room]

    @property
    def large(self) -> bool:
        """Whether a verified call takes long: a pool then has few probes, the next one others."""
        return self.nbytes > LARGE_BYTES

    @property
    def huge(self) -> bool:
        """Whether all of its probes would take longer than a person waits for a final check."""
        return self.nbytes > HUGE_BYTES

    @property
    def nbytes(self) -> int:
        """Of the inputs and outputs of one call."""
        return self.bench.prepared.plain.nbytes + self.bench.prepared.inputs.nbytes

    @property
    def _room(self) -> int:
        """How many can be kept, so that a search need not make them for each candidate."""
        prepared = self.bench.prepared
        return max(1, KEPT_BYTES // (prepared.inputs.nbytes + 3 * prepared.outputs.nbytes))

    def take(
        self,
        random: Random,
        without: frozenset[Detector],
        *,
        everything: bool,
        confirming: bool = False,
    ) -> Iterator[Probe]:
        """Probes for one candidate; mutants come first. Never raises for what the reference does.

        Args:
            random: the candidate's secret.
            without: detectors whose probes are left out.
            everything: all that this pool has, instead of a choice of them.
            confirming: out of all that there are, although a large workload's must be made for it.
        """
        plans = self.plans if confirming else self._few
        plans = [p for p in plans if p.detector not in without]
        random.shuffle(plans)
        plans.sort(key=lambda p: FIRST.get(p.detector, len(FIRST)))
        everything = everything or self.nbytes <= SMALL_BYTES
        few = self.large and not confirming
        left = len(plans) if everything else FEW if few else SOME
        mutants = MUTANTS if everything else 1
        for plan in plans:
            mutant = plan.detector is Detector.METAMORPHIC
            probe = self.get(plan) if left and (mutants or not mutant) else None
            if probe is not None:
                mutants -= mutant
                left -= 1
                yield probe

    def get(self, plan: Plan) -> Probe | None:
        """The probe, made now if it was not; None where it is skipped."""
        if plan.name not in self.skipped and plan.name not in self._made:
            try:
                self._keep(self._make(plan))
            except Skipped as error:
                self.skipped[plan.name] = str(error)
            except (Failed, Ended, Late, Malformed) as error:
                self.bench.restart()
                self.skipped[plan.name] = f"the reference fails: {_first_line(error)}"
        return self._made.get(plan.name)

    def close(self) -> None:
        """Free what is outside Python's reach."""
        self._drop(0)
        self.bench.close()

    def _keep(self, probe: Probe) -> None:
        self._drop(KEPT_BYTES - probe.nbytes)
        self._made[probe.plan.name] = probe

    def _drop(self, most: int) -> None:
        """Forget the oldest until the rest fits; they can be made again."""
        while self._made and sum(p.nbytes for p in self._made.values()) > max(most, 0):
            self._made.pop(next(iter(self._made))).close()

    def _make(self, plan: Plan) -> Probe:
        random = self.bench.random(plan.name)
        base = int(random.integers(0, len(self.bench.prepared.contents)))
        if plan.detector is Detector.PARAMETERS:
            return renewal.make(self.bench, plan, base, random)
        if plan.detector is Detector.LINEAR:
            return linear.make(self.bench, plan, base, random)
        if plan.detector is Detector.METAMORPHIC:
            return mutation.make(self.bench, plan, base, random)
        if plan in succession.PLANS:
            return succession.make(self.bench, plan, base)
        if plan.name in placement.VIEWS:
            return placement.make(self.bench, plan, base)
        return self._adversarial(plan, base)

    def _adversarial(self, plan: Plan, base: int) -> Probe:
        """The strongest form that the reference can take."""
        generator = GENERATORS[plan.name]
        prepared = self.bench.prepared
        if generator.ties and self.bench.is_ambiguous_at_ties:
            raise Skipped("equal values make integer outputs or gradients ambiguous")
        if generator.undefined and self.bench.task.backward and not self.bench.traits.smooth:
            raise Skipped("which gradient belongs to NaN is documented nowhere")
        if generator.unseen and "real" in generator.kinds and self.bench.traits.truncates:
            raise Skipped("the reference converts floats to integers, which holds for some only")
        reason = ""
        for strength in generator.tries:
            random = self.bench.random(f"{plan.name}/{strength}")
            made = adversarial.make(
                generator,
                prepared.inputs,
                self.bench.domains,
                prepared.contents[base],
                random,
                strength,
            )
            if made is None:
                raise Skipped("no input has such values")
            try:
                return self.bench.probe(plan, made, prepared.expected[base], random)
            except Skipped as error:
                reason = str(error)
            except Failed as error:
                reason = f"the reference raises {error.error.get('type', 'an exception')}"
        raise Skipped(reason)


GENERATORS: dict[str, Generator] = {
    g.name: g for g in (*adversarial.GENERATORS, *beyond.GENERATORS)
}


def _plans() -> list[Plan]:
    made = [
        Plan(g.name, Detector.ADVERSARIAL, g.what, g.advice, undefined=g.undefined, exact=g.exact)
        for g in GENERATORS.values()
    ]
    for name, view in placement.VIEWS.items():
        made.append(Plan(name, Detector.ADVERSARIAL, view.what, placement.ADVICE))
    made += renewal.PLANS
    made += succession.PLANS
    made.append(Plan("integers", Detector.LINEAR, linear.WHAT, linear.ADVICE))
    for number in range(MUTANTS):
        name = f"mutant-{number}"
        made.append(Plan(name, Detector.METAMORPHIC, mutation.WHAT, mutation.ADVICE))
    return made


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120]
