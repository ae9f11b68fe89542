"""What may be worked between two windows."""

import pytest

from kernelevolve.evaluation.outside import SECONDS, excess


@pytest.mark.parametrize(
    ("spent", "honest", "threads", "objects"),
    [
        ([0.009, 0.009], [0.001], 1, True),
        ([0.009, 0.001], [0.001], 1, False),
        ([0.009], [0.001], 1, False),
        ([0.009, 0.009], [0.001], 4, False),
        ([0.009, 0.009], [], 1, True),
        ([SECONDS / 2, SECONDS / 2], [-0.01], 1, False),
        ([0.009] * 4 + [0.001] * 36, [0.001], 1, False),
        ([0.009] * 10 + [0.001] * 30, [0.001], 1, True),
    ],
    ids=[
        "twice",
        "once",
        "asked once",
        "idle threads wait",
        "never asked",
        "copies were free",
        "a busy machine",
        "every fourth",
    ],
)
def test_work_between_windows_must_be_the_drivers_own(spent, honest, threads, objects):
    said = excess({"restore": spent}, {"restore": honest}, threads)
    assert bool(said) == objects
    assert not objects or "9 ms of processor time" in said
