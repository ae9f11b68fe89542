from hypothesis import given
from hypothesis import strategies as st

from kernelevolve.evaluation.layout import Layout
from kernelevolve.evaluation.wire import Malformed


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
