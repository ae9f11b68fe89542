"""The verdict on outputs: raw buffers against the oracle's, within an error budget."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import prod, sqrt
from typing import Any, Literal

import numpy as np

from kernelevolve.core.detector import Detector
from kernelevolve.core.task import Tolerance
from kernelevolve.evaluation.layout import (
    COMPLEX,
    FLOATS,
    Array,
    Layout,
    Leaf,
    describe,
    paths,
    widened,
)
from kernelevolve.evaluation.rounding import EPSILON, TINY, row_scale, rows, ulp

OracleKind = Literal["float64", "float32", "exact"]
CHUNK = 1 << 16
NORMAL = {"float64": 2.3e-308, "float32": 1.2e-38, "float16": 1e-6, "bfloat16": 1.2e-38}
"""Smaller values may be flushed to zero."""
MANY = 64
"""So many elements, and luck with the rounding of some evens out."""
LOST = 0.25
"""An element that is wrong by more than this share of itself is lost."""
MOST_LOST = 0.05


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
class Reference:
    """What one output of the reference is, for one set of inputs."""

    leaf: Leaf
    native: Array
    """As the reference returned it; brain floats widened."""
    oracle: Array | None
    """Float64; None where native values are compared exactly."""
    alternative: Array | None = None
    """For integers: what the oracle chose, where it differs."""

    @cached_property
    def ulps(self) -> Array:
        """Unit in the last place at each row's scale."""
        assert self.oracle is not None
        return ulp(row_scale(rows(self.oracle)), self.base)

    @cached_property
    def rms_floor(self) -> float:
        """RMS of one unit in the last place at the elements' own sizes; two where they are few."""
        assert self.oracle is not None
        flat = self.oracle[np.isfinite(self.oracle)]
        rms = sqrt(float(np.dot(flat, flat)) / max(1, flat.size))
        return max(EPSILON[self.base] * rms, TINY[self.base]) * (1 if flat.size >= MANY else 2)

    @cached_property
    def lost(self) -> int:
        """How many elements the reference itself loses."""
        assert self.oracle is not None
        return self.lost_in(_error(self.native, self.oracle, self.native), self.oracle)

    def lost_in(self, error: Array, oracle: Array) -> int:
        """How many elements are wrong by a good part of what they are."""
        size = np.abs(oracle)
        return int(np.count_nonzero((error > LOST * size) & (size > NORMAL[self.base])))

    @property
    def base(self) -> str:
        """The float type that its elements are counted in."""
        return COMPLEX.get(self.leaf.dtype, self.leaf.dtype)


@dataclass
class Yardstick:
    """The reference's own error in one output, over the pool, and the budget made of it."""

    oracle: OracleKind
    rms: float = 0.0
    maximum: float = 0.0
    relative: float = float("inf")
    """The largest error in units of its row's ulp, where rows differ much in scale."""
    usual: bool = False
    """Of the task's own inputs: many sets, on which luck with rounding evens out."""
    strict: float | None = None
    """RMS budget without the task's permission to compute in less precision."""

    def wider(self, other: "Yardstick") -> "Yardstick":
        """The larger of two in every respect."""
        return replace(
            self,
            rms=max(self.rms, other.rms),
            maximum=max(self.maximum, other.maximum),
            relative=max(self.relative, other.relative),
        )


@dataclass
class Worst:
    """Largest errors seen, relative to their budgets."""

    rms: float = 0.0
    maximum: float = 0.0
    strict: float = 0.0
    """RMS error over the budget that holds where precision must be kept."""


@dataclass
class Verifier:
    """Compares the outputs of one workload."""

    tolerance: Tolerance
    layout: Layout
    """Of the reference's outputs, row-major."""
    yardsticks: list[Yardstick]
    without: frozenset[Detector] = frozenset()
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
            if reply["devices"][index] != "cpu":
                self._object(
                    Broken(
                        Detector.PLAIN_TENSORS,
                        f"{name} lies on {reply['devices'][index]}; return it on cpu",
                    )
                )
            if reply["aliases"][index] and not may_alias[index]:
                self._object(
                    Broken(
                        Detector.ALIASING,
                        f"{name} shares memory with an input or parameter; return its own",
                    )
                )

    def _keeps_small(self, yardstick: Yardstick) -> bool:
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
                self._check(index, reference, values, yardsticks[index])
                if reference.oracle is not None and self._keeps_small(yardsticks[index]):
                    _check_lost(reference, values, paths(self.layout.tree)[index])
            except Wrong as error:
                self._object(Wrong(detector or error.detector, str(error)))

    def excess(
        self, index: int, reference: Reference, values: Array, yardstick: Yardstick
    ) -> float:
        """How many budgets one output is off; at most 1 is accepted."""
        self.worst.pop(index, None)
        try:
            self._check(index, reference, values, yardstick)
        except Wrong:
            worst = self.worst.get(index)
            return max(worst.maximum, worst.rms) if worst else float("inf")
        return 0.0

    def _check(self, index: int, reference: Reference, values: Array, yardstick: Yardstick) -> None:
        name = paths(self.layout.tree)[index]
        if reference.oracle is None:
            _check_exact(reference, values, name)
        else:
            worst = self.worst.setdefault(index, Worst())
            _check_close(reference, values, yardstick, self.tolerance, worst, name)


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


