"""Whole tasks through capture, regions and g++, at sizes that the programmer never saw."""

from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from kernelevolve.programmers.builtin.moves import Result, initial_plans, merge, mutate
from kernelevolve.programmers.builtin.render import Model, Rendered, model_of, render
from kernelevolve.programmers.builtin.schedule import Loops, Plan

from .conftest import HEAD, captured

pytestmark = pytest.mark.needs_gxx
Check = Callable[..., Rendered]

SEEN = [{"rows": 64, "cols": 256}, {"rows": 8, "cols": 40}]
UNSEEN = [{"rows": 127, "cols": 1023}, {"rows": 1, "cols": 1}, {"rows": 3, "cols": 17}]
MATRIX = "def get_inputs(rows, cols): return [torch.randn(rows, cols)]\n"
FORWARD = "class Model(nn.Module):\n    def forward(self, x):\n        return "

SOFTMAX = FORWARD + "torch.softmax(x, -1)\n" + MATRIX
NORMS = """
class Model(nn.Module):
    def __init__(self, cols):
        super().__init__()
        self.norm = nn.LayerNorm(cols)
        self.scale = nn.Parameter(torch.ones(cols))

    def forward(self, x, r):
        y = self.norm(F.gelu(x) * 1.7 + r)
        z = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * self.scale
        return y, z

def get_inputs(rows, cols): return [torch.randn(rows, cols), torch.randn(rows, cols)]
def get_init_inputs(cols): return [cols]
"""
LOSSES = """
class Model(nn.Module):
    def forward(self, x, t):
        y = x * 0.5
        return F.cross_entropy(x, t), F.mse_loss(x, y), F.log_softmax(x, 1), x.argmax(1)

def get_inputs(rows, cols): return [torch.randn(rows, cols), torch.randint(0, cols, (rows,))]
"""
GROUPS = """
class Model(nn.Module):
    def __init__(self, c, g):
        super().__init__()
        self.norm = nn.GroupNorm(g, c)
        self.batch = nn.BatchNorm2d(c)

    def forward(self, x):
        y = self.norm(x)
        return F.silu(y), self.batch(x)

def get_inputs(n, c, h): return [torch.randn(n, c, h, h + 1)]
def get_init_inputs(c, g): return [c, g]
"""
COLUMNS = """
class Model(nn.Module):
    def forward(self, x):
        top, where = x.max(1)
        return (torch.softmax(x, 1), x.sum(0), x.mean(), x.amax((0, 2)), top, where,
                torch.cumsum(x, -1), torch.cumsum(x, 1), x.std(dim=1),
                x.transpose(1, 2).contiguous(),
                torch.cat([x, x * 2], -1), x[:, 1:], x.flip(1), (x > 0).sum(1), x.prod(1) * 1e-3)

def get_inputs(n, c, h): return [torch.randn(n, c, h)]
"""
ATTENTION = """
class Model(nn.Module):
    def __init__(self, d, heads):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(d, 3 * d)
        self.out = nn.Sequential(nn.Linear(d, 2 * d), nn.GELU(), nn.Linear(2 * d, d))

    def forward(self, x):
        b, t, d = x.shape
        q, k, v = self.qkv(x).split(d, dim=-1)
        q, k, v = (a.view(b, t, self.heads, d // self.heads).transpose(1, 2) for a in (q, k, v))
        scores = q @ k.transpose(-1, -2) * (d // self.heads) ** -0.5
        keep = torch.tril(torch.ones(t, t, dtype=torch.bool))
        weights = scores.masked_fill(~keep, float("-inf")).softmax(-1)
        return x + self.out((weights @ v).transpose(1, 2).reshape(b, t, d))

def get_inputs(b, t, d): return [torch.randn(b, t, d)]
def get_init_inputs(d, heads): return [d, heads]
"""
ALGEBRA = """
class Model(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.wide = nn.Linear(d, 4 * d)

    def forward(self, x, y):
        return x @ (x.transpose(1, 2) @ y), self.wide(x).sum(-1), self.wide(x * 2).mean(1)

def get_inputs(b, n, d, k): return [torch.randn(b, n, d), torch.randn(b, n, k)]
def get_init_inputs(d): return [d]
"""
MIXED = """
class Model(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.conv = nn.Conv2d(c, c + 1, 3, padding=1)

    def forward(self, x):
        return torch.sigmoid(self.conv(torch.tanh(x))) * 2

def get_inputs(n, c, h): return [torch.randn(n, c, h, h)]
def get_init_inputs(c): return [c]
"""
HALF = """
class Model(nn.Module):
    def forward(self, x, y, i):
        return torch.softmax(x.float(), -1).to(torch.bfloat16), (y.float() * 2).half(), i * 3 - 1

def get_inputs(rows, cols):
    return [torch.randn(rows, cols).bfloat16(), torch.randn(rows, cols).half(),
            torch.randint(-9, 9, (rows, cols))]
"""
DOUBLE = """
class Model(nn.Module):
    def forward(self, x):
        return torch.softmax(x, -1), torch.log1p(x.exp()).mean(0), F.gelu(x)

def get_inputs(rows, cols): return [torch.randn(rows, cols, dtype=torch.float64)]
"""
SMALL = [{"b": 4, "t": 16, "d": 32, "heads": 4}, {"b": 2, "t": 8, "d": 16, "heads": 2}]
IMAGES = [{"n": 2, "c": 16, "h": 12, "g": 4}, {"n": 3, "c": 8, "h": 5, "g": 2}]


