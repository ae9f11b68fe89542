"""The verdict on outputs: raw buffers against the oracle's, within an error budget."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod, sqrt
from typing import Any, NamedTuple, Protocol

import numpy as np

from kernelevolve.core.detector import Detector
from kernelevolve.core.task import Tolerance
from kernelevolve.evaluation.expected import LOST, Reference, Yardstick, error_of
from kernelevolve.evaluation.layout import Array, Layout, describe, paths, widened
from kernelevolve.evaluation.near import Errors, square_sum
from kernelevolve.evaluation.rounding import rows
from kernelevolve.evaluation.spread import chunks, mapped

MOST_LOST = 0.05
HOPELESS = 10.0
"""Who is off by so many budgets needs no exact figure."""


class Objection(Exception):
    """A detector does not accept what a candidate did; the message is for its author."""

    def __init__(self, detector: Detector, message: str) -> None:
        super().__init__(message)
        self.detector = detector


class Wrong(Objection):
    """Outputs are not what the reference computes."""


class Broken(Objection):
    """A rule of the harness was broken."""


class Unseen(Objection):
    """The judge could not look, which may be the machine's fault: no verdict, and no score."""


@dataclass
class Worst:
    """Largest errors seen, relative to their budgets."""

    rms: float = 0.0
    maximum: float = 0.0
    strict: float = 0.0
    """RMS error over the budget that holds where precision must be kept."""

    def add(self, rms: float, maximum: float) -> None:
        """One more comparison."""
        self.rms, self.maximum = max(self.rms, rms), max(self.maximum, maximum)


@dataclass
class Verifier:
    """Compares the outputs of one workload."""

    tolerance: Tolerance
    layout: Layout
    """Of the reference's outputs, row-major."""
    yardsticks: list[Yardstick]
    without: frozenset[Detector] = frozenset()
    device: str = "cpu"
    """Where outputs belong."""
    worst: dict[int, Worst] = field(default_factory=dict)
    flags: set[str] = field(default_factory=set)

    def header(self, reply: Mapping[str, Any], *, may_alias: Sequence[bool]) -> Layout:
        """Check structure, types, devices and aliasing of what a runner describes.

        Raises:
            Wrong: the structure differs.
            Broken: an output is not a plain tensor, or lies in the inputs' memory.
        """
        got = Layout.parse(reply)
        if got.tree != self.layout.tree:
            raise Wrong(
                Detector.STRUCTURE,
                f"forward returns {describe(got.tree)}; the reference returns "
                f"{describe(self.layout.tree)}",
            )
        names = paths(self.layout.tree)
        for index, (mine, theirs) in enumerate(zip(got.leaves, self.layout.leaves, strict=True)):
            if (mine.dtype, mine.shape) != (theirs.dtype, theirs.shape):
                raise Wrong(
                    Detector.STRUCTURE,
                    f"{names[index]} is {mine.describe()}; the reference returns "
                    f"{theirs.describe()}",
                )
        self._rules(reply, names, may_alias)
        return got

    def _rules(
        self, reply: Mapping[str, Any], names: Mapping[int, str], may_alias: Sequence[bool]
    ) -> None:
        for index, name in names.items():
            if reply["types"][index] != "Tensor":
                self._object(
                    Broken(
                        Detector.PLAIN_TENSORS,
                        f"{name} is a {reply['types'][index]}; return plain torch.Tensor",
                    )
                )
            if reply["devices"][index] != self.device:
                self._object(
                    Broken(
                        Detector.PLAIN_TENSORS,
                        f"{name} lies on {reply['devices'][index]}; return it on {self.device}",
                    )
                )
            if reply["aliases"][index] and not may_alias[index]:
                self._object(
                    Broken(
                        Detector.ALIASING,
                        f"{name} shares memory with an input or parameter; return its own",
                    )
                )

    def keeps_small(self, yardstick: Yardstick) -> bool:
        """Whether each element must keep its value: the task allows nothing beyond rounding."""
        strict = yardstick.strict is None and yardstick.oracle == "float64"
        return strict and yardstick.usual and not self.tolerance.widened

    def _object(self, objection: Objection) -> None:
        if objection.detector not in self.without:
            raise objection

    def check(
        self,
        expected: Sequence[Reference],
        block: Array,
        yardsticks: Sequence[Yardstick] | None = None,
        detector: Detector | None = None,
    ) -> None:
        """Compare every output.

        Args:
            expected: what the reference gives for the inputs of this call.
            block: the outputs.
            yardsticks: of inputs that were made for one purpose, instead of the workload's own.
            detector: what made these inputs, and so what objects.

        Raises:
            Wrong: an output is outside its budget; the message names the first bad element.
        """
        yardsticks = yardsticks or self.yardsticks
        for index, reference in enumerate(expected):
            values = widened(self.layout.leaves[index], block)
            try:
                near = self._check(index, reference, values, yardsticks[index])
                small = reference.oracle is not None and self.keeps_small(yardsticks[index])
                if small and not (near and near.lost(LOST) <= MOST_LOST * values.size):
                    _check_lost(reference, values, paths(self.layout.tree)[index])
            except Wrong as error:
                self._object(Wrong(detector or error.detector, str(error)))

    def excess(
        self, index: int, reference: Reference, values: Array, yardstick: Yardstick
    ) -> float:
        """How many budgets one output is off; at most 1 is accepted.

        Where a glance at a few rows shows that it is hopeless, by what they are off.
        """
        if (seen := self._glance(reference, values, yardstick)) >= HOPELESS:
            return seen
        self.worst.pop(index, None)
        try:
            self._check(index, reference, values, yardstick)
        except Wrong:
            worst = self.worst.get(index)
            return max(worst.maximum, worst.rms) if worst else float("inf")
        return 0.0

    def _glance(self, reference: Reference, values: Array, yardstick: Yardstick) -> float:
        """How many budgets the first rows are off."""
        if reference.oracle is None or not reference.oracle.size:
            return 0.0
        oracle, native = rows(reference.oracle), rows(reference.native)
        part = chunks(oracle)[0]
        error = error_of(rows(values)[part], oracle[part], native[part]).max(axis=1)
        budget = Budgets.of(reference, yardstick, self.tolerance).rows[part]
        return float(_in_budgets(error, budget).max(initial=0.0))

    def _check(
        self, index: int, reference: Reference, values: Array, yardstick: Yardstick
    ) -> Errors | None:
        """Upper bounds of the errors, where they were enough."""
        name = paths(self.layout.tree)[index]
        if reference.oracle is None:
            _check_exact(reference, values, name)
            return None
        worst = self.worst.setdefault(index, Worst())
        budgets = Budgets.of(reference, yardstick, self.tolerance)
        near = reference.near(values) if budgets.strict is None else None
        if near and budgets.hold(near):
            share = _in_budgets(near.rms, budgets.rms)
            worst.add(float(share), float(_in_budgets(near.largest, budgets.rows).max()))
            return near
        _check_close(reference, values, budgets, worst, name)
        return None


