"""What weights alone decide is made by `prepare`, and forward only reads it."""

import ast
from collections.abc import Callable

import pytest

from kernelevolve.programmers.builtin.render import Rendered, render
from kernelevolve.programmers.builtin.schedule import Plan

from .conftest import HEAD, captured

Check = Callable[..., Rendered]
WEIGHTS = """
class Model(nn.Module):
    def __init__(self, d, k):
        super().__init__()
        self.gates = nn.Parameter(torch.randn(d))
        self.first = nn.Parameter(torch.randn(d, k))
        self.second = nn.Parameter(torch.randn(k, d))
        self.plain = nn.Parameter(torch.randn(d, d))
        self.scale = nn.Parameter(torch.randn(d, 1))
        self.log_scale = nn.Parameter(torch.randn(d))
        self.register_buffer("calls", torch.ones(()))

    def forward(self, x):
        self.calls += 1
        weight = torch.softmax(self.gates, -1)
        angle = torch.cos(torch.arange(8) * 0.1)
        y = x @ (self.first @ self.second) + F.linear(x, self.plain * self.scale)
        return (y * torch.exp(self.log_scale), x * weight * self.calls, weight,
                (x[:, :8] * angle * torch.tensor([0.5, 2.0, -float("inf"), 1.0] * 2)), self.plain)

def get_inputs(n, d): return [torch.randn(n, d)]
def get_init_inputs(d, k): return [d, k]
"""
SIZES = [{"n": 6, "d": 24, "k": 32}, {"n": 4, "d": 16, "k": 20}]
ORDERS = """
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.low = nn.Parameter(torch.randn(64, 2))
        self.rank = nn.Parameter(torch.randn(2, 64))
        self.first = nn.Parameter(torch.randn(64, 64))
        self.second = nn.Parameter(torch.randn(64, 64))

    def forward(self, x):
        return RESULT

def get_inputs(): return [torch.randn(32, 64)]
"""


def method(made: Rendered, name: str) -> str:
    """The text of a method of `ModelNew`."""
    tree = ast.parse(made.files["model.py"])
    found = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name == name]
    return ast.unparse(found[0]) if found else ""


def passed(made: Rendered) -> set[str]:
    """What forward passes to functions, by name; sizes are read without."""
    calls = [n for n in ast.walk(ast.parse(method(made, "forward"))) if isinstance(n, ast.Call)]
    return {a.id for c in calls for a in c.args if isinstance(a, ast.Name)}


@pytest.mark.slow
@pytest.mark.needs_gxx
def test_forward_reads_what_prepare_made_of_weights(check: Check) -> None:
    made = check(WEIGHTS, SIZES, [{"n": 5, "d": 19, "k": 7}])
    assert not made.fallback
    assert {n for n in passed(made) if n[:2] in ("p_", "b_", "c_")} == {"b_calls"}
    assert "torch.tensor" in method(made, "prepare")
    native = [f for f in made.files["kernel.cpp"].split("static void ") if f.startswith("fill_v")]
    assert native and not any("cos(" in f or "exp(" in f for f in native)


@pytest.mark.needs_gxx
def test_results_made_ahead_are_given_away_as_copies(check: Check) -> None:
    body = (
        "class Model(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.gates = nn.Parameter(torch.randn(7))\n"
        "    def forward(self, x):\n        return x.exp(), torch.softmax(self.gates, -1).t()\n"
        "def get_inputs(): return [torch.randn(3)]\n"
    )
    assert ".clone()" in method(check(body, [{}]), "forward")


def test_products_of_weights_cost_forward_nothing() -> None:
    source = HEAD + ORDERS.replace("RESULT", "x @ self.first @ self.second")
    made = render(captured(source, [{}]), Plan())
    assert made.algebraic and "torch.matmul" in method(made, "prepare")
    assert made.files["kernel.cpp"].count("_measure(") == 1


def test_a_low_rank_product_keeps_its_cheaper_order() -> None:
    source = HEAD + ORDERS.replace("RESULT", "x @ (self.low @ self.rank)")
    made = render(captured(source, [{}]), Plan())
    assert made.algebraic and "torch.matmul" not in made.files["model.py"]
    written = render(captured(source, [{}]), Plan(algebra=False))
    assert not written.algebraic and "torch.matmul" in method(written, "prepare")


def test_what_depends_on_input_sizes_stays_in_forward() -> None:
    body = (
        "class Model(nn.Module):\n    def forward(self, x):\n"
        "        return x * torch.cos(torch.arange(x.shape[1]))\n"
        "def get_inputs(n, t): return [torch.randn(n, t)]\n"
    )
    made = render(captured(HEAD + body, [{"n": 4, "t": 8}]), Plan())
    assert not made.fallback and not method(made, "prepare")


def test_a_constant_that_follows_the_sizes_is_not_taken_for_one() -> None:
    body = (
        "class Model(nn.Module):\n    def forward(self, x):\n"
        "        return x * torch.tensor([1.0, float(x.shape[1])])[0]\n"
        "def get_inputs(n, t): return [torch.randn(n, t)]\n"
    )
    made = render(captured(HEAD + body, [{"n": 4, "t": 8}]), Plan())
    assert made.fallback and "depends on the sizes" in made.message