def _check_close(
    reference: Reference,
    values: Array,
    yardstick: Yardstick,
    tolerance: Tolerance,
    worst: Worst,
    name: str,
) -> None:
    assert reference.oracle is not None
    oracle, got, native = rows(reference.oracle), rows(values), rows(reference.native)
    allowed = allowance(reference, yardstick, tolerance)
    step = max(1, CHUNK // max(1, oracle.shape[1]))
    total, bad = 0.0, 0
    first: tuple[int, int] | None = None
    largest = 0.0
    for begin in range(0, oracle.shape[0], step):
        part = slice(begin, begin + step)
        error = _error(got[part], oracle[part], native[part])
        flat = error.ravel()
        total += float(np.dot(flat, flat))
        ratio = _in_budgets(error.max(axis=1), allowed[part])
        largest = max(largest, float(ratio.max(initial=0.0)))
        if not largest <= 1.0:
            off = ~(error <= allowed[part, None])
            bad += int(off.sum())
            if first is None and off.any():
                row, column = np.argwhere(off)[0]
                first = (begin + int(row), int(column))
    rms = sqrt(total / max(1, oracle.size))
    least = tolerance.ulps * float(np.sqrt(np.mean(reference.ulps**2))) if oracle.size else 0.0
    if yardstick.usual:
        least = min(least, tolerance.ulps / 2 * reference.rms_floor)
    budget = max(tolerance.rms * yardstick.rms, least)
    share = float(_in_budgets(rms, budget))
    worst.rms, worst.maximum = max(worst.rms, share), max(worst.maximum, largest)
    if yardstick.strict is not None:
        strict = max(tolerance.rms * yardstick.strict, least)
        worst.strict = max(worst.strict, float(_in_budgets(rms, strict)))
    if first is not None:
        text = _message(reference, values, name, first, bad, largest, allowed)
        raise Wrong(Detector.ERROR_BUDGET, text)
    if share > 1.0:
        raise Wrong(
            Detector.ERROR_BUDGET,
            f"{name}: RMS error {rms:.3g} is {share:.3g} times its budget {budget:.3g} "
            f"({tolerance.rms:g} times the reference's own error); no single element stands out: "
            "sum or compute in more precision",
        )


def _in_budgets(error: Array | float, budget: Array | float) -> Array:
    """How many budgets an error is; no error is none even of a budget of nothing."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(np.equal(error, 0.0), 0.0, np.divide(error, budget))


def _check_lost(reference: Reference, values: Array, name: str) -> None:
    """Of values within the budget of their row, few may be unlike what they should be."""
    assert reference.oracle is not None
    oracle, got, native = reference.oracle.ravel(), values.ravel(), reference.native.ravel()
    lost = 0
    for begin in range(0, oracle.size, CHUNK):
        part = slice(begin, begin + CHUNK)
        lost += reference.lost_in(_error(got[part], oracle[part], native[part]), oracle[part])
    if lost > 4 * reference.lost + MOST_LOST * oracle.size:
        raise Wrong(
            Detector.ERROR_BUDGET,
            f"{name}: {lost} of {oracle.size} elements are wrong by more than a quarter of their "
            f"value, {reference.lost} of the reference's are: compute small values too",
        )


def allowance(reference: Reference, yardstick: Yardstick, tolerance: Tolerance) -> Array:
    """The largest error accepted in each row.

    Rows of very different scales have errors of very different scales: the reference's largest
    error relative to its row then bounds the others' too.
    """
    floor = tolerance.ulps * reference.ulps
    most = np.minimum(yardstick.maximum, yardstick.relative * reference.ulps)
    allowed: Array = np.maximum(tolerance.maximum * most, floor)
    return allowed


def _error(got: Array, oracle: Array, native: Array) -> Array:
    """Absolute error; infinite where finite and non-finite values do not agree."""
    with np.errstate(invalid="ignore", over="ignore"):
        error: Array = np.abs(got - oracle)
    if np.isfinite(error.sum()):
        return error
    same = (got == native) | (np.isnan(got) & np.isnan(native))
    error = np.where(same & ~np.isfinite(native), 0.0, error)
    return np.where(np.isnan(error), np.inf, error)


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


def is_float(leaf: Leaf) -> bool:
    """Whether a budget applies, rather than equality."""
    return leaf.dtype in FLOATS or leaf.dtype in COMPLEX
