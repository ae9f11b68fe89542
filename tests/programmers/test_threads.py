"""Regions that threads share: right at every size, serial where there is too little to do."""

import asyncio
from collections.abc import Callable, Iterator
from random import Random

import pytest
import torch

from kernelevolve.core.task import Workload
from kernelevolve.programmers.builtin import Builtin
from kernelevolve.programmers.builtin.emit import threads
from kernelevolve.programmers.builtin.moves import Result, mutate
from kernelevolve.programmers.builtin.render import Rendered, render
from kernelevolve.programmers.builtin.schedule import Loops, Plan

from .conftest import HEAD, captured
from .test_builtin import ATTENTION, COLUMNS, LOSSES, NORMS, SEEN, SMALL, SOFTMAX, UNSEEN
from .test_builtin_briefs import brief, task
from .test_odd_outputs import Here

Check = Callable[..., Rendered]
BOTH = Plan(parallel=True)
MANY = [{"n": 4, "c": 8, "h": 64}, {"n": 2, "c": 5, "h": 24}]
FEW = [{"n": 3, "c": 7, "h": 19}, {"n": 1, "c": 2, "h": 1}, {"n": 2, "c": 300, "h": 33}]
PRODUCTS = """
class Model(nn.Module):
    def __init__(self, cols):
        super().__init__()
        self.wide = nn.Linear(cols, 2 * cols)

    def forward(self, x, r):
        return F.gelu(self.wide(x)), x @ r.t(), x.t() @ r, x.sum(), (x * r).mean(), x * 2

def get_inputs(rows, cols): return [torch.randn(rows, cols), torch.randn(rows, cols)]
def get_init_inputs(cols): return [cols]
"""


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Three threads, however little there is to do."""
    monkeypatch.setattr(threads, "WORTH", 0)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.slow
@pytest.mark.needs_gxx
@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize(
    ("body", "seen", "unseen"),
    [
        (NORMS, SEEN, UNSEEN),
        (LOSSES, SEEN, UNSEEN),
        (COLUMNS, MANY, FEW),
        (PRODUCTS, SEEN, UNSEEN),
        (ATTENTION, SMALL, [{"b": 3, "t": 5, "d": 21, "heads": 3}]),
    ],
)
def test_three_threads_give_what_one_gives(
    check: Check, body: str, seen: list[dict[str, int]], unseen: list[dict[str, int]]
) -> None:
    made = check(body, seen, unseen, plan=BOTH)
    assert not made.fallback and "-fopenmp" in made.files["model.py"]


@pytest.mark.slow
@pytest.mark.needs_gxx
@pytest.mark.usefixtures("eager")
def test_streamed_columns_and_products_apart(check: Check) -> None:
    plan = Plan(parallel=True, chains=False, loops=Loops(stream=True, columns=1), prologues=True)
    both = NORMS.replace("return y, z", "return y, z, torch.softmax(x, 0), torch.exp(x) @ r.t()")
    check(both, SEEN, UNSEEN[:1], plan=plan)


def test_little_work_stays_on_one_thread() -> None:
    model = captured(HEAD + SOFTMAX, SEEN)
    assert render(model, BOTH).files == render(model, Plan()).files


def test_one_thread_needs_no_openmp() -> None:
    model = captured(HEAD + SOFTMAX, [{"rows": 2048, "cols": 2048}])
    alone, shared = (render(model, Plan(parallel=p)).files for p in (False, True))
    assert "-fopenmp" not in alone["model.py"] and "fill_v" in alone["kernel.cpp"]
    assert "#pragma omp" not in alone["kernel.cpp"]
    assert "torch.get_num_threads()" not in alone["model.py"]
    assert "torch.get_num_threads()" in shared["model.py"]


def test_plans_follow_the_targets_threads() -> None:
    sizes = Workload(name="w", sizes={"rows": 2048, "cols": 2048})
    programmer, two = Builtin(), brief(task(workloads=(sizes,)))
    spec = two.target.model_copy(update={"cores": (0, 1)})
    two = two.model_copy(update={"target": spec})
    made = asyncio.run(programmer.propose(two, Here()))
    assert Plan.model_validate_json(made.plan or "").parallel
    (model,) = programmer.models.values()
    parent, tried = Result(Plan(parallel=True), 1.0, "overhead"), [made.plan or ""]
    for seed in range(40):
        tried.append(mutate(model, parent, (), tried, Random(seed)).plan.model_dump_json())
    assert not all(Plan.model_validate_json(p).parallel for p in tried)
