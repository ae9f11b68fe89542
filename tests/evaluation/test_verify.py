import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernelevolve.core.detector import Detector
from kernelevolve.core.task import Tolerance
from kernelevolve.evaluation import near
from kernelevolve.evaluation.expected import Reference, Yardstick, is_float
from kernelevolve.evaluation.layout import Layout, contiguous, packed
from kernelevolve.evaluation.rounding import rows, ulp
from kernelevolve.evaluation.verify import Broken, Verifier, Wrong
from kernelevolve.evaluation.yardstick import measure_yardstick


def verifier(native, oracle, dtype="float32", tolerance=None, without=(), **yardstick):
    shape = (*native.shape[:-1], native.shape[-1] // 2) if "complex" in dtype else native.shape
    leaves = packed([(dtype, shape, contiguous(shape))])
    kind = "exact" if oracle is None else "float64"
    measured = Yardstick(kind, **({"usual": True} | yardstick))
    layout = Layout({"tensor": 0}, leaves)
    checks = Verifier(tolerance or Tolerance(), layout, [measured], frozenset(without))
    return checks, [Reference(leaves[0], native, oracle)]


def check(values, native, oracle=None, **options):
    checks, expected = verifier(native, oracle, **options)
    checks.check(expected, block_of(values, checks.layout))
    return checks.worst[0]


def block_of(values, layout):
    block = np.zeros(layout.nbytes, np.uint8)
    data = values.tobytes()
    block[: len(data)] = np.frombuffer(data, np.uint8)
    return block


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


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize("value", [1.0, 1.5, 1000.0, 6e-5, 0.0])
def test_ulp_is_what_numpy_says(dtype, value):
    spacing = np.spacing(np.dtype(dtype).type(value))
    assert ulp(np.array([value]), dtype)[0] == pytest.approx(float(spacing), rel=0.01, abs=0)


def test_ulp_of_brain_floats():
    scale = np.array([1.0, 1.9, 2.0, 0.0, 1e-40])
    least = 2.0**-133
    expected = [2.0**-7, 2.0**-7, 2.0**-6, least, least]
    assert ulp(scale, "bfloat16") == pytest.approx(expected, rel=0.01, abs=0)


def test_a_subnormal_scale_has_the_least_unit():
    assert ulp(np.array([1e-44]), "float32")[0] == pytest.approx(2.0**-149, rel=0.01, abs=0)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((2, 3, 4), (6, 4)),
        ((5,), (1, 5)),
        ((5, 1), (5, 1)),
        ((), (1, 1)),
        ((0,), (0, 1)),
        ((3, 0), (0, 1)),
        ((0, 3), (0, 1)),
    ],
)
def test_rows_lie_along_the_last_dimension(shape, expected):
    assert rows(np.zeros(shape)).shape == expected


def test_a_rows_scale_is_its_largest_magnitude_of_either_sign_that_is_finite():
    oracle = np.array([[-1024.0, 1.0], [-0.5, -0.25], [0.25, 0.5]])
    assert list(reference_of(oracle).ulps) == [2.0**-13, 2.0**-24, 2.0**-24]
    broken = np.array([[np.inf, 0.5], [np.nan, -0.5], [-np.inf, 0.0], [0.5, 0.5]])
    assert list(reference_of(broken).ulps[[0, 1, 3]]) == [2.0**-24] * 3
    assert reference_of(broken).ulps[2] == reference_of(np.zeros((1, 1))).ulps[0]


def test_complex_numbers_are_counted_in_units_of_their_parts():
    oracle = np.array([[1.0, -2.0, 0.5, 0.25]])
    native = oracle.astype(np.float32)
    near = native + np.float32(2.0**-22)
    assert check(near, native, oracle, dtype="complex64").maximum == pytest.approx(0.5)
    with pytest.raises(Wrong, match=r"\[0, 3\]"):
        far = native.copy()
        far[0, 3] += np.float32(2.0**-19)
        check(far, native, oracle, dtype="complex64")


@pytest.mark.parametrize("chunk", [1, 6, 7, 1 << 16])
def test_bad_elements_are_found_and_counted_in_every_part_of_a_large_output(monkeypatch, chunk):
    monkeypatch.setattr(near, "CHUNK", chunk)
    oracle = np.ones((2, 3, 3))
    native = oracle.astype(np.float32)
    values = native.copy()
    values[1, 0, 2] = 3.0
    values[1, 2, 0] = -5.0
    values[1, 2, 1] = 2.0
    expected = (
        r"output: 3 of 18 elements .* first at \[1, 0, 2\]: expected 1, got 3 "
        r"\(allowed error 2\.38e-07\); the worst is 2\.52e\+07 times"
    )
    with pytest.raises(Wrong, match=expected) as caught:
        check(values, native, oracle)
    assert caught.value.detector is Detector.ERROR_BUDGET


