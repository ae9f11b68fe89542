import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernelevolve.evaluation import adversarial, mutation
from kernelevolve.evaluation.domain import arguments, observe, read, write
from kernelevolve.evaluation.layout import Layout, contiguous, packed
from kernelevolve.evaluation.placement import VIEWS, arranged, placed
from kernelevolve.evaluation.rounding import ulp

TREE = {"dict": [["args", {"list": [{"tensor": 0}, {"tensor": 1}]}], ["cotangents", {"list": []}]]}
GENERATORS = {g.name: g for g in adversarial.GENERATORS}
DRAWS = {
    "normal": lambda r, shape: r.normal(0, 2, shape),
    "unit": lambda r, shape: r.random(shape),
    "positive": lambda r, shape: r.random(shape) * 7 + 0.1,
    "negative": lambda r, shape: -r.random(shape) * 7,
    "mask": lambda r, shape: r.integers(0, 2, shape),
}
BOUNDS = {"unit": (0, 1), "positive": (0, np.inf), "negative": (-np.inf, 0), "mask": (0, 1)}


def pool(dtype, shape, draw, integers=False, sets=3):
    strides = contiguous(shape)
    if len(shape) > 1:
        strides = (*strides[:-2], 1, shape[-2])
    leaves = packed([(dtype, shape, strides), ("int64", (9,), (1,))])
    layout = Layout(TREE, leaves)
    random = np.random.default_rng(3)
    contents = []
    for _ in range(sets):
        content = np.zeros(layout.nbytes, np.uint8)
        write(leaves[0], content, DRAWS[draw](random, shape))
        write(leaves[1], content, random.integers(2, 30, 9))
        contents.append(content)
    return layout, contents


def made(name, layout, contents, seed=0, strength=1.0):
    domains = observe(layout, contents)
    random = np.random.default_rng(seed)
    return adversarial.make(GENERATORS[name], layout, domains, contents[0], random, strength)


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(sorted(GENERATORS)),
    dtype=st.sampled_from(["float64", "float32", "float16", "bfloat16"]),
    shape=st.sampled_from([(64,), (31, 7), (3, 8, 16), (1, 128), (128, 1)]),
    draw=st.sampled_from(sorted(DRAWS)),
    seed=st.integers(0, 99),
    strength=st.sampled_from(adversarial.STRENGTHS),
)
def test_made_inputs_stay_in_their_domain_and_follow_from_the_seed(
    name, dtype, shape, draw, seed, strength
):
    layout, contents = pool(dtype, shape, draw)
    before = contents[0].copy()
    found = made(name, layout, contents, seed, strength)
    assert np.array_equal(contents[0], before)
    if found is None:
        return
    assert np.array_equal(found, made(name, layout, contents, seed, strength))
    values, integers = read(layout.leaves[0], found), read(layout.leaves[1], found)
    low, high = BOUNDS.get(draw, (-np.inf, np.inf))
    finite = values[~np.isnan(values)]
    assert ((finite >= low) & (finite <= high)).all()
    natural = [read(layout.leaves[1], c) for c in contents]
    assert np.min(natural) <= integers.min()
    assert integers.max() <= np.max(natural)
    assert not np.isnan(values).any() or name == "nan"


ONE = {"dict": [["args", {"list": [{"tensor": 0}]}], ["cotangents", {"list": []}]]}


@pytest.mark.parametrize("name", sorted(set(GENERATORS) - {"ascending"}))
def test_every_generator_changes_plain_inputs(name):
    layout, contents = pool("float32", (64, 48), "normal")
    assert made(name, layout, contents) is not None


def test_magnitudes_differ_within_a_tensor():
    layout, contents = pool("float32", (64, 48), "normal")
    rows = np.abs(read(layout.leaves[0], made("magnitudes", layout, contents))).max(axis=1)
    assert rows.max() > 1000 * rows.min()


