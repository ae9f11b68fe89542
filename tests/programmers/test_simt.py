"""What the built-in programmer writes in CUDA, run on the emulator and compared like its C++."""

from dataclasses import replace
from functools import partial
from random import Random

import pytest

from kernelevolve.programmers.builtin.emit.spelling import CUDA
from kernelevolve.programmers.builtin.moves import Result, draw, initial_plans, merge, mutate
from kernelevolve.programmers.builtin.render import render
from kernelevolve.programmers.builtin.schedule import Blocks, Plan
from kernelevolve.runtime import nvrtc

from .conftest import HEAD, captured
from .test_builtin import (
    ALGEBRA,
    ATTENTION,
    COLUMNS,
    GROUPS,
    HALF,
    IMAGES,
    LOSSES,
    NORMS,
    SEEN,
    SMALL,
    SOFTMAX,
    UNSEEN,
)
from .test_counted import EVENTS, JAGGED, MORE_EVENTS
from .test_search import EVERY, MATRICES, ODD

pytestmark = pytest.mark.needs_gxx
CUBES = [{"n": 4, "c": 8, "h": 64}, {"n": 2, "c": 5, "h": 24}]
TASKS = {
    "softmax": (SOFTMAX, SEEN, UNSEEN, None),
    "norms": (NORMS, SEEN, UNSEEN, None),
    "losses": (LOSSES, SEEN, UNSEEN, None),
    "groups": (GROUPS, IMAGES, [{"n": 3, "c": 9, "h": 7, "g": 3}], "eval"),
    "columns": (COLUMNS, CUBES, [{"n": 3, "c": 7, "h": 19}, {"n": 1, "c": 2, "h": 1}], None),
    "attention": (ATTENTION, SMALL, [{"b": 3, "t": 5, "d": 21, "heads": 3}], None),
    "algebra": (ALGEBRA, [{"b": 4, "n": 6, "d": 32, "k": 64}, {"b": 2, "n": 4, "d": 16, "k": 40}],
                [{"b": 3, "n": 5, "d": 9, "k": 7}], None),
    "half": (HALF, SEEN, UNSEEN, None),
    "search": (EVERY, MATRICES, ODD, None),
    "jagged": (JAGGED, EVENTS, MORE_EVENTS, None),
}  # fmt: skip


@pytest.fixture
def in_cuda(check):
    return partial(check, language="cuda")


QUICK = ("softmax",)


@pytest.mark.parametrize(
    "name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in TASKS]
)
def test_kernels_are_right_at_sizes_that_were_never_seen(in_cuda, name):
    body, seen, unseen, mode = TASKS[name]
    made = in_cuda(body, seen, unseen, mode=mode)
    assert not made.fallback
    assert "__global__" in made.files["kernel.cu"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "plan",
    [
        Plan(blocks=Blocks(threads=32, rows=8, parts=1), fast_math=True),
        Plan(blocks=Blocks(threads=1024, parts=32), algebra=False),
        Plan(blocks=Blocks(threads=64, rows=1, parts=4, keep=False), cuts=(1,)),
    ],
)
def test_every_way_to_spread_the_work_is_right(in_cuda, plan):
    more = "return y, z, torch.softmax(x, 0), (x * x).sum(), x.argmax(0)"
    both = NORMS.replace("return y, z", more)
    in_cuda(both, SEEN, UNSEEN[:2], plan=plan)


@pytest.mark.slow
def test_the_compiler_for_the_device_takes_all_of_it(tmp_path, monkeypatch):
    pytest.importorskip("cuda.bindings.nvrtc", reason='pip install "kernelevolve[cuda]"')
    monkeypatch.chdir(tmp_path)
    products = {
        d: (PRODUCTS.replace("DTYPE", d), SHAPES, (), None) for d in ("float16", "bfloat16")
    }
    for name, (body, seen, _, mode) in (TASKS | products).items():
        model = replace(captured(HEAD + body, seen, mode), language="cuda")
        (tmp_path / "kernel.cu").write_text(render(model, Plan()).files["kernel.cu"])
        fine, log = nvrtc.compile_file("kernel.cu", "sm_90", tmp_path / "k", list(CUDA.flags))
        assert fine, f"{name}: {log}"


