"""Timed calls have contents that no call has seen, and the reference's answers to them."""

from random import Random

import numpy as np
import pytest

from kernelevolve.evaluation.domain import read
from kernelevolve.evaluation.layout import raw
from kernelevolve.evaluation.slots import Slots
from kernelevolve.evaluation.verify import Wrong

TASK = """
class Model(nn.Module):
    def forward({arguments}):
        return {body}

def get_inputs():
    return [{inputs}]
"""


def slots_of(suite):
    prepared = suite.bench.prepared
    ring, _ = prepared.blocks()
    found = Slots(prepared, ring, Random("slots"), suite.fresh.crossing)
    found.reset()
    return found


@pytest.fixture
def softmax(suite_of):
    return suite_of(
        TASK.format(
            arguments="self, x, n",
            body="torch.softmax(x, -1) * n.sum()",
            inputs="torch.randn(16, 24), torch.randint(1, 99, (40,))",
        )
    )


def test_no_contents_come_twice(softmax):
    slots = slots_of(softmax)
    assert slots.widen(40)
    seen = set()
    for _ in range(20):
        slots.freshen(slots.secret(), len(slots))
        seen |= {slots.seen(slot).tobytes() for slot in range(len(slots))}
        assert slots.unchanged()
    assert len(seen) == 20 * 40


def crossed(suite, index):
    """Of one input after some crossings: in each slot, and of the pool's sets."""
    slots, prepared = slots_of(suite), suite.bench.prepared
    for _ in range(10):
        slots.freshen(0, len(slots))
    leaf = prepared.inputs.leaves[index]
    sets = np.stack([read(leaf, content) for content in prepared.contents])
    return np.stack([read(leaf, slots.seen(slot)) for slot in range(len(slots))]), sets


def test_every_float_of_a_small_tensor_is_new_and_lies_between_two_sets(softmax):
    values, sets = crossed(softmax, 0)
    margin = 1e-6 * np.abs(sets).max()
    assert ((sets.min(0) - margin <= values) & (values <= sets.max(0) + margin)).all()
    assert not (values[:, None] == sets).any()
    assert len({one.tobytes() for one in values}) == len(values)


def test_a_single_float_never_comes_again(suite_of):
    given = "torch.randn(16, 24), torch.rand(()) + 0.5"
    suite = suite_of(TASK.format(arguments="self, x, t", body="torch.tanh(x / t)", inputs=given))
    slots, leaf = slots_of(suite), suite.bench.prepared.inputs.leaves[1]
    seen = set()
    for _ in range(20):
        slots.freshen(0, len(slots))
        seen |= {float(read(leaf, slots.seen(slot))) for slot in range(len(slots))}
    assert len(seen) == 20 * len(slots)


def test_what_is_linear_between_floats_holds(suite_of):
    suite = suite_of(
        TASK.format(
            arguments="self, x, total",
            body="x + torch.log(1.0 - 2.0 * ((x.sum() - total).abs() > 0.1).float())",
            inputs="*(lambda x: (x, x.sum()))(torch.randn(16, 24))",
        )
    )
    assert suite.fresh.crossing is not None


def test_large_tensors_have_elements_of_several_sets_at_their_places(suite_of):
    text = TASK.format(arguments="self, x", body="torch.sin(x)", inputs="torch.randn(300, 300)")
    values, sets = crossed(suite_of(text), 0)
    for one in values:
        assert (one == sets).any(0).all()
        assert not (one == sets).reshape(len(sets), -1).all(1).any()


def test_integers_are_those_of_several_sets_and_keep_their_places(softmax):
    values, sets = crossed(softmax, 1)
    for one in values:
        assert (one == sets).any(0).all()
        assert not (one == sets).reshape(len(sets), -1).all(1).any()


RULES = {
    "ascending": "torch.randint(0, 99, (40,)).sort()[0]",
    "descending": "torch.randint(0, 99, (40,)).sort(descending=True)[0]",
    "permutation": "torch.randperm(40)",
    "one-hot rows": "torch.eye(40)[torch.randint(0, 40, (30,))]",
    "one sum": "(lambda n: torch.cat([n, 500 - n.sum(0, True)]))(torch.randint(0, 9, (39,)))",
}


