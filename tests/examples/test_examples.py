"""Every example loads, is deterministic per seed, finite, and works at its held-out odd size."""

import importlib.util
import inspect
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.py"))


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _call(function: Any, sizes: dict[str, int]) -> Any:
    wanted = inspect.signature(function).parameters
    return function(**{name: size for name, size in sizes.items() if name in wanted})


def _run(example: ModuleType, sizes: dict[str, int], seed: int) -> list[torch.Tensor]:
    torch.manual_seed(seed)
    model = example.Model(*_call(example.get_init_inputs, sizes))
    if getattr(example, "MODE", None) == "eval":
        model.eval()
    with torch.no_grad():
        out = model(*_call(example.get_inputs, sizes))
    return [out] if isinstance(out, torch.Tensor) else list(out)


def test_there_are_enough_examples() -> None:
    assert len(EXAMPLES) >= 12


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_example(path: Path) -> None:
    example = _load(path)
    assert example.__doc__
    assert len(example.WORKLOADS) >= 2
    assert example.HELD_OUT
    for sizes in {**example.WORKLOADS, **example.HELD_OUT}.values():
        first, again, other = (_run(example, sizes, seed) for seed in (1, 1, 2))
        for a, b, c in zip(first, again, other, strict=True):
            assert torch.isfinite(a).all()
            assert torch.equal(a, b)
            assert not torch.equal(a, c)
            assert a.is_contiguous()


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_every_size_is_used_and_the_defaults_are_a_workload(path: Path) -> None:
    example = _load(path)
    inputs = inspect.signature(example.get_inputs).parameters
    arguments = inspect.signature(example.get_init_inputs).parameters
    for sizes in {**example.WORKLOADS, **example.HELD_OUT}.values():
        assert set(sizes) == set(inputs) | set(arguments)
    defaults = {name: p.default for name, p in {**inputs, **arguments}.items()}
    assert defaults in list(example.WORKLOADS.values())


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_held_out_sizes_are_odd(path: Path) -> None:
    example = _load(path)
    for sizes in example.HELD_OUT.values():
        assert any(value % 2 for value in sizes.values())
        assert sizes not in list(example.WORKLOADS.values())