def test_softmax_keeps_infinities_and_nan(check: Check) -> None:
    spoiled = SOFTMAX.replace(
        "return [torch.randn(rows, cols)]",
        "x = torch.randn(rows, cols); x[0, 0] = -float('inf'); x[-1, -1] = x[0, 0] * 0; return [x]",
    )
    assert not check(spoiled, SEEN, UNSEEN).fallback


def test_norms(check: Check) -> None:
    made = check(NORMS, SEEN, UNSEEN, optimised=True)
    assert not made.fallback and not made.message


def test_losses(check: Check) -> None:
    assert not check(LOSSES, SEEN, [*UNSEEN, {"rows": 2, "cols": 40000}], optimised=True).fallback


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_group_and_batch_norm(check: Check, mode: str) -> None:
    unseen = [{"n": 3, "c": 9, "h": 7, "g": 3}]
    assert not check(GROUPS, IMAGES, unseen, mode=mode).fallback


def test_columns_scans_views_and_integers(check: Check) -> None:
    unseen = [{"n": 3, "c": 7, "h": 19}, {"n": 1, "c": 2, "h": 1}, {"n": 2, "c": 700, "h": 33}]
    made = check(
        COLUMNS, [{"n": 4, "c": 8, "h": 64}, {"n": 2, "c": 5, "h": 24}], unseen, optimised=True
    )
    assert not made.fallback and not made.message


@pytest.mark.slow
def test_attention_written_op_by_op(check: Check) -> None:
    made = check(ATTENTION, SMALL, [{"b": 3, "t": 5, "d": 21, "heads": 3}], optimised=True)
    assert not made.fallback and not made.message and not made.algebraic


@pytest.mark.slow
def test_the_largest_of_a_row_less_itself_is_zero_however_large_it_is(check: Check) -> None:
    body = """
class Model(nn.Module):
    def forward(self, x): return torch.softmax(x * 0.3, -1), x * 0.7 - (x * 0.7).amax(-1, True)
def get_inputs(n, m): return [torch.randn(n, m) * 1e15]
"""
    check(body, [{"n": 9, "m": 40}, {"n": 5, "m": 67}], optimised=True)


def test_algebra_is_marked_and_right(check: Check) -> None:
    seen = [{"b": 4, "n": 6, "d": 32, "k": 64}, {"b": 2, "n": 4, "d": 16, "k": 40}]
    made = check(ALGEBRA, seen, [{"b": 3, "n": 5, "d": 9, "k": 7}])
    assert made.algebraic and not made.fallback


def test_library_calls_stay_in_forward(check: Check) -> None:
    made = check(MIXED, IMAGES, [{"n": 1, "c": 3, "h": 7}])
    assert not made.fallback and "convolution" in made.message


@pytest.mark.slow
def test_other_dtypes(check: Check) -> None:
    assert not check(HALF, SEEN, UNSEEN, optimised=True).fallback


def test_float64(check: Check) -> None:
    assert not check(DOUBLE, SEEN, UNSEEN).fallback


@pytest.mark.slow
@pytest.mark.parametrize(
    "plan",
    [
        Plan(loops=Loops(width=8, unroll=1, stage=False, reciprocal=False), fast_math=True),
        Plan(loops=Loops(unroll=8, columns=1, stream=True), prologues=True, huge_pages=False),
        Plan(library=True, algebra=False, tune="-mprefer-vector-width=512"),
    ],
)
def test_every_decision_is_right(check: Check, plan: Plan) -> None:
    both = NORMS.replace(
        "return y, z", "return y, z, torch.softmax(x, 0), x @ r.t(), (x + 1) @ torch.exp(r).t()"
    )
    check(both, SEEN, UNSEEN[:2], plan=plan)