@pytest.mark.parametrize("chunk", [1, 7, 1 << 16])
def test_the_rms_is_of_all_parts_together(monkeypatch, chunk):
    monkeypatch.setattr(near, "CHUNK", chunk)
    oracle = np.zeros((4, 4))
    native = oracle.astype(np.float32)
    values = native.copy()
    values[1, 1], values[3, 2] = 3.0, 4.0
    worst = check(values, native, oracle, rms=1.0, maximum=1.0)
    assert worst.rms == pytest.approx(1.25 / 4)
    assert worst.maximum == pytest.approx(4 / 8)


def test_the_budgets_are_four_times_the_rms_and_eight_times_the_largest_error():
    oracle = np.zeros((1, 4))
    native = oracle.astype(np.float32)
    within = native + np.float32(4.0)
    assert check(within, native, oracle, rms=1.0, maximum=1.0).rms == 1.0
    with pytest.raises(Wrong, match="RMS error 4.01 is 1 times its budget 4 .4 times the ref"):
        check(native + np.float32(4.01), native, oracle, rms=1.0, maximum=1.0)
    single = native.copy()
    single[0, 1] = 8.0
    assert check(single, native, oracle, rms=1.0, maximum=1.0).maximum == 1.0
    single[0, 1] = 8.01
    with pytest.raises(Wrong, match="1 of 4 elements"):
        check(single, native, oracle, rms=9.0, maximum=1.0)


def test_the_rms_of_a_single_number_is_its_error():
    native = np.zeros(1, np.float32)
    worst = check(native + 2, native, native.astype(float), rms=1.0, maximum=1.0)
    assert (worst.rms, worst.maximum) == (0.5, 0.25)
    found = measure_yardstick([reference_of(np.zeros(1))], [native + 3], "float64", 1.0)
    assert (found.rms, found.maximum) == (3.0, 3.0)


def test_rows_of_different_scale_are_held_to_the_relative_error():
    oracle = np.array([[1.0, 1.0], [1024.0, 1024.0]])
    native = oracle.astype(np.float32)
    yardstick = {"rms": 1.0, "maximum": 1.0, "relative": 4.0}
    values = native.copy()
    values[1, 0] += np.float32(30 * 2.0**-13)
    assert check(values, native, oracle, **yardstick).maximum == pytest.approx(30 / 32)
    values = native.copy()
    values[0, 0] += np.float32(40 * 2.0**-23)
    with pytest.raises(Wrong, match=r"\[0, 0\]"):
        check(values, native, oracle, **yardstick)


def test_the_largest_errors_of_all_calls_are_kept():
    oracle = np.zeros((1, 4))
    native = oracle.astype(np.float32)
    checks, expected = verifier(native, oracle, rms=1.0, maximum=1.0, strict=0.5)
    for error in (1.0, 3.0, 2.0):
        checks.check(expected, block_of(native + np.float32(error), checks.layout))
    worst = checks.worst[0]
    assert (worst.rms, worst.maximum, worst.strict) == (0.75, 0.375, 1.5)


def test_without_permission_to_compute_in_less_precision_nothing_is_said_of_it():
    native = np.zeros((1, 4), np.float32)
    assert check(native + 1, native, native.astype(float), rms=1.0, maximum=1.0).strict == 0.0


def test_a_budget_of_nothing_is_kept_by_what_is_exact_and_by_nothing_else():
    oracle = np.array([[1.0, 2.0], [3.0, 4.0]])
    native = oracle.astype(np.float32)
    options = {"tolerance": Tolerance(ulps=0.0), "strict": 0.0}
    worst = check(native, native, oracle, **options)
    assert (worst.rms, worst.maximum, worst.strict) == (0.0, 0.0, 0.0)
    values = native.copy()
    values[1, 1] += np.float32(1e-6)
    with pytest.raises(Wrong, match=r"1 of 4 .* \[1, 1\]: .* the worst is inf times"):
        check(values, native, oracle, **options)