PRODUCTS = """
class Model(nn.Module):
    def __init__(self, k, n):
        super().__init__()
        self.linear = nn.Linear(k, n).to(torch.DTYPE)

    def forward(self, x, y):
        z = self.linear(torch.tanh(x))
        return F.gelu(z) * 0.5, x @ y.transpose(1, 2) + 1, (x.transpose(1, 2) @ x).sum(-1)

def get_inputs(b, m, n, k):
    return [torch.randn(b, m, k).to(torch.DTYPE), torch.randn(b, n, k).to(torch.DTYPE)]
def get_init_inputs(k, n): return [k, n]
"""
SHAPES = [{"b": 2, "m": 33, "n": 24, "k": 40}, {"b": 3, "m": 8, "n": 16, "k": 16}]
UNSEEN_SHAPES = [{"b": 1, "m": 70, "n": 9, "k": 35}, {"b": 2, "m": 1, "n": 1, "k": 3}]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dtype", "plan"),
    [
        ("float16", Plan()),
        ("float32", Plan(blocks=Blocks(tile_m=32, tile_n=128), prologues=True)),
        ("bfloat16", Plan(prologues=True)),
        ("float16", Plan(blocks=Blocks(tile_m=128, tile_n=32, tile_k=64))),
        ("float64", Plan()),
    ],
)
def test_products_with_what_comes_before_and_after_them(in_cuda, dtype, plan):
    made = in_cuda(PRODUCTS.replace("DTYPE", dtype), SHAPES, UNSEEN_SHAPES, plan=plan)
    assert not made.fallback and "torch.matmul" not in made.files["model.py"]
    assert ("  tensor_product<" in made.files["kernel.cu"]) == (dtype in ("float16", "bfloat16"))


SEVERAL = """
class Model(nn.Module):
    def forward(self, x, y): return torch.softmax(x @ y, -1), (x + 1).sort(-1)[0] * 2

def get_inputs(m, n, k): return [torch.randn(m, k), torch.randn(k, n)]
"""
TOGETHER = [{"m": 20, "n": 33, "k": 40}, {"m": 12, "n": 16, "k": 24}]


@pytest.mark.slow
def test_several_kernels_are_launched_together_and_one_is_not(in_cuda):
    made = in_cuda(SEVERAL, TOGETHER, [{"m": 3, "n": 5, "k": 7}], plan=Plan(graph=True))
    text = made.files["model.py"]
    assert text.count("graphs.Replay()") == 1 < text.count("cuda.load(")
    alone = replace(captured(HEAD + SOFTMAX, SEEN), language="cuda")
    assert render(alone, Plan(graph=True)).files == render(alone, Plan()).files


def test_rows_are_read_once_where_they_fit_into_registers():
    model = replace(captured(HEAD + SOFTMAX, SEEN), language="cuda")
    kept = render(model, Plan()).files["kernel.cu"].split("__global__")[-1]
    short, longer = kept.split("} else {")
    assert (short.count("widen("), longer.count("widen(")) == (1, 3)
    assert render(model, Plan()).files == render(model, Plan()).files


def test_moves_in_cuda_never_repeat_a_source():
    model = replace(captured(HEAD + NORMS, SEEN), language="cuda")
    plans = initial_plans(model)
    assert len({str(render(model, p).files) for p in plans}) == len(plans) >= 4
    tried = [p.model_dump_json() for p in plans]
    for number in range(6):
        step = mutate(model, Result(plans[0], 1.0, "memory"), (), tried, Random(number))
        source = render(model, step.plan).files
        assert source not in [render(model, Plan.model_validate_json(t)).files for t in tried]
        tried.append(step.plan.model_dump_json())
    drawn = draw(model, tried, Random(1)).plan
    assert drawn.blocks != Blocks()
    assert merge(plans[0], drawn, Random(2)).blocks.threads in (0, drawn.blocks.threads)
