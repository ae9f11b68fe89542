import pytest

from kernelevolve.evaluation.layout import Layout, packed
from kernelevolve.evaluation.sharing import excess, shared

TWO = Layout({"tuple": [{"tensor": 0}, {"tensor": 1}]}, packed([("float32", (4, 8), (8, 1))] * 2))


def reply(first, second, *pointers):
    return {"strides": [list(first), list(second)], "pointers": list(pointers)}


@pytest.mark.parametrize(
    ("told", "pairs"),
    [
        (reply((8, 1), (8, 1), 1024, 2048), set()),
        (reply((8, 1), (8, 1), 1024, 1024), {(0, 1)}),
        (reply((8, 1), (8, 1), 2048, 2044), {(0, 1)}),
        (reply((16, 1), (16, 1), 1024, 1056), set()),
        (reply((0, 1), (8, 1), 1024, 2048), {(0, 0)}),
        (reply((1, 0), (8, 1), 4096, 2048), {(0, 0)}),
    ],
)
def test_who_shares_memory(told, pairs):
    assert shared(TWO, told) == pairs


def test_what_the_reference_shares_may_be_shared_and_gradients_may():
    told = reply((8, 1), (8, 1), 1024, 1024)
    assert excess(TWO, told, {(0, 1)}, 2) == ""
    assert excess(TWO, told, set(), 1) == ""
    assert "output[0] shares memory with output[1]" in excess(TWO, told, set(), 2)
