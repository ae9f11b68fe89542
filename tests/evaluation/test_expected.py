"""What the reference gives for one set of inputs: floors of budgets, lost values, quick bounds."""

import numpy as np
import pytest

from kernelevolve.core.task import Tolerance
from kernelevolve.evaluation.expected import MANY, Reference, Yardstick, error_of
from kernelevolve.evaluation.layout import Layout, contiguous, packed
from kernelevolve.evaluation.verify import Budgets, Verifier, Wrong

HALVES = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}


def reference(oracle, dtype="float32", native=None):
    oracle = np.asarray(oracle, np.float64)
    leaf = packed([(dtype, oracle.shape, contiguous(oracle.shape))])[0]
    return Reference(leaf, oracle.astype(np.float32) if native is None else native, oracle)


@pytest.mark.parametrize("dtype", HALVES)
def test_the_floor_is_a_unit_in_the_last_place_of_the_elements_rms(dtype):
    found = reference(np.full(MANY, 3.0), dtype)
    assert found.rms_floor == pytest.approx(HALVES[dtype] * 3.0, rel=1e-12)


def test_of_few_elements_the_floor_is_twice_as_high():
    few, many = reference(np.full(MANY - 1, 3.0)), reference(np.full(MANY, 3.0))
    assert few.rms_floor == pytest.approx(2 * many.rms_floor, rel=1e-12)


@pytest.mark.parametrize("odd", [np.inf, -np.inf, np.nan])
def test_what_is_not_finite_does_not_raise_the_floor(odd):
    values = np.full(2 * MANY, 3.0)
    values[5] = odd
    assert reference(values).rms_floor == pytest.approx(HALVES["float32"] * 3.0, rel=1e-12)


def test_the_floor_of_nothing_is_the_smallest_number():
    assert reference(np.zeros(MANY)).rms_floor == 1.4e-45
    assert reference(np.full(3, np.nan)).rms_floor == 2 * 1.4e-45


def test_the_floor_counts_the_elements_that_are_finite():
    values = np.full(MANY, 3.0)
    values[0] = np.inf
    assert reference(values).rms_floor == pytest.approx(2 * HALVES["float32"] * 3.0, rel=1e-12)


def test_only_outputs_of_float32_and_less_have_quick_bounds():
    values = np.linspace(1, 2, 12)
    exact = reference(values, "float64", values)
    assert exact.sketch is None
    assert exact.near(values) is None
    found = reference(values).near(values.astype(np.float32))
    assert found is not None
    assert 0 < found.rms_at_most < 1e-6


@pytest.mark.parametrize(
    ("dtype", "value", "counts"),
    [
        ("float32", 2e-38, True),
        ("float32", 1e-38, False),
        ("bfloat16", 2e-38, True),
        ("bfloat16", 1e-38, False),
        ("float16", 2e-6, True),
        ("float16", 1e-6, False),
        ("float64", 3e-308, True),
        ("float64", 2e-308, False),
    ],
)
def test_values_that_may_be_flushed_to_zero_are_not_lost(dtype, value, counts):
    oracle = np.array([1.0, value])
    error = np.abs(np.array([1.0, 0.0]) - oracle)
    assert reference(oracle, dtype).lost_in(error, oracle) == counts


@pytest.mark.parametrize(("share", "counts"), [(0.2, 0), (0.3, 1), (1.2, 1)])
def test_a_value_is_lost_that_is_wrong_by_more_than_a_quarter(share, counts):
    oracle = np.array([-4.0, 1.0])
    error = np.array([4.0 * share, 0.0])
    assert reference(oracle).lost_in(error, oracle) == counts


def test_errors_of_what_is_not_finite_on_either_side_are_infinite():
    native = np.array([np.inf, np.nan, 1.0, 2.0], np.float32)
    got = np.array([np.inf, np.nan, np.inf, 2.5], np.float32)
    oracle = np.array([np.inf, np.nan, 1.0, 2.0])
    assert error_of(got, oracle, native).tolist() == [0.0, 0.0, np.inf, 0.5]


class TestFloorOfTheTasksOwnInputs:
    """Rows of different scales: many rounding errors are smaller than the largest row's unit."""

    oracle = np.concatenate([np.full((1, 128), 1000.0), np.full((63, 128), 1.0)])

    def rms(self, **yardstick):
        own = Yardstick("float64", **yardstick)
        return Budgets.of(reference(self.oracle), own, Tolerance()).rms

    def test_made_inputs_may_be_off_by_two_units_of_the_rows(self):
        units = np.where(self.oracle[:, 0] == 1000.0, 2.0**-14, 2.0**-23)
        assert self.rms() == pytest.approx(2 * np.sqrt(np.mean(units**2)), rel=1e-9)

    def test_usual_ones_by_one_unit_of_the_elements_where_that_is_less(self):
        unit = HALVES["float32"] * np.sqrt(np.mean(self.oracle**2))
        assert unit < self.rms(usual=False)
        assert self.rms(usual=True) == pytest.approx(unit, rel=1e-9)

    def test_an_own_error_of_the_reference_counts_where_it_is_more(self):
        assert self.rms(usual=True, rms=1.0) == 4.0


@pytest.mark.parametrize(
    ("yardstick", "tolerance", "must"),
    [
        ({"usual": True}, {}, True),
        ({"usual": False}, {}, False),
        ({"usual": True, "strict": 1e-6}, {}, False),
        ({"usual": True, "oracle": "float32"}, {}, False),
        ({"usual": True, "strict": 1e-6, "oracle": "float32"}, {}, False),
        ({"usual": True}, {"rms": 5.0}, False),
    ],
)
def test_small_values_must_be_kept_where_nothing_but_rounding_is_allowed(
    yardstick, tolerance, must
):
    oracle = np.full((8, 64), 1e-6)
    oracle[:, 0] = 1.0
    expected = reference(oracle)
    values = expected.native.copy()
    values[:, 1:] = 0.0
    own = Yardstick(**({"oracle": "float64", "rms": 1e-6, "maximum": 1e-6} | yardstick))
    layout = Layout({"tensor": 0}, (expected.leaf,))
    verifier = Verifier(Tolerance(**tolerance), layout, [own], frozenset())
    block = np.zeros(layout.nbytes, np.uint8)
    block[: values.nbytes] = values.view(np.uint8).ravel()
    if must:
        with pytest.raises(Wrong, match="small values"):
            verifier.check([expected], block)
    else:
        verifier.check([expected], block)
