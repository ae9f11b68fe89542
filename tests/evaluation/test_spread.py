"""Arithmetic part by part gives what it gives at once."""

import numpy as np
import pytest

from kernelevolve.evaluation.spread import CHUNK, SIDE_BY_SIDE, chunks, converted, mapped

MANY = CHUNK * (SIDE_BY_SIDE + 1) + 3


@pytest.mark.parametrize("size", [0, 5, MANY])
def test_converted_values_are_those_of_numpy(size):
    values = np.random.default_rng(1).standard_normal(size).astype(np.float16)
    values[:3] = [np.nan, np.inf, -0.0][: len(values[:3])]
    found = converted(values, np.float32)
    assert found.dtype == np.float32
    assert found.tobytes() == values.astype(np.float32).tobytes()
    assert not np.may_share_memory(found, values)


def test_a_conversion_keeps_shape_where_memory_is_not_in_order():
    values = np.arange(12.0).reshape(3, 4).T
    assert (converted(values, np.float32) == values).all()


def test_every_row_is_in_one_chunk_and_the_order_is_kept():
    matrix = np.zeros((MANY // 100, 100), np.uint8)
    parts = chunks(matrix)
    assert len(parts) > SIDE_BY_SIDE
    found = mapped(lambda part: list(range(len(matrix)))[part], parts)
    assert [row for part in found for row in part] == list(range(len(matrix)))
