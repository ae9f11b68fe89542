"""Searches in tables, alone and with what is done to their results, as torch answers them."""

import pytest

from kernelevolve.programmers.builtin.schedule import Blocks, Loops, Plan

pytestmark = pytest.mark.needs_gxx
IDS = """
class Model(nn.Module):
    def forward(self, values, table):
        index = torch.bucketize(values, table).clamp(max=table.numel() - 1)
        return torch.where(table[index] == values, index + 1, 0)

def get_inputs(n, k):
    return [torch.randint(-3, 3 * k, (n,)), torch.randint(0, 2 * k, (k,)).sort().values]
"""
SIZES = [{"n": 130, "k": 100}, {"n": 70, "k": 16}]
OTHERS = [{"n": 19, "k": 1}, {"n": 33, "k": 257}, {"n": 1, "k": 2}, {"n": 65, "k": 31}]
EVERY = """
class Model(nn.Module):
    def __init__(self, k):
        super().__init__()
        self.register_buffer("own", torch.randn(k))

    def forward(self, x, i, table, edges, some):
        inside = torch.searchsorted(edges, x, right=True, out_int32=True) + edges.shape[1]
        bins = torch.isfinite(edges).sum(1) + 1
        mixed = torch.bucketize(x, table), torch.bucketize(i.int(), table.int(), right=True)
        top = torch.bucketize(x.amax(1), self.own, right=True)
        reverse = torch.searchsorted(-table.flip(0), -i)
        return (torch.bucketize(x * 2, self.own).float() * 0.5, inside + bins.cumsum(0)[:, None],
                *mixed, top, reverse, torch.searchsorted(some, i, side="right"),
                (torch.searchsorted(edges, x).float() - x.nan_to_num()).sum(1))

def get_inputs(n, m, k):
    x, edges, table = torch.randn(n, m), torch.randn(n, k), torch.randint(0, 2 * k + 1, (k,))
    edges = edges.masked_fill(torch.rand(n, k) < 0.1, float("inf")).sort(1).values
    if k:
        x[-1] = edges[-1, k // 2]
    x[0, 0], x[0, -1], x[-1, 0] = float("nan"), float("inf"), float("-inf")
    return [x, torch.randint(-9, 3 * k + 9, (n, m)), table.sort().values, edges, table[:0]]
def get_init_inputs(k): return [k]
"""
LOOKUPS = """
class Model(nn.Module):
    def __init__(self, n, m):
        super().__init__()
        self.table = nn.Embedding(n, m)

    def forward(self, x, i, j):
        return (self.table(i % self.table.weight.shape[0]).sum(1), x[j - 3] * 2, torch.take(x, i),
                x.gather(1, (i // 2) % x.shape[1]), torch.div(i, 3, rounding_mode="trunc"),
                torch.isin(j, i[0]), (i.int() % 7).short(), torch.index_select(x, 1, j % 2),
                torch.take_along_dim(x, i[:1] % 2, 0), x[:, i[0] % 2].exp())

def get_inputs(n, m):
    x, j = torch.randn(n, m), torch.randint(0, n + 3, (n,))
    return [x, torch.randint(-9, n, (n, m)).clamp(-n * m), j]
def get_init_inputs(n, m): return [n, m]
"""
MATRICES = [{"n": 4, "m": 23, "k": 16}]
ODD = [{"n": 2, "m": 5, "k": 257}, {"n": 5, "m": 7, "k": 0}]


def test_a_search_and_what_surrounds_it_is_one_pass(check):
    made = check(IDS, SIZES, OTHERS)
    assert not made.message
    assert made.files["kernel.cpp"].count("static void fill_") == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("language", "plan"),
    [
        ("cpp", Plan(loops=Loops(width=8, unroll=1))),
        ("cuda", Plan(blocks=Blocks(tree=16, threads=32, parts=1))),
    ],
)
def test_tables_of_every_kind(check, language, plan):
    made = check(EVERY, MATRICES, ODD, language=language, plan=plan)
    assert "searchsorted" not in made.message and "bucketize" not in made.message
    planted = made.files.get("kernel.cu", "").count("  plant<")
    assert (planted > 3) == bool(plan.blocks.tree)


@pytest.mark.slow
def test_places_may_be_computed_and_count_from_the_end(check):
    seen = [{"n": 9, "m": 5}, {"n": 12, "m": 6}]
    assert not check(LOOKUPS, seen, [{"n": 31, "m": 4}, {"n": 5, "m": 17}]).message