def test_outliers_lie_anywhere():
    layout, contents = pool("float32", (100, 100), "normal")
    places = set()
    for seed in range(8):
        name = ("outliers", "late-outliers")[seed % 2]
        values = read(layout.leaves[0], made(name, layout, contents, seed))
        places |= set(np.flatnonzero(np.abs(values) > 100) // 1250)
    assert places == set(range(8))


def offsets():
    leaves = packed([("int32", (8,), (1,)), ("float32", (4, 4), (0, 1))])
    layout = Layout(TREE, leaves)
    content = np.zeros(layout.nbytes, np.uint8)
    write(leaves[0], content, np.array([0, 2, 2, 5, 9, 9, 12, 20]))
    return layout, content


def test_what_is_sorted_is_moved_as_a_whole_and_what_is_shared_not_at_all():
    layout, content = offsets()
    assert [d.kind for d in observe(layout, [content]).values()] == ["sorted", "fixed"]
    for name in set(GENERATORS) - {"ascending"}:
        assert made(name, layout, [content]) is None


def test_boundaries_filled_up_with_infinity_stay_as_they_are():
    (leaf,) = packed([("float32", (2, 4), (4, 1))])
    tree = {"dict": [["args", {"list": [{"tensor": 0}]}], ["cotangents", {"list": []}]]}
    layout = Layout(tree, (leaf,))
    content = np.zeros(layout.nbytes, np.uint8)
    write(leaf, content, np.array([[-1, 0, 2, np.inf], [1, 3, np.inf, np.inf]]))
    assert observe(layout, [content])[0].kind == "fixed"


@given(st.integers(0, 50))
def test_offsets_ascend_between_the_same_ends(seed):
    layout, content = offsets()
    found = read(layout.leaves[0], made("ascending", layout, [content], seed))
    assert (np.diff(found) >= 0).all()
    assert (found[0], found[-1]) == (0, 20)


@pytest.mark.parametrize("dtype", ["float32", "int64"])
def test_a_mask_that_ascends_is_a_mask(dtype):
    leaves = packed([(dtype, (12, 12), (12, 1))])
    layout = Layout(ONE, leaves)
    content = np.zeros(layout.nbytes, np.uint8)
    write(leaves[0], content, np.triu(np.ones((12, 12)), 1))
    assert observe(layout, [content])[0].kind in ("levels", "integer")


def test_cotangents_are_changed_too():
    leaves = packed([("float32", (4, 4), (4, 1)), ("float32", (4, 4), (4, 1))])
    tree = {
        "dict": [["args", {"list": [{"tensor": 0}]}], ["cotangents", {"list": [{"tensor": 1}]}]]
    }
    layout = Layout(tree, leaves)
    content = np.random.default_rng(0).standard_normal(layout.nbytes // 4).astype(np.float32)
    found = made("magnitudes", layout, [content.view(np.uint8)])
    assert (read(leaves[1], found) != read(leaves[1], content.view(np.uint8))).any()


def test_cotangents_are_no_arguments():
    tree = {
        "dict": [["args", {"tuple": [{"tensor": 1}]}], ["cotangents", {"list": [{"tensor": 0}]}]]
    }
    assert arguments(tree) == [1]


@given(st.sampled_from(["float32", "bfloat16", "float16"]), st.integers(0, 50))
def test_jitter_is_one_unit_in_the_last_place(dtype, seed):
    layout, contents = pool(dtype, (9, 7), "normal")
    domains = observe(layout, contents)
    moved = adversarial.jitter(layout, domains, contents[0], np.random.default_rng(seed))
    old, new = read(layout.leaves[0], contents[0]), read(layout.leaves[0], moved)
    assert (np.abs(new - old) <= ulp(np.abs(old), dtype)).all()
    assert (new != old).any()


@pytest.mark.parametrize("extent", ["element", "row", "part"])
@pytest.mark.parametrize("draw", ["normal", "unit", "positive"])
def test_a_mutation_changes_one_place(extent, draw):
    layout, contents = pool("float32", (16, 12), draw)
    domain = observe(layout, contents)[0]
    old = read(layout.leaves[0], contents[0])
    new = mutation.changed(old.copy(), domain, extent, 1.0, np.random.default_rng(5))
    count = {"element": 1, "row": 12, "part": 48}[extent]
    assert (new != old).sum() == count


def test_mutated_integers_stay_in_their_range_and_differ():
    layout, contents = pool("float32", (4, 4), "normal")
    domain = observe(layout, contents)[1]
    old = read(layout.leaves[1], contents[0])
    new = mutation.changed(old.copy(), domain, "row", 1.0, np.random.default_rng(1))
    assert (new != old).all()
    assert domain.low <= new.min() <= new.max() <= domain.high


@pytest.mark.parametrize("name", sorted(VIEWS))
@pytest.mark.parametrize("shape", [(5, 7), (64,), (2, 3, 4)])
def test_views_hold_the_same_values_in_another_place(name, shape):
    leaves = packed([("float32", shape, contiguous(shape)), ("int64", (9,), (1,))])
    layout = Layout(TREE, leaves)
    content = np.zeros(layout.nbytes, np.uint8)
    write(leaves[0], content, np.random.default_rng(0).normal(size=shape))
    write(leaves[1], content, np.arange(9) * 3 % 7)
    other = arranged(layout, VIEWS[name])
    if other is None:
        assert (name, len(shape)) == ("transposed", 1)
        return
    block = placed(layout, content, other)
    for old, new in zip(leaves, other.leaves, strict=True):
        assert np.array_equal(read(old, content), read(new, block))
    assert other.leaves[0].offset % 64 == 4 or name == "transposed"
    if (name, len(shape)) == ("sliced", 3):
        outer, inner, _ = other.leaves[0].stride
        assert outer != shape[1] * inner
    ends = [leaf.offset + leaf.span for leaf in other.leaves]
    assert ends[0] <= other.leaves[1].offset
    assert ends[1] <= other.nbytes