@pytest.mark.parametrize("given", RULES.values(), ids=RULES)
def test_what_follows_a_rule_stays_that_of_one_set(suite_of, given):
    text = {"arguments": "self, x, y", "body": "torch.softmax(x, -1) + y.sum(), y * 2"}
    suite = suite_of(TASK.format(**text, inputs=f"torch.randn(16, 24), {given}"))
    values, sets = crossed(suite, 1)
    assert all((one == sets).reshape(len(sets), -1).all(1).any() for one in values)
    floats, sets = crossed(suite, 0)
    assert not any((one == sets).all((1, 2)).any() for one in floats)


def test_integers_stay_those_of_one_set_where_the_reference_does_not_take_others(suite_of):
    body = "x + torch.log(1.0 - 2.0 * (n.sum() != total).float())"
    given = "*(lambda n: (torch.randn(16, 24), n, n.sum()))(torch.randint(1, 99, (40,)))"
    suite = suite_of(TASK.format(arguments="self, x, n, total", body=body, inputs=given))
    assert suite.fresh.crossing is not None
    values, sets = crossed(suite, 1)
    assert all((one == sets).all(1).any() for one in values)


@pytest.mark.parametrize(
    "given",
    ["torch.randn(8, 24, dtype=torch.complex64)", "torch.randn(1, 96).expand(8, 96)"],
    ids=["complex", "elements that share memory"],
)
def test_what_no_probe_alters_is_crossed_all_the_same(suite_of, given):
    text = TASK.format(arguments="self, x", body="torch.sin(x)", inputs=given)
    slots = slots_of(suite_of(text))
    before = slots.seen(0).copy()
    slots.freshen(0, len(slots))
    assert (slots.seen(0) != before).any()


def test_every_row_changes_each_time(softmax):
    slots, leaf = slots_of(softmax), softmax.bench.prepared.inputs.leaves[0]
    slots.freshen(0, len(slots))
    before = read(leaf, slots.seen(0))
    for _ in range(4):
        slots.freshen(0, len(slots))
    assert (read(leaf, slots.seen(0)) != before).any(1).all()


def test_inputs_that_were_changed_are_noticed(softmax):
    slots = slots_of(softmax)
    slots.freshen(0, 1)
    slots.seen(0)[5] ^= 1
    assert not slots.unchanged([0])
    slots.fill([0])
    assert slots.unchanged([0])


@pytest.mark.parametrize("asked", ["expected", "native"])
def test_fresh_answers_are_right_and_old_ones_are_not(softmax, asked):
    bench, slots = softmax.bench, slots_of(softmax)
    verifier = bench.prepared.verifier(bench.task, frozenset(), buffers=False)
    old = bench.native(slots.values(0))
    slots.freshen(0, 1)
    expected, yardsticks = getattr(softmax.fresh, asked)(slots.values(0)), softmax.fresh.yardsticks
    verifier.check(expected, _block(bench, expected[0].native), yardsticks)
    with pytest.raises(Wrong):
        verifier.check(expected, _block(bench, old[0]), yardsticks)


def _block(bench, values):
    (leaf,) = bench.prepared.plain.leaves
    block = np.zeros(bench.prepared.plain.nbytes, np.uint8)
    raw(leaf, block)[...] = values
    return block


def test_contents_stay_where_the_reference_takes_no_crossing(suite_of):
    suite = suite_of(
        TASK.format(
            arguments="self, x, total",
            body="x + torch.log(1.0 - 2.0 * ((x.square().sum() - total).abs() > 1).float())",
            inputs="*(lambda x: (x, x.square().sum()))(torch.randn(60, 60))",
        )
    )
    assert suite.fresh.crossing is None


def test_integers_are_crossed_where_there_is_nothing_else(suite_of):
    suite = suite_of(
        TASK.format(
            arguments="self, x, y",
            body="(x + 1) * y",
            inputs="torch.randint(0, 9, (64,)), torch.randint(0, 9, (64,))",
        )
    )
    slots, prepared = slots_of(suite), suite.bench.prepared
    slots.freshen(0, 3)
    x, y = (read(leaf, slots.seen(0)) for leaf in prepared.inputs.leaves)
    pairs = [
        {*zip(*(read(leaf, c) for leaf in prepared.inputs.leaves), range(64), strict=True)}
        for c in prepared.contents
    ]
    assert all(any(p in known for known in pairs) for p in zip(x, y, range(64), strict=True))
