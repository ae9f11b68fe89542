import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernelevolve.core.task import Tolerance
from kernelevolve.evaluation.layout import Layout, contiguous, packed
from kernelevolve.evaluation.verify import Reference, Verifier, Wrong, Yardstick, ulp
from kernelevolve.evaluation.wire import Malformed


def verifier(native, oracle, dtype="float32", rms=0.0, maximum=0.0):
    leaves = packed([(dtype, native.shape, contiguous(native.shape))])
    kind = "exact" if oracle is None else "float64"
    checks = Verifier(
        Tolerance(), Layout({"tensor": 0}, leaves), [Yardstick(kind, rms, maximum, usual=True)]
    )
    return checks, [Reference(leaves[0], native, oracle)]


def check(values, native, oracle=None, **options):
    checks, expected = verifier(native, oracle, **options)
    block = np.zeros(checks.layout.nbytes, np.uint8)
    data = values.tobytes()
    block[: len(data)] = np.frombuffer(data, np.uint8)
    checks.check(expected, block)
    return checks.worst[0]


def test_two_units_in_the_last_place_of_the_row_are_free():
    oracle = np.array([[1.0, 0.001], [1000.0, 1.0]])
    native = oracle.astype(np.float32)
    near = native + np.float32(2.0**-23)
    assert check(near, native, oracle).maximum <= 1
    far = native.copy()
    far[0, 1] += np.float32(2.0**-20)
    with pytest.raises(Wrong, match=r"1 of 4 .* \[0, 1\]"):
        check(far, native, oracle)
    same_error_in_a_large_row = native.copy()
    same_error_in_a_large_row[1, 1] += np.float32(2.0**-20)
    assert check(same_error_in_a_large_row, native, oracle).maximum <= 1


def test_the_references_own_error_widens_the_budget():
    oracle = np.linspace(1, 2, 100).reshape(10, 10)
    native = oracle.astype(np.float32)
    off = native + np.float32(6e-6)
    with pytest.raises(Wrong):
        check(off, native, oracle)
    assert check(off, native, oracle, rms=2e-6, maximum=2e-6).maximum < 1


def test_many_small_errors_break_the_rms_budget():
    oracle = np.ones((100, 100))
    native = oracle.astype(np.float32)
    with pytest.raises(Wrong, match="RMS"):
        check(native + np.float32(5e-6), native, oracle, rms=1e-6, maximum=1e-6)


def test_small_values_of_a_row_are_no_rounding_error_of_its_largest():
    random = np.random.default_rng(0)
    oracle = np.exp(random.standard_normal((32, 256)) * 3)
    native = oracle.astype(np.float32)
    assert check(native, native, oracle).maximum <= 1
    without = np.where(oracle < oracle.max(-1, keepdims=True) * 2.0**-21, 0, native)
    with pytest.raises(Wrong, match="budget|value"):
        check(without.astype(np.float32), native, oracle)


def test_elements_may_be_lost_where_the_reference_loses_them():
    random = np.random.default_rng(0)
    oracle = random.standard_normal((32, 256)) * 1e-9
    oracle[:, 0] = 1.0
    native = (oracle + random.standard_normal(oracle.shape) * 1e-8).astype(np.float32)
    other = (oracle + random.standard_normal(oracle.shape) * 1e-8).astype(np.float32)
    assert check(other, native, oracle, rms=1e-8, maximum=4e-8).maximum <= 1
    with pytest.raises(Wrong, match="small values"):
        check(other, oracle.astype(np.float32), oracle, rms=1e-8, maximum=4e-8)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_non_finite_values_must_be_where_the_reference_has_them(value):
    native = np.array([1.0, value, 3.0], np.float32)
    oracle = native.astype(np.float64)
    check(native, native, oracle)
    with pytest.raises(Wrong, match=r"\[0\]"):
        check(np.array([value, value, 3.0], np.float32), native, oracle)
    with pytest.raises(Wrong, match=r"\[1\]"):
        check(np.array([1.0, 2.0, 3.0], np.float32), native, oracle)


def test_an_overflow_of_the_reference_may_be_repeated():
    native = np.array([np.inf, 1.0], np.float32)
    oracle = np.array([1e39, 1.0])
    check(native, native, oracle)


def test_integers_are_exact():
    native = np.arange(6, dtype=np.int64)
    leaves_off = native.copy()
    leaves_off[4] = 0
    with pytest.raises(Wrong, match=r"1 of 6 elements .* \[4\]: expected 4, got 0"):
        check(leaves_off, native, dtype="int64")


@given(st.floats(2.0**-99, 2.0**99, width=32))
def test_ulp_is_the_spacing_of_floats(value):
    assert ulp(np.array([value]), "float32")[0] == np.spacing(np.float32(value))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=12,
    )
)
def test_any_json_is_a_layout_or_malformed(value):
    for candidate in (value, {"tree": value, "leaves": []}, {"tree": {}, "leaves": [value]}):
        try:
            Layout.parse(candidate)
        except Malformed:
            continue
