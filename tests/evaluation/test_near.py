"""What float32 says of errors must never be less than what float64 would."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernelevolve.evaluation import near
from kernelevolve.evaluation.near import Sketch
from kernelevolve.evaluation.rounding import each_row

SHAPES = [(1, 1), (3, 5), (40, 7), (2, 300), (1, 1000)]
SCALES = st.sampled_from([1e-42, 1e-30, 1e-12, 1e-3, 1.0, 3e4, 1e15])


def drawn(seed, shape, scale, noise):
    chance = np.random.default_rng(seed)
    oracle = scale * chance.standard_normal(shape) * 10.0 ** chance.integers(-6, 3, (shape[0], 1))
    off = oracle * (1 + noise * chance.standard_normal(shape))
    return oracle, off.astype(np.float32)


@given(st.integers(0, 2**32), st.sampled_from(SHAPES), SCALES, st.sampled_from([0, 1e-8, 1e-6, 2]))
def test_bounds_are_above_the_true_errors(seed, shape, scale, noise):
    oracle, got = drawn(seed, shape, scale, noise)
    sketch = Sketch.of(oracle)
    error = np.abs(got.astype(np.float64) - oracle)
    found = sketch.errors(got)
    assert (found.largest_at_most >= error.max(1)).all()
    assert found.rms_at_most >= np.sqrt(np.mean(error**2))
    for share in (0.25, 1e-6):
        assert found.lost(share) >= (error > share * np.abs(oracle)).sum()


@given(st.integers(0, 2**32), st.sampled_from(SHAPES), st.sampled_from([1e-6, 2]))
def test_bounds_are_close_where_errors_are_larger_than_rounding(seed, shape, noise):
    oracle, got = drawn(seed, shape, 1.0, noise)
    error = np.abs(got.astype(np.float64) - oracle)
    scale = np.abs(oracle).max(1)
    found = Sketch.of(oracle).errors(got)
    assert (found.largest_at_most <= 1.000001 * error.max(1) + 1.3e-7 * scale).all()
    rms = np.sqrt(np.mean(error**2))
    assert found.rms_at_most <= 1.0011 * rms + 1.3e-7 * np.sqrt(np.mean(oracle**2)) + 1e-18


@given(st.integers(0, 2**32), st.sampled_from(["float16", "float32"]))
def test_of_float32_and_less_nothing_is_rounded(seed, dtype):
    oracle = np.random.default_rng(seed).standard_normal((4, 9)).astype(dtype)
    found = Sketch.of(oracle).errors(oracle.astype(np.float32))
    assert not found.largest_at_most.any()
    assert found.rms_at_most < 1e-18
    assert found.lost(0.25) == 0


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf, 1e200])
def test_what_float32_does_not_hold_is_left_to_float64(odd):
    oracle = np.ones((3, 4))
    got = oracle.astype(np.float32)
    assert Sketch.of(np.where(np.eye(3, 4) == 1, odd, oracle)) is None
    assert Sketch.of(oracle).errors(np.where(np.eye(3, 4) == 1, odd, oracle)) is None
    assert Sketch.of(oracle).errors(got) is not None
    assert Sketch.of(np.ones((0, 4))) is None


@pytest.mark.parametrize("chunk", [1, 6, 7, 1 << 16])
def test_every_part_counts(monkeypatch, chunk):
    monkeypatch.setattr(near, "CHUNK", chunk)
    oracle = np.arange(1.0, 21.0).reshape(5, 4)
    for place in np.ndindex(oracle.shape):
        got = oracle.astype(np.float32)
        got[place] += np.float32(0.5)
        found = Sketch.of(oracle).errors(got)
        assert found.largest.tolist() == [0.5 * (row == place[0]) for row in range(5)]
        assert found.rms == pytest.approx(0.5 / np.sqrt(20))
        assert found.lost(0.025) == 4


@given(st.integers(0, 2**32), st.integers(1, 130), st.sampled_from([np.maximum, np.minimum]))
def test_each_row_is_what_numpy_reduces(seed, width, ufunc):
    matrix = np.random.default_rng(seed).standard_normal((7, width))
    assert each_row(ufunc, matrix).tolist() == ufunc.reduce(matrix, axis=1).tolist()


@pytest.mark.parametrize(("row", "exact"), [([0.5, 2.0], True), ([0.5, 0.1], False)])
def test_an_oracle_is_exact_only_where_every_part_of_it_is(monkeypatch, row, exact):
    monkeypatch.setattr(near, "CHUNK", 2)
    assert Sketch.of(np.array([[1.0, 0.25], row])).exact is exact