UNARY = ["torch.exp({})", "torch.tanh({})", "torch.sigmoid({})", "({} * 0.5 + 1)", "torch.relu({})",
         "torch.abs({})", "F.softplus({})", "F.gelu({}, approximate='tanh')", "torch.erf({})",
         "torch.where({0} > 0, {0}, {0} * 0.1)", "torch.sqrt(torch.abs({}) + 1)",
         "torch.clamp({}, -1, 1)", "F.elu({})", "F.hardswish({})",
         "torch.log(torch.abs({}) + 0.5)"]  # fmt: skip
BINARY = ["({} + {})", "({} * {})", "({} - {})", "({} / (torch.abs({}) + 1))",
          "torch.maximum({}, {})"]  # fmt: skip
REDUCE = ["({0} - {0}.mean(-1, keepdim=True))", "({0} / ({0}.abs().amax(-1, keepdim=True) + 1))",
          "torch.softmax({}, -1)", "({0} * {0}.sum(1, keepdim=True) * 0.01)",
          "torch.softmax({}, 1)", "({0} + {0}.mean())",
          "F.layer_norm({0}, {0}.shape[-1:])"]  # fmt: skip


def random_expression(rng: Random, depth: int) -> str:
    if depth == 0:
        return rng.choice(["x", "y", "x", "b"])
    kind = rng.random()
    if kind < 0.4:
        return rng.choice(UNARY).format(random_expression(rng, depth - 1))
    if kind < 0.8:
        pair = (random_expression(rng, depth - 1), random_expression(rng, depth - 1))
        return rng.choice(BINARY).format(*pair)
    return rng.choice(REDUCE).format(f"({random_expression(rng, depth - 1)} + x)")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_random_graphs(check: Check, seed: int) -> None:
    rng = Random(seed)
    results = ", ".join(random_expression(rng, 3) for _ in range(4))
    body = (
        "class Model(nn.Module):\n    def forward(self, x, y, b):\n"
        f"        return {results}\n"
        "def get_inputs(n, c, h):\n"
        "    return [torch.randn(n, c, h), torch.randn(n, c, h), torch.randn(h)]\n"
    )
    sizes = [{"n": 2, "c": 6, "h": 48}, {"n": 3, "c": 4, "h": 20}]
    check(body, sizes, [{"n": 2, "c": 5, "h": 37}, {"n": 1, "c": 3, "h": 2}])


@pytest.fixture(scope="module")
def softmax() -> Model:
    return captured(HEAD + SOFTMAX, SEEN)


def test_what_cannot_be_captured_is_left_to_the_reference() -> None:
    source = (
        HEAD
        + "class Model(nn.Module):\n    def forward(self, x):\n"
        + "        return x if x.sum() > 0 else -x\n"
    )
    model = captured(source + MATRIX, SEEN)
    made = render(model, Plan())
    assert made.fallback and made.message
    assert "class ModelNew" in made.files["model.py"] and "kernel.cpp" not in made.files


def test_an_empty_answer_is_a_fallback() -> None:
    model = model_of(HEAD + SOFTMAX, {"captures": [], "messages": ["too large"]})
    assert render(model, Plan()).message == "too large"


def test_plans_survive_json(softmax: Model) -> None:
    for plan in initial_plans(softmax):
        assert Plan.model_validate_json(plan.model_dump_json()) == plan


def test_moves_never_repeat_a_source(softmax: Model) -> None:
    plans = initial_plans(softmax)
    sources = {render(softmax, p).files["kernel.cpp"] for p in plans}
    assert len(sources) == len(plans)
    parent, tried = Result(plans[0], 1.0, "memory"), [p.model_dump_json() for p in plans]
    texts: list[Any] = []
    for number in range(6):
        step = mutate(softmax, parent, (), tried, Random(number))
        tried.append(step.plan.model_dump_json())
        texts.append(tuple(sorted(render(softmax, step.plan).files.items())))
    assert len(set(texts)) == len(texts)


def test_what_gained_in_two_attempts_is_tried_together(softmax: Model) -> None:
    parent = Result(Plan(), 1.0, "compute")
    measured = [(Plan(), 1.0), (Plan(loops=Loops(stream=True)), 1.5), (Plan(fast_math=True), 1.4)]
    tried = [plan.model_dump_json() for plan, _ in measured]
    step = mutate(softmax, parent, measured, tried, Random(1))
    assert step.plan == Plan(loops=Loops(stream=True), fast_math=True)
    again = mutate(softmax, parent, measured, [*tried, step.plan.model_dump_json()], Random(1))
    assert again.plan not in (step.plan, *(plan for plan, _ in measured))


def test_merging_takes_every_decision_from_a_parent() -> None:
    first, second = Plan(loops=Loops(unroll=8)), Plan(fast_math=True, cuts=(3,))
    for seed in range(8):
        merged = merge(first, second, Random(seed))
        assert merged.loops.unroll in (8, 2) and merged.cuts in ((), (3,))