@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 3)])
def test_an_empty_output_is_right(shape):
    worst = check(np.zeros(shape, np.float32), np.zeros(shape, np.float32), np.zeros(shape))
    assert (worst.rms, worst.maximum) == (0.0, 0.0)


def test_a_single_number_is_named_by_its_path_alone():
    native = np.array(1.0, np.float32)
    with pytest.raises(Wrong, match=r"output: 1 of 1 .* at \[\]: expected 1, got 2"):
        check(np.array(2.0, np.float32), native, native.astype(float))


def test_zeros_of_float64_may_be_repeated():
    native = np.zeros((2, 2))
    assert check(native, native, native, dtype="float64").rms == 0.0
    with pytest.raises(Wrong, match="inf times its budget|elements are outside"):
        check(native + 1e-300, native, native, dtype="float64")


def test_integers_that_the_oracle_chooses_otherwise_are_accepted_as_well():
    native = np.array([[1, 2], [3, 4]])
    checks, expected = verifier(native, None, dtype="int64")
    expected[0].alternative = np.array([[1, 9], [3, 4]])
    for accepted in ([[1, 2], [3, 4]], [[1, 9], [3, 4]]):
        checks.check(expected, block_of(np.array(accepted), checks.layout))
    assert checks.worst == {}
    with pytest.raises(Wrong, match=r"2 of 4 .* \[0, 1\]: expected 2, got 8") as caught:
        checks.check(expected, block_of(np.array([[1, 8], [3, 5]]), checks.layout))
    assert caught.value.detector is Detector.EXACT


def test_inputs_made_for_one_purpose_have_their_own_budget_and_accuser():
    native = np.zeros((1, 2), np.float32)
    checks, expected = verifier(native, native.astype(float), rms=1.0, maximum=1.0)
    block = block_of(native + 1, checks.layout)
    checks.check(expected, block)
    with pytest.raises(Wrong, match="elements") as caught:
        checks.check(expected, block, [Yardstick("float64", 0.1, 0.1)], Detector.ADVERSARIAL)
    assert caught.value.detector is Detector.ADVERSARIAL


@pytest.mark.parametrize("accuser", [None, Detector.ADVERSARIAL])
def test_a_detector_that_is_switched_off_accuses_nobody(accuser):
    native = np.zeros((1, 2), np.float32)
    off = accuser or Detector.ERROR_BUDGET
    checks, expected = verifier(native, native.astype(float), without=[off])
    checks.check(expected, block_of(native + 1, checks.layout), None, accuser)


def test_excess_is_how_many_budgets_an_output_is_off():
    native = np.zeros((1, 4), np.float32)
    checks, expected = verifier(native, native.astype(float), rms=1.0, maximum=1.0)
    yardstick = checks.yardsticks[0]
    assert checks.excess(0, expected[0], native + 30, yardstick) == 7.5
    assert checks.excess(0, expected[0], native + 100, yardstick) > 10.0
    single = native.copy()
    single[0, 0] = 16.0
    assert checks.excess(0, expected[0], single, yardstick) == 2.0
    assert checks.excess(0, expected[0], native + 1, yardstick) == 0.0
    whole, expected = verifier(np.arange(3), None, dtype="int64")
    assert whole.excess(0, expected[0], np.arange(3) + 1, whole.yardsticks[0]) == float("inf")


def test_the_wider_yardstick_is_the_larger_in_every_respect():
    one = Yardstick("float64", rms=1.0, maximum=5.0, relative=2.0, strict=0.5)
    other = Yardstick("float32", rms=2.0, maximum=3.0, relative=4.0)
    both = Yardstick("float64", rms=2.0, maximum=5.0, relative=4.0, strict=0.5)
    assert one.wider(other) == both
    assert Yardstick("exact") == Yardstick("exact", rms=0.0, maximum=0.0, relative=float("inf"))


def reference_of(oracle):
    leaf = packed([("float32", oracle.shape, contiguous(oracle.shape))])[0]
    with np.errstate(over="ignore"):
        return Reference(leaf, oracle.astype(np.float32), oracle)


def test_the_yardstick_is_the_error_over_all_sets():
    references = [reference_of(np.array([[1.0, 1.0]])), reference_of(np.array([[1024.0, 0.0]]))]
    runs = [
        np.array([[1.0 + 2.0**-20, 1.0]], np.float32),
        np.array([[1024.0 - 2.0**-12, 0.0]], np.float32),
    ]
    found = measure_yardstick(references, runs, "float64", 2.0)
    squares = (2.0**-40 + 2.0**-24) / 4
    assert found.oracle == "float64"
    assert found.rms == pytest.approx(2.0 * squares**0.5)
    assert found.maximum == 2.0 * 2.0**-12
    assert found.relative == 2.0 * 8.0
    assert found.strict is None


