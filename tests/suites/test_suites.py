"""Every suite keeps its contract; the cases of `dlrm` compute what independent words say."""

import importlib.util
import inspect
import math
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, tensor
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)

from kernelevolve import registry, taskfile
from kernelevolve.core.protocols import Suite
from kernelevolve.suites import dlrm
from kernelevolve.testing.contracts.suite import SuiteContract

CASES = sorted(dlrm.FOLDER.glob("*.py"))


class TestEverySuite(SuiteContract):
    @pytest.fixture(params=registry.names("suite"))
    def suite(self, request: pytest.FixtureRequest) -> Suite:
        return registry.load("suite", request.param)()


def loaded(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"case_{name}", dlrm.FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def call(function: Any, sizes: dict[str, Any]) -> Any:
    wanted = inspect.signature(function).parameters
    return function(**{name: size for name, size in sizes.items() if name in wanted})


def outputs(name: str, sizes: dict[str, Any], seed: int = 0) -> tuple[list[Tensor], list[Tensor]]:
    """Inputs of a case, and what its reference makes of them."""
    case = loaded(name)
    torch.manual_seed(seed)
    with torch.no_grad():
        model = case.Model(*call(case.get_init_inputs, sizes))
        inputs = call(case.get_inputs, sizes)
        made = model(*inputs)
    return inputs, [made] if isinstance(made, Tensor) else list(made)


def test_the_cases_are_there() -> None:
    assert [task.name for task in dlrm.Dlrm().tasks("cpu")] == [
        "attention",
        "attention_full",
        "batch_event_truncate",
        "conv1d",
        "gelu_layernorm",
        "map_id",
        "mbdt",
        "optimized_fm",
        "pffn",
        "rmsnorm_backward",
        "softmax",
    ]


@pytest.mark.parametrize("path", CASES, ids=lambda p: p.stem)
def test_a_file_as_it_stands_is_the_task_of_a_processor(path: Path) -> None:
    (task,) = (t for t in dlrm.Dlrm().tasks("cpu") if t.name == path.stem)
    alone = taskfile.read(path)
    assert (alone.workloads, alone.statement) == (task.workloads, task.statement)
    assert "ACCELERATOR" not in task.source


@pytest.mark.parametrize("path", CASES, ids=lambda p: p.stem)
def test_accelerators_get_larger_sizes_in_half_precision_and_none_of_the_others(path: Path) -> None:
    (task,) = (t for t in dlrm.Dlrm().tasks("nvidia") if t.name == path.stem)
    assert "ACCELERATOR" not in task.source
    small = taskfile.read(path)
    assert task.id != small.id
    assert {w.sizes.get("dtype", "float16") for w in task.workloads} == {"float16"}
    assert {w.sizes.get("dtype", "float32") for w in small.workloads} == {"float32"}

    def most(workloads: Any) -> float:
        counts = (math.prod(v for v in w.sizes.values() if type(v) is int) for w in workloads)
        return max(counts)

    assert most(task.shown) >= 4 * most(small.shown)


@pytest.mark.parametrize("path", CASES, ids=lambda p: p.stem)
def test_every_size_of_a_processor_gives_finite_outputs_that_depend_on_the_seed(path: Path) -> None:
    for workload in taskfile.read(path).workloads:
        inputs, first = outputs(path.stem, dict(workload.sizes), 1)
        _, again = outputs(path.stem, dict(workload.sizes), 1)
        _, other = outputs(path.stem, dict(workload.sizes), 2)
        assert sum(t.numel() * t.element_size() for t in inputs) <= 16 << 20
        assert all(torch.isfinite(t).all() for t in first)
        assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
        assert [t.shape for t in first] == [t.shape for t in other]
        assert not all(torch.equal(a, b) for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("path", CASES, ids=lambda p: p.stem)
def test_sizes_of_accelerators_fit_together(path: Path) -> None:
    """On tensors without memory; how much events.truncate keeps depends on their values."""
    (task,) = (t for t in dlrm.Dlrm().tasks("nvidia") if t.name == path.stem)
    for workload in task.workloads:
        with FakeTensorMode(), suppress(DataDependentOutputException, DynamicOutputShapeException):
            inputs, made = outputs(path.stem, dict(workload.sizes))
            assert inputs
            assert all(t.numel() for t in made)


def test_map_id_answers_the_example_of_its_statement() -> None:
    table = tensor([100, 200, 300, 400, 500])
    values = tensor([100, 300, 500, 200, 999])
    assert loaded("map_id").Model()(values, table).tolist() == [1, 3, 5, 2, 0]


def test_map_id_is_a_look_up_and_meets_ids_that_are_known_and_others() -> None:
    (values, table), (found,) = outputs("map_id", {"ids": 50, "values": 400})
    places = {number: place for place, number in enumerate(table.tolist(), 1)}
    assert found.tolist() == [places.get(value, 0) for value in values.tolist()]
    assert 0 < int((found == 0).sum()) < 200


def test_mbdt_answers_the_example_of_its_statement() -> None:
    values = tensor([[0.1, 0.4, 0.8], [0.2, 0.5, 0.9]])
    borders = tensor([[0.3, 0.6], [0.4, 0.7]])
    assert loaded("mbdt").Model()(values, borders).tolist() == [[0, 1, 2], [3, 4, 5]]


def test_mbdt_counts_borders_below_and_bins_before() -> None:
    (values, borders), (found,) = outputs("mbdt", {"batch": 40, "features": 6, "borders": 5})
    values[0, :5] = borders[0]
    found = loaded("mbdt").Model()(values, borders)
    first = 0
    for feature, row in enumerate(borders.tolist()):
        real = [border for border in row if border < math.inf]
        expected = [first + sum(b < v for b in real) for v in values[feature].tolist()]
        assert [x for x in found[feature].tolist()] == expected
        first += len(real) + 1


def test_events_are_truncated_as_in_the_example_of_the_statement() -> None:
    model = loaded("batch_event_truncate").Model(2)
    inner = tensor([1, 0, 2, 0, 3, 1, 1, 1])
    found = model(tensor([[3, 4, 1]]), inner, torch.arange(1.0, 10.0))
    assert [t.tolist() for t in found] == [[[2, 2, 1]], [1, 0, 0, 3, 1], [1, 4, 5, 6, 9]]


@pytest.mark.parametrize("most", [1, 3, 9])
def test_events_are_truncated_as_loops_over_features_and_users_do_it(most: int) -> None:
    sizes = {"features": 3, "users": 5, "events": 9, "most": most}
    (outer, inner, values), found = outputs("batch_event_truncate", sizes)
    events, numbers = iter(inner.tolist()), iter(values.tolist())
    lengths: list[int] = []
    kept: list[float] = []
    for count in outer.flatten().tolist():
        for event in range(count):
            length = next(events)
            these = [next(numbers) for _ in range(length)]
            if event < most:
                lengths.append(length)
                kept += these
    assert found[0].tolist() == [[min(n, most) for n in row] for row in outer.tolist()]
    assert (found[1].tolist(), found[2].tolist()) == (lengths, kept)


def test_the_gradients_of_rmsnorm_are_those_of_autograd() -> None:
    (x, weight, dy), found = outputs(
        "rmsnorm_backward", {"rows": 9, "width": 33, "dtype": "float32"}
    )
    wanted = [t.clone().requires_grad_() for t in (x, weight)]
    torch.nn.functional.rms_norm(wanted[0], (33,), wanted[1], 1e-5).backward(dy)
    for mine, leaf in zip(found, wanted, strict=True):
        torch.testing.assert_close(mine, leaf.grad)


@pytest.mark.parametrize(("name", "causal"), [("attention", True), ("attention_full", False)])
def test_attention_is_that_of_pytorch_with_shared_heads(name: str, causal: bool) -> None:
    sizes = {"batch": 2, "heads": 6, "groups": 2, "length": 7, "width": 8, "dtype": "float32"}
    (q, k, v), (found,) = outputs(name, sizes)
    theirs = torch.nn.functional.scaled_dot_product_attention(
        q, k, v, is_causal=causal, enable_gqa=True
    )
    torch.testing.assert_close(found, theirs)


def test_the_factorisation_machine_may_be_associated_otherwise() -> None:
    sizes = {"batch": 2, "n": 5, "d": 7, "k": 11, "dtype": "float32"}
    (x, y), (found,) = outputs("optimized_fm", sizes)
    torch.testing.assert_close(found, (x @ x.transpose(1, 2)) @ y)


def test_the_feed_forward_network_is_the_chain_of_its_statement() -> None:
    sizes = {"batch": 2, "n": 5, "width": 6, "inner": 4, "dtype": "float32"}
    (x, w1, b1, w2, b2), (found,) = outputs("pffn", sizes)

    def normed(t: Tensor) -> Tensor:
        return t / (t.square().mean(-1, keepdim=True) + 1e-5).sqrt()

    h = x @ w1 + b1
    h = normed(0.5 * h * (1 + torch.erf(h / math.sqrt(2))))
    torch.testing.assert_close(found, normed(h @ w2 + b2))
