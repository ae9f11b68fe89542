"""Attention in Triton: one kernel, whatever masks hide and however large scores are."""

from pathlib import Path

import pytest

from kernelevolve.programmers.builtin.emit.tiles_masks import hidden_from
from kernelevolve.programmers.builtin.ir import Call, Const, Index, Load, Position, Ref, Size, Term
from kernelevolve.programmers.builtin.schedule import Plan, Tiles
from kernelevolve.suites.dlrm_tasks import attention

from .test_triton import for_device, in_triton, pytestmark

__all__ = ["for_device", "in_triton", "pytestmark"]

MASKED = """
def attend(q, k, v, mask, hidden):
    shared = q.size(1) // k.size(1)
    k, v = k.repeat_interleave(shared, 1), v.repeat_interleave(shared, 1)
    scores = torch.matmul(q, k.transpose(-2, -1)) * q.size(-1) ** -0.5
    return torch.matmul(torch.softmax(scores.masked_fill(mask, hidden), -1), v)

class Model(nn.Module):
    def forward(self, q, s, k, v, w, keep):
        least, length, keys = float("-inf"), q.size(2), k.size(2)
        later = torch.arange(keys) >= torch.arange(length)[:, None] + 3
        return attend(q, k, w, later, least), attend(s, k, v, ~keep[:, None, None, :], least)

def get_inputs(b, h, g, length, keys, d):
    q, s = (torch.randn(b, h, length, d) for _ in range(2))
    k, v, w = (torch.randn(b, g, keys, d) for _ in range(3))
    keep = torch.rand(b, keys) < 0.5
    s[0, 0], w[-1, 0, -1], q[:, :, -1] = 1e18, float("nan"), 1e15
    keep[0] = False
    return [q, s, k, v, w, keep]
"""
SIZES = [
    {"b": 2, "h": 2, "g": 1, "length": 24, "keys": 40, "d": 8},
]
UNSEEN = [{"b": 1, "h": 2, "g": 1, "length": 35, "keys": 33, "d": 5}]
SMALL = Tiles(query_rows=16, key_block=16)


@pytest.mark.slow
def test_masks_hide_what_they_hide_and_nothing_else(in_triton):
    made = in_triton(MASKED, SIZES, UNSEEN, Plan(tiles=SMALL))
    assert not made["all"] and made["model"].count("\ndef chain_") == 2
    assert made["model"].count("spoiled +=") == 1


def at(axis, offset=0):
    return Position("i64", Index(Size.of(offset), (Term(axis, Size.of(1)),)))


def truth(fn, *args):
    return Call("bool", fn, args)


YES, NO = Const("bool", True), Const("bool", False)
SCORE, LEAST = Ref("f32", "acc"), Const("f32", float("-inf"))
LATER = truth("gt", at("n"), at("m", 2))
BACK = Call("i64", "sub", (at("n"), at("m")))


@pytest.mark.parametrize(
    ("hides", "shows", "first"),
    [
        (LATER, None, 3),
        (truth("and", YES, LATER), None, 3),
        (truth("lt", at("m"), at("n")), None, 1),
        (truth("not", truth("and", truth("le", BACK, Const("i64", -1)), YES)), None, 0),
        (None, truth("where", truth("ge", BACK, Const("i64", 4)), NO, YES), 4),
        (truth("or", LATER, Load("bool", "mask", at("n").index)), None, 3),
    ],
)
def test_a_mask_says_from_which_column_on_it_hides(hides, shows, first):
    args = (shows, SCORE, LEAST) if hides is None else (hides, LEAST, SCORE)
    found = hidden_from(Call("f32", "where", args), "m", "n")
    assert eval(found.at) == first  # noqa: S307
    alone = hides is None or hides.fn != "or"
    assert found.before is (SCORE if alone else None)


@pytest.mark.parametrize(
    "hides", [truth("lt", at("n"), at("m")), truth("and", LATER, truth("ne", at("n"), at("m")))]
)
def test_a_mask_that_hides_something_else_hides_no_rest(hides):
    assert hidden_from(Call("f32", "where", (hides, LEAST, SCORE)), "m", "n") is None
    assert hidden_from(Call("f32", "where", (LATER, Const("f32", -1e9), SCORE)), "m", "n") is None


@pytest.mark.slow
def test_heads_of_128_need_no_more_registers_than_there_are(for_device):
    task = Path(attention.__file__).read_text()
    sizes = {"batch": 1, "heads": 4, "groups": 2, "length": 160, "width": 128}
    (kernel,) = for_device(task.replace("float32", "float16"), [sizes], unseen=[1])
    assert kernel["shared"] <= 227 * 1024 and kernel["stack"] == 0
    assert kernel["ptx"].count("sub.f32") > 8 > kernel["ptx"].count("fma.rn.f32"), "scores fused"