def test_a_yardstick_leaves_out_what_is_not_finite():
    oracle = np.array([[np.inf, 1.0], [np.nan, 1e39]])
    run = np.array([[np.inf, 1.0 + 2.0**-23], [np.nan, np.inf]], np.float32)
    found = measure_yardstick([reference_of(oracle)], [run], "float64", 1.0)
    assert found.maximum == 2.0**-23
    assert found.relative == 1.0
    assert found.rms == 2.0**-24


def test_a_yardstick_of_nothing_is_nothing():
    empty = np.zeros((0, 3))
    found = measure_yardstick([reference_of(empty)], [empty], "float64", 1.0)
    assert (found.rms, found.maximum, found.relative) == (0.0, 0.0, 0.0)
    whole = Reference(reference_of(empty).leaf, empty, None)
    assert measure_yardstick([whole], [empty], "float64", 1.0) == Yardstick("exact")


@pytest.mark.parametrize(
    ("dtype", "expected"), [("bfloat16", True), ("complex64", True), ("int64", False)]
)
def test_a_budget_is_for_floats(dtype, expected):
    assert is_float(packed([(dtype, (1,), (1,))])[0]) is expected


def header(without=(), may_alias=(False, False), **changes):
    leaves = packed([("float32", (2, 3), (3, 1)), ("int64", (4,), (1,))])
    layout = Layout({"tuple": [{"tensor": 0}, {"dict": [["a", {"tensor": 1}]]}]}, leaves)
    yardsticks = [Yardstick("float64"), Yardstick("exact")]
    reply = layout.dump() | {
        "types": ["Tensor", "Tensor"],
        "devices": ["cpu", "cpu"],
        "aliases": [False, False],
    }
    checks = Verifier(Tolerance(), layout, yardsticks, frozenset(without))
    got = checks.header(reply | changes, may_alias=may_alias)
    assert got.tree == layout.tree
    return got


def test_outputs_may_lie_in_any_order():
    strided = [["float32", [2, 3], [1, 2], 0], ["int64", [4], [1], 64]]
    assert header(leaves=strided).leaves[0].stride == (1, 2)


LIST = {"list": [{"tensor": 0}, {"dict": [["a", {"tensor": 1}]]}]}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"tree": LIST},
            r"forward returns \[tensor, {'a': tensor}\]; the reference returns "
            r"\(tensor, {'a': tensor}\)",
        ),
        (
            {"leaves": [["float16", [2, 3], [3, 1], 0], ["int64", [4], [1], 64]]},
            r"output\[0\] is float16\[2, 3\]; the reference returns float32\[2, 3\]",
        ),
        (
            {"leaves": [["float32", [2, 3], [3, 1], 0], ["int64", [5], [1], 64]]},
            r"output\[1\]\['a'\] is int64\[5\]; the reference returns int64\[4\]",
        ),
    ],
)
def test_structure_type_and_shape_are_those_of_the_reference(changes, said):
    with pytest.raises(Wrong, match=f"^{said}$") as caught:
        header(**changes)
    assert caught.value.detector is Detector.STRUCTURE


@pytest.mark.parametrize(
    ("detector", "changes", "said"),
    [
        (
            Detector.PLAIN_TENSORS,
            {"types": ["Tensor", "Lazy"]},
            r"output\[1\]\['a'\] is a Lazy; return plain torch.Tensor",
        ),
        (
            Detector.PLAIN_TENSORS,
            {"devices": ["meta", "cpu"]},
            r"output\[0\] lies on meta; return it on cpu",
        ),
        (
            Detector.ALIASING,
            {"aliases": [False, True], "may_alias": (True, False)},
            r"output\[1\]\['a'\] shares memory with an input or parameter; return its own",
        ),
    ],
)
def test_outputs_are_plain_tensors_of_their_own(detector, changes, said):
    with pytest.raises(Broken, match=said) as caught:
        header(**changes)
    assert caught.value.detector is detector
    header(without=[detector], **changes)


def test_an_output_may_be_an_input_where_the_references_is():
    header(aliases=[True, False], may_alias=(True, False))
