from hypothesis import given
from hypothesis import strategies as st

from kernelevolve.evaluation.layout import PAGE, Layout, guarded, unused_pages
from kernelevolve.evaluation.wire import Malformed

SPECS = [("float32", (5, 3), (3, 1)), ("int64", (0,), (1,)), ("float32", (1100,), (1,))]


def test_every_tensor_touches_an_unused_page_on_its_side_and_has_one_on_the_other():
    before, behind = guarded(SPECS, 0), guarded(SPECS, (1 << 60) - 1)
    for leaves in (before, behind):
        nbytes = Layout(None, leaves).nbytes + PAGE
        unused = [(begin, begin + size) for begin, size in unused_pages(leaves, nbytes)]
        for leaf in (x for x in leaves if x.span):
            first, last = leaf.offset // PAGE * PAGE, (leaf.offset + leaf.span - 1) // PAGE * PAGE
            assert any(begin <= first - PAGE and end == first for begin, end in unused)
            assert any(begin == last + PAGE for begin, _ in unused)
    assert all(leaf.offset % PAGE == 0 for leaf in before)
    assert all((leaf.offset + leaf.span) % PAGE > PAGE - 64 for leaf in behind if leaf.span)


def test_tensors_that_share_a_page_leave_none_of_it_unused():
    leaves = guarded(SPECS, 0)
    assert unused_pages(leaves, leaves[-1].offset + 2 * PAGE) == [
        (0, PAGE),
        (2 * PAGE, leaves[-1].offset - 2 * PAGE),
    ]
    assert unused_pages((), 2 * PAGE) == [(0, 2 * PAGE)]


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
