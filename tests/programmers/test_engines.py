"""What the built-in programmer writes for MTIA, run on the simulator and compared like its C++."""

import shutil
from dataclasses import replace
from functools import partial
from random import Random

import pytest

from kernelevolve.programmers.builtin.moves import draw, initial_plans
from kernelevolve.programmers.builtin.render import render
from kernelevolve.programmers.builtin.schedule import Engines, Plan
from kernelevolve.runtime import mtia
from tests.runtime import mtia_kit

from .conftest import HEAD, captured
from .test_builtin import NORMS, SEEN, SOFTMAX, UNSEEN

pytestmark = pytest.mark.needs_gxx
ARITHMETIC = """
class Model(nn.Module):
    def forward(self, x, y, mask, scale, shift):
        z = torch.where(x > y, x * scale + shift[:, None], torch.sigmoid(y))
        z = z.masked_fill(mask, 0.5)
        return torch.relu(1 - z / (y * y + 1)), ((x == y) | mask) * y, z.amin(1)

def get_inputs(rows, cols):
    return [torch.randn(rows, cols), torch.randn(rows, cols), torch.rand(rows, cols) > 0.5,
            torch.randn(cols), torch.randn(rows)]
"""
HALF = """
class Model(nn.Module):
    def forward(self, x, y):
        wide = x.float()
        scale = torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-6)
        return (wide * scale).half() * y, torch.softmax(x, -1), F.gelu(y) + torch.tanh(x)

def get_inputs(rows, cols): return [torch.randn(rows, cols).half(), torch.randn(cols).half()]
"""
TASKS = {"softmax": SOFTMAX, "norms": NORMS, "arithmetic": ARITHMETIC, "half": HALF}
BOTH = Plan(engines=Engines(both=True, tile=1024, buffers=3), fast_math=True)
ALONE = Plan(engines=Engines(functions="vector", share=True, buffers=1), cuts=(1,))


@pytest.fixture
def on_engines(check, tmp_path):
    (tmp_path / ".build").mkdir()
    shutil.copyfile(mtia_kit.folder() / ".build" / mtia.SIMULATOR, tmp_path / ".build" / "mtia.so")
    return partial(check, language="mtia_cpp")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "plan"),
    [
        ("softmax", Plan()),
        ("norms", BOTH),
        ("norms", ALONE),
        ("arithmetic", Plan()),
        ("half", Plan()),
        ("half", BOTH),
    ],
)
def test_kernels_are_right_at_sizes_that_were_never_seen(on_engines, name, plan):
    made = on_engines(TASKS[name], SEEN, UNSEEN, plan=plan)
    assert not made.fallback
    assert "torch.ops" not in made.files["model.py"]


PRODUCTS = """
class Model(nn.Module):
    def __init__(self, k, n):
        super().__init__()
        self.linear = nn.Linear(k, n).half()

    def forward(self, x, y):
        return F.gelu(self.linear(x)) * 0.5 + 1, x @ y

def get_inputs(b, m, n, k): return [torch.randn(b, m, k).half(), torch.randn(b, k, n).half()]
def get_init_inputs(k, n): return [k, n]
"""
SHAPES = [{"b": 2, "m": 32, "n": 48, "k": 64}, {"b": 3, "m": 16, "n": 16, "k": 32}]
UNSEEN_SHAPES = [{"b": 1, "m": 71, "n": 9, "k": 48}, {"b": 2, "m": 130, "n": 160, "k": 160}]


@pytest.mark.slow
@pytest.mark.parametrize("share", [False, True])
def test_products_with_what_follows_them(on_engines, share):
    plan = Plan(engines=Engines(share=share, side=32 if share else 128, terms=32))
    made = on_engines(PRODUCTS, SHAPES, UNSEEN_SHAPES, plan=plan)
    assert "torch.matmul" not in made.files["model.py"]
    assert made.files["kernel.cpp"].count("core.dpe.multiply(") == 2


ROWS = "\ndef get_inputs(n): return [torch.randn(n, 2 * n), torch.arange(n)]\n"
BEYOND = {
    "x.cumsum(1)": "it needs a scan",
    "x.sum(0)": "elements of a row lie apart in memory",
    "x @ x.T": "it multiplies f32, and the dot-product engine takes 16 bits",
    "torch.sin(x)": "it computes sin, for which the engines have no command",
    "x * i[:, None]": "it has tensors of i64, which float32 does not hold exactly",
}


@pytest.mark.parametrize("expression", BEYOND)
def test_what_engines_cannot_do_is_one_sentence(expression):
    source = (
        f"{HEAD}class Model(nn.Module):\n    def forward(self, x, i): return {expression}{ROWS}"
    )
    made = render(replace(captured(source, [{"n": 16}]), language="mtia_cpp"), Plan())
    assert made.fallback
    assert made.message.startswith("left to PyTorch, because ")
    assert BEYOND[expression] in made.message


def test_searches_have_something_to_try():
    model = replace(captured(HEAD + NORMS, SEEN), language="mtia_cpp")
    assert len(initial_plans(model)) > 6
    drawn = {draw(model, (), Random(seed)).plan.engines for seed in range(20)}
    assert len(drawn) > 10
