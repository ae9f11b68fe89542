"""What the built-in programmer writes in Triton: interpreted and compared, and compiled."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from random import Random

import pytest

from kernelevolve.programmers.builtin.moves import Result, draw, initial_plans, mutate
from kernelevolve.programmers.builtin.render import render
from kernelevolve.programmers.builtin.schedule import Plan, Tiles

from .conftest import HEAD, captured
from .test_simt import PRODUCTS, SEVERAL, SHAPES, TASKS, TOGETHER, UNSEEN_SHAPES

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")


def _asked(what, folder, interpret, body, workloads, unseen=(), plan=None, mode=None):
    asked = {"folder": str(folder), "body": body, "workloads": workloads, "mode": mode}
    asked |= {"plan": (plan or Plan()).model_dump(), "unseen": unseen}
    done = subprocess.run(
        [sys.executable, "-m", "tests.programmers.triton_kit", what],
        input=json.dumps(asked),
        env={**os.environ, "TRITON_INTERPRET": interpret},  # noqa: TID251  of that process
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout)


@pytest.fixture
def in_triton(tmp_path):
    """What is written for a task, after a comparison in a process that interprets it."""
    return partial(_asked, "compare", tmp_path, "1")


@pytest.fixture
def for_device(tmp_path):
    """The kernels of a task, compiled for sm_90."""
    return partial(_asked, "compile", tmp_path, "0")


QUICK = ("norms",)


@pytest.mark.parametrize(
    "name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in TASKS]
)
def test_kernels_are_right_at_sizes_that_were_never_seen(in_triton, name):
    body, seen, unseen, mode = TASKS[name]
    made = in_triton(
        body.replace("bfloat16()", "half()").replace("bfloat16", "half"), seen, unseen, mode=mode
    )
    assert not made["all"] and "@triton.jit" in made["model"]


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in TASKS if n != "search"])
def test_the_compiler_for_the_device_takes_all_of_it(for_device, name):
    body, seen, _, mode = TASKS[name]
    for kernel in for_device(body, seen, mode=mode):
        assert kernel["shared"] <= 227 * 1024, kernel


CHAIN = """
class Model(nn.Module):
    def __init__(self, d, k):
        super().__init__()
        self.inner = nn.RMSNorm(k, eps=1e-5, dtype=torch.DTYPE)
        self.outer = nn.RMSNorm(d, eps=1e-5, dtype=torch.DTYPE)

    def forward(self, x, w, b, v):
        return self.outer(torch.bmm(self.inner(F.gelu(torch.bmm(x, w) + b)), v) + 1)

def get_inputs(n, m, d, k):
    made = [torch.randn(n, m, d), torch.randn(n, d, k), torch.randn(n, 1, k), torch.randn(n, k, d)]
    return [t.to(torch.DTYPE) for t in made]
def get_init_inputs(d, k): return [d, k]
"""
PAIR = """
class Model(nn.Module):
    def forward(self, x, y): return torch.bmm(x, torch.bmm(x.transpose(1, 2), y))

def get_inputs(n, m, d, k):
    return [torch.randn(n, m, d).to(torch.DTYPE), torch.randn(n, m, k).to(torch.DTYPE)]
"""
ROWS = [{"n": 2, "m": 24, "d": 40, "k": 72}, {"n": 3, "m": 40, "d": 56, "k": 64}]
MORE_ROWS = [{"n": 2, "m": 37, "d": 83, "k": 301}, {"n": 1, "m": 5, "d": 18, "k": 33}]


@pytest.mark.slow
@pytest.mark.parametrize("plan", [Plan(), Plan(algebra=False), Plan(tiles=Tiles(dot_m=16))])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("body", [CHAIN, PAIR])
def test_chains_of_products_are_one_kernel(in_triton, body, dtype, plan):
    made = in_triton(body.replace("DTYPE", dtype), ROWS, MORE_ROWS, plan=plan)
    assert not made["all"]
    assert made["model"].count("def chain_fill") == (body is CHAIN or plan.algebra)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dtype", "plan"),
    [
        ("float16", Plan()),
        ("float32", Plan(tiles=Tiles(dot_m=32, dot_n=16), prologues=True)),
        ("float16", Plan(prologues=True, tiles=Tiles(dot_k=16, dot_m=16, dot_n=16, group=4))),
        ("float64", Plan()),
    ],
)
def test_products_with_what_comes_before_and_after_them(in_triton, dtype, plan):
    made = in_triton(PRODUCTS.replace("DTYPE", dtype), SHAPES, UNSEEN_SHAPES, plan=plan)
    assert not made["all"] and "torch.matmul" not in made["model"]


@pytest.mark.slow
def test_what_is_rounded_anyway_takes_a_shorter_polynomial(in_triton):
    made = in_triton(CHAIN.replace("DTYPE", "float16"), ROWS, MORE_ROWS, Plan(fast_math=True))
    assert "tl.erf" not in made["model"] and "short_erf_(" in made["model"]


@pytest.mark.slow
def test_long_sums_of_few_are_shared(in_triton):
    body = """
class Model(nn.Module):
    def forward(self, x): return x.sum(0), (x * x).mean(), x.amax(0)
def get_inputs(rows, cols): return [torch.randn(rows, cols)]
"""
    seen = [{"rows": 1200, "cols": 40}, {"rows": 4000, "cols": 24}]
    made = in_triton(body, seen, [{"rows": 3001, "cols": 70}, {"rows": 3, "cols": 1}])
    assert made["model"].count("_shares(") >= 3


GRADIENTS = """
class Model(nn.Module):
    def forward(self, x, w, dy):
        scale = torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-5)
        normed, inner = x * scale, dy * w
        dx = scale * (inner - normed * (inner * normed).mean(-1, keepdim=True))
        return dx, (dy * normed).sum(0)

def get_inputs(rows, cols):
    return [torch.randn(rows, cols), torch.randn(cols), torch.randn(rows, cols)]
"""


@pytest.mark.slow
@pytest.mark.parametrize("plan", [Plan(), Plan(tiles=Tiles(row_points=2, splits=4))])
def test_rows_are_read_once_by_all_that_need_them(in_triton, plan):
    seen = [{"rows": 300, "cols": 96}, {"rows": 64, "cols": 40}]
    made = in_triton(GRADIENTS, seen, [{"rows": 1031, "cols": 77}, {"rows": 1, "cols": 5}], plan)
    first = made["model"].split("@triton.jit\ndef fill")[1]
    assert first.count("tl.load(x ") == first.count("tl.load(dy ") == 1


@pytest.mark.slow
def test_several_kernels_are_launched_together(in_triton):
    made = in_triton(SEVERAL, TOGETHER, [{"m": 3, "n": 5, "k": 7}], Plan(graph=True, chains=False))
    assert made["model"].count("graphs.Replay()") == 1


def test_moves_never_repeat_a_source():
    body, seen, _, mode = TASKS["norms"]
    model = replace(captured(HEAD + body, seen, mode), language="triton")
    plans = initial_plans(model)
    assert len({render(model, p).files["model.py"] for p in plans}) == len(plans) >= 4
    tried = [p.model_dump_json() for p in plans]
    for number in range(4):
        step = mutate(model, Result(plans[0], 1.0, "memory"), (), tried, Random(number))
        source = render(model, step.plan).files
        assert source not in [render(model, Plan.model_validate_json(t)).files for t in tried]
        tried.append(step.plan.model_dump_json())
    assert draw(model, tried, Random(1)).plan.tiles != Tiles()