def _check_exact(reference: Reference, values: Array, name: str) -> None:
    wrong = values != reference.native
    if reference.alternative is not None:
        wrong &= values != reference.alternative
    if wrong.any():
        place = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise Wrong(
            Detector.EXACT,
            f"{name}: {int(wrong.sum())} of {values.size} elements differ and must be exact; "
            f"first at {list(place)}: expected {reference.native[place]}, got {values[place]}",
        )


class Scaled(Protocol):
    """What budgets are made of beside the yardstick."""

    @property
    def ulps(self) -> Array:
        """Unit in the last place at each row's scale."""

    @property
    def rms_floor(self) -> float:
        """RMS of one unit in the last place at the elements' own sizes."""


@dataclass(frozen=True)
class Budgets:
    """Of one output for one set of inputs."""

    rows: Array
    """The largest error accepted in each row."""
    rms: float
    strict: float | None
    """For RMS, without the permission to compute in less precision."""
    text: str
    """What the RMS budget is made of."""

    @classmethod
    def of(cls, reference: Scaled, yardstick: Yardstick, tolerance: Tolerance) -> "Budgets":
        ulps = reference.ulps
        least = tolerance.ulps * float(np.sqrt(np.mean(ulps**2))) if ulps.size else 0.0
        if yardstick.usual:
            least = min(least, tolerance.ulps / 2 * reference.rms_floor)
        strict = yardstick.strict
        return cls(
            allowance(reference, yardstick, tolerance),
            max(tolerance.rms * yardstick.rms, least),
            None if strict is None else max(tolerance.rms * strict, least),
            f"{tolerance.rms:g} times the reference's own error",
        )

    def hold(self, near: Errors) -> bool:
        """Whether errors of at most so much are within."""
        return near.rms_at_most <= self.rms and bool((near.largest_at_most <= self.rows).all())


