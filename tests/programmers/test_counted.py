"""Tensors whose sizes only data decide: masks, repeats and jagged rows, as torch has them."""

from pathlib import Path

import pytest

from kernelevolve import suites

pytestmark = pytest.mark.needs_gxx
JAGGED = (Path(suites.__file__).parent / "dlrm_tasks" / "batch_event_truncate.py").read_text()
EVENTS = [{"features": 2, "users": 80, "events": 60, "most": 20}]
MORE_EVENTS = [{"features": 3, "users": 7, "events": 11, "most": 1},
               {"features": 1, "users": 4, "events": 6, "most": 6}]  # fmt: skip
COUNTED = """
class Model(nn.Module):
    def forward(self, x, keep, lengths):
        some, flat = x[keep] * 2, torch.masked_select(x, x > 0.5)
        back = torch.repeat_interleave(x, lengths, dim=0)
        return (some.relu(), flat.exp(), torch.zeros_like(flat), (some > 0).sum(0), back + 1,
                keep.nonzero() + 1, back[back > 0].cumsum(0), torch.unique(lengths) * 2,
                lengths.cumsum(0), (keep & (x[:, 0] > 0)).cumsum(0), keep[keep].sum())

def get_inputs(n, m):
    return [torch.randn(n, m), torch.rand(n) < 0.4, torch.randint(0, 4, (n,))]
"""
ROWS = [{"n": 5000, "m": 3}, {"n": 30, "m": 8}]
MORE_ROWS = [{"n": 4097, "m": 1}, {"n": 1, "m": 5}, {"n": 7, "m": 2}]


@pytest.mark.slow
def test_jagged_rows_are_cut_without_a_library_call(check):
    made = check(JAGGED, EVENTS, MORE_EVENTS)
    assert not made.fallback and not made.message
    assert made.files["kernel.cpp"].count("static void fill_") == 8


@pytest.mark.slow
def test_sizes_are_counted_before_what_has_them(check):
    made = check(COUNTED, ROWS, MORE_ROWS)
    assert not made.fallback and "repeat_interleave" not in made.message
