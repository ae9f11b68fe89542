"""Builds what the built-in programmer writes and compares it with torch in float64."""

import copy
import importlib.util
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from kernelevolve.core.candidate import Candidate, SourceFile  # noqa: E402
from kernelevolve.core.task import Task, Workload  # noqa: E402
from kernelevolve.languages.cpp import Cpp  # noqa: E402
from kernelevolve.programmers.builtin.render import (  # noqa: E402
    Model,
    Rendered,
    model_of,
    render,
)
from kernelevolve.programmers.builtin.schedule import Plan  # noqa: E402

Sizes = Mapping[str, Any]
HEAD = "import torch\nfrom torch import nn\nfrom torch.nn import functional as F\n"


def captured(source: str, workloads: Sequence[Sizes], mode: str | None = None) -> Model:
    """The task as the programmer sees it, captured in this process."""
    from kernelevolve.programmers.builtin.capture import answer

    request = {"source": source, "workloads": [{"sizes": w} for w in workloads], "mode": mode}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model_of(source, answer(request))


def loaded(made: Rendered, folder: Path, optimised: bool = True) -> Any:
    """`ModelNew` of a rendered candidate; built in half the time where not `optimised`."""
    for name, text in made.files.items():
        (folder / name).write_text(text if optimised else text.replace("'-O3'", "'-O1'"))
    spec = importlib.util.spec_from_file_location("candidate", folder / "model.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.ModelNew


def widened(value: Any) -> Any:
    """Floating tensors as float64, through tuples and lists."""
    if isinstance(value, torch.Tensor):
        return value.double() if value.is_floating_point() else value
    return type(value)(widened(v) for v in value)


def leaves(value: Any) -> Any:
    """A list instead of a dict, with its keys; other values as they are."""
    return [part for item in value.items() for part in item] if isinstance(value, dict) else value


def assert_close(new: Any, reference: Any, oracle: Any) -> None:
    """Within the project's error budget: 4 x RMS, 8 x maximum, at least 2 ulp of the row."""
    if not isinstance(reference, torch.Tensor):
        assert type(new) is type(reference)
        if not isinstance(reference, tuple | list | dict):
            assert new == reference
            return
        new, reference, oracle = map(leaves, (new, reference, oracle))
        assert len(new) == len(reference)
        for triple in zip(new, reference, oracle, strict=True):
            assert_close(*triple)
        return
    assert new.shape == reference.shape and new.dtype == reference.dtype
    if not reference.is_floating_point() or reference.numel() == 0:
        assert torch.equal(new, reference)
        return
    assert torch.equal(new.isnan(), reference.isnan())
    finite = oracle.isfinite() & reference.isfinite()
    assert torch.equal(new[~finite].nan_to_num(), reference[~finite].nan_to_num())
    kind = reference.dtype
    new, reference, oracle = (t.double()[finite] for t in (new, reference, oracle))
    eps = max(torch.finfo(t).eps for t in (torch.float32, kind))
    ulp = eps * float(oracle.abs().max()) if oracle.numel() else 0.0
    mine, theirs = (new - oracle).abs(), (reference - oracle).abs()
    if oracle.numel():
        assert float(mine.max()) <= max(8 * float(theirs.max()), 2 * ulp)
        rms = [float(e.square().mean().sqrt()) for e in (mine, theirs)]
        assert rms[0] <= max(4 * rms[1], 2 * ulp)


def flags(made: Rendered, source: str) -> list[str]:
    """Tripwires that it touches; one that leaves everything to library calls has no kernel."""
    files = tuple(SourceFile(path=name, text=text) for name, text in made.files.items())
    task = Task(name="task", source=source, workloads=(Workload(name="default"),))
    found = Cpp().screen(Candidate(language="cpp", files=files), task)
    whole = {"no_kernel", "resubmitted"} if len(made.files) == 1 else set()
    return [f"{flag.rule} {flag.where}: {flag.reason}" for flag in found if flag.rule not in whole]


def change(module: Any) -> None:
    """Other weights, and other buffers that are still good for variances."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
        for buffer in module.buffers():
            if buffer.is_floating_point():
                buffer.uniform_(0.5, 2.0)


def compared(
    folder: Path,
    body: str,
    workloads: Sequence[Sizes],
    unseen: Sequence[Sizes] = (),
    plan: Plan | None = None,
    mode: str | None = None,
    *,
    optimised: bool = False,
    language: str = "cpp",
) -> Rendered:
    """Render a task, build it, and compare it with the reference at many sizes.

    Twice at each: as constructed, without a call of `prepare`; then with other weights and one.
    Built as users have it only where `optimised`.
    """
    from kernelevolve.programmers.builtin.capture import call_with

    source = HEAD + body
    model = replace(captured(source, workloads, mode), language=language)
    made = render(model, plan or Plan())
    assert flags(made, source) == [], flags(made, source)
    new_class = loaded(made, folder, optimised)
    task: dict[str, Any] = {}
    exec(source, task)  # noqa: S102
    for sizes in (*workloads, *unseen):
        torch.manual_seed(7)
        init = call_with(task["get_init_inputs"], sizes) if "get_init_inputs" in task else []
        reference, new = task["Model"](*init), new_class(*init)
        if mode:
            reference.train(mode == "train")
            new.train(mode == "train")
        for again in (False, True):
            change(reference)
            new.load_state_dict(reference.state_dict())
            if again and hasattr(new, "prepare"):
                new.prepare()
            with torch.no_grad():
                inputs = call_with(task["get_inputs"], sizes)
                oracle = copy.deepcopy(reference).double()(*widened(inputs))
                assert_close(new(*inputs), reference(*inputs), oracle)
        after = new.state_dict()
        for name, value in reference.state_dict().items():
            assert torch.allclose(after[name], value, rtol=1e-5, atol=1e-6), name
    return made


@pytest.fixture
def check(tmp_path: Path) -> Callable[..., Rendered]:
    """`compared` in a folder of its own."""
    return partial(compared, tmp_path)