class Off(NamedTuple):
    """How far a part of an output is off."""

    squares: float
    """Sum of squared errors."""
    largest: float
    """In budgets of its row."""
    bad: int = 0
    """Elements outside."""
    first: tuple[int, int] | None = None
    """Row and column of the first of them."""


def _check_close(
    reference: Reference, values: Array, budgets: Budgets, worst: Worst, name: str
) -> None:
    assert reference.oracle is not None
    oracle, got, native = rows(reference.oracle), rows(values), rows(reference.native)

    def look(part: slice) -> Off:
        error = error_of(got[part], oracle[part], native[part])
        ratio = float(_in_budgets(error.max(axis=1), budgets.rows[part]).max(initial=0.0))
        off = None if ratio <= 1.0 else ~(error <= budgets.rows[part, None])
        if off is None or not off.any():
            return Off(square_sum(error), ratio)
        row, column = np.argwhere(off)[0]
        return Off(square_sum(error), ratio, int(off.sum()), (part.start + int(row), int(column)))

    seen = mapped(look, chunks(oracle))
    largest = max((one.largest for one in seen), default=0.0)
    bad, first = sum(one.bad for one in seen), next((one.first for one in seen if one.bad), None)
    rms = sqrt(sum(one.squares for one in seen) / max(1, oracle.size))
    share = float(_in_budgets(rms, budgets.rms))
    worst.add(share, largest)
    if budgets.strict is not None:
        worst.strict = max(worst.strict, float(_in_budgets(rms, budgets.strict)))
    if first is not None:
        text = _message(reference, values, name, first, bad, largest, budgets.rows)
        raise Wrong(Detector.ERROR_BUDGET, text)
    if share > 1.0:
        raise Wrong(
            Detector.ERROR_BUDGET,
            f"{name}: RMS error {rms:.3g} is {share:.3g} times its budget {budgets.rms:.3g} "
            f"({budgets.text}); no single element stands out: sum or compute in more precision",
        )


def _in_budgets(error: Array | float, budget: Array | float) -> Array:
    """How many budgets an error is; no error is none even of a budget of nothing."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(np.equal(error, 0.0), 0.0, np.divide(error, budget))


def _check_lost(reference: Reference, values: Array, name: str) -> None:
    """Of values within the budget of their row, few may be unlike what they should be."""
    assert reference.oracle is not None
    oracle, got, native = reference.oracle.ravel(), values.ravel(), reference.native.ravel()

    def look(part: slice) -> int:
        return reference.lost_in(error_of(got[part], oracle[part], native[part]), oracle[part])

    lost = sum(mapped(look, chunks(oracle[:, None])))
    if lost > 4 * reference.lost + MOST_LOST * oracle.size:
        raise Wrong(
            Detector.ERROR_BUDGET,
            f"{name}: {lost} of {oracle.size} elements are wrong by more than a quarter of their "
            f"value, {reference.lost} of the reference's are: compute small values too",
        )


def allowance(reference: Scaled, yardstick: Yardstick, tolerance: Tolerance) -> Array:
    """The largest error accepted in each row.

    Rows of very different scales have errors of very different scales: the reference's largest
    error relative to its row then bounds the others' too.
    """
    floor = tolerance.ulps * reference.ulps
    most = np.minimum(yardstick.maximum, yardstick.relative * reference.ulps)
    allowed: Array = np.maximum(tolerance.maximum * most, floor)
    return allowed


def _message(
    reference: Reference,
    values: Array,
    name: str,
    first: tuple[int, int],
    bad: int,
    largest: float,
    allowed: Array,
) -> str:
    assert reference.oracle is not None
    width = rows(reference.oracle).shape[1]
    shape = reference.oracle.shape
    place = np.unravel_index(first[0] * width + first[1], shape) if prod(shape) else ()
    index = tuple(int(i) for i in place)
    return (
        f"{name}: {bad} of {values.size} elements are outside the error budget; first at "
        f"{list(index)}: expected {reference.oracle[index]:.9g}, got {values[index]:.9g} "
        f"(allowed error {allowed[first[0]]:.3g}); the worst is {largest:.3g} times its budget"
    )
