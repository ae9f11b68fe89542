"""Runs inside an export, in a process without kernelevolve: every `check_*`, as one JSON object."""

import copy
import json
import sys
import traceback
import warnings
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path.cwd()))

import op  # noqa: E402
import torch  # noqa: E402
from torch import nn  # noqa: E402

Reference = op.support.Model
ROWS, COLUMNS = 64, 96


def pair() -> tuple[Any, Any, torch.Tensor, torch.Tensor]:
    torch.manual_seed(3)
    reference = Reference(COLUMNS)
    with torch.no_grad():
        for parameter in reference.parameters():
            parameter.add_(torch.randn_like(parameter))
    optimized = op.from_reference(reference, COLUMNS)
    return reference, optimized, torch.randn(ROWS, COLUMNS), torch.randn(ROWS, COLUMNS)


def check_absent() -> None:
    pair()
    import kernelevolve

    assert "_support" in str(kernelevolve.__file__)
    try:
        import kernelevolve.core  # noqa: F401
    except ModuleNotFoundError:
        return
    raise AssertionError("the whole package is here")


def check_kernel_runs() -> None:
    reference, optimized, x, y = pair()
    assert optimized.why_not(x, y) == ""
    with torch.no_grad():
        torch.testing.assert_close(optimized(x, y), reference(x, y))
    assert optimized._kernel._kernel.calls == 1


def check_keyword_arguments() -> None:
    reference, optimized, x, y = pair()
    with torch.no_grad():
        torch.testing.assert_close(optimized(y=y, x=x), reference(x, y))
    assert optimized._kernel._kernel.calls == 1
    assert optimized.why_not(x, z=y)


def check_load() -> None:
    made = op.load()
    assert isinstance(made, op.Optimized)
    assert made.weight.shape == (COLUMNS,)


def check_state() -> None:
    reference, optimized, x, y = pair()
    assert list(optimized.state_dict()) == list(reference.state_dict())
    assert isinstance(optimized, Reference)
    fresh = op.Optimized(COLUMNS)
    fresh.load_state_dict(optimized.state_dict())
    for kernel in (fresh, copy.deepcopy(fresh)):
        with torch.no_grad():
            torch.testing.assert_close(kernel(x, y), reference(x, y))
        assert kernel._kernel._kernel.calls == 1


def check_changed_weights_are_seen() -> None:
    reference, optimized, x, y = pair()
    with torch.no_grad():
        optimized(x, y)
        reference.weight.mul_(2)
        torch.testing.assert_close(optimized(x, y), reference(x, y))
        optimized.load_state_dict({k: v + 1 for k, v in reference.state_dict().items()})
        torch.testing.assert_close(optimized(x, y), reference(x, y))
        reference.weight.data.mul_(2)
        optimized.prepare()
        torch.testing.assert_close(optimized(x, y), reference(x, y))
    with torch.inference_mode():
        torch.testing.assert_close(optimized(x, y), reference(x, y))


def check_gradients() -> None:
    reference, optimized, x, y = pair()
    fast = op.from_reference(copy.deepcopy(reference), COLUMNS)
    x.requires_grad_()
    expected = torch.autograd.grad(reference(x, y).square().sum(), [x, *reference.parameters()])
    out = fast(x, y)
    assert "Generated" in type(out.grad_fn).__name__ or fast._kernel._kernel.calls == 1
    found = torch.autograd.grad(out.square().sum(), [x, *fast.parameters()])
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)


def check_training_step() -> None:
    reference, _, x, y = pair()
    fast = op.from_reference(copy.deepcopy(reference), COLUMNS)
    for model in (reference, fast):
        optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(3):
            optimiser.zero_grad()
            model(x, y).mean().backward()
            optimiser.step()
    torch.testing.assert_close(fast.weight, reference.weight)
    assert fast._kernel._kernel.calls == 3


def check_compile_fullgraph() -> None:
    reference, optimized, x, y = pair()
    compiled = torch.compile(optimized, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        torch.testing.assert_close(compiled(x, y) + 1, reference(x, y) + 1)
    assert optimized._kernel._kernel.calls == 1
    small = torch.randn(ROWS, COLUMNS, dtype=torch.float64)
    double = torch.compile(copy.deepcopy(optimized).double(), fullgraph=True, backend="eager")
    torch.testing.assert_close(double(small, small), reference.double()(small, small))


def check_compile_gradients() -> None:
    reference, _, x, y = pair()
    fast = op.from_reference(copy.deepcopy(reference), COLUMNS)
    compiled = torch.compile(fast, fullgraph=True, backend="aot_eager")
    for model in (reference, compiled):
        model(x, y).square().sum().backward()
    torch.testing.assert_close(fast.weight.grad, reference.weight.grad)
    assert fast._kernel._kernel.calls == 1


def check_compile_other_sizes() -> None:
    reference, optimized, _, _ = pair()
    compiled = torch.compile(optimized, fullgraph=True, backend="aot_eager", dynamic=True)
    with torch.no_grad():
        for rows in (7, 12, 30):
            x, y = torch.randn(2, rows, COLUMNS)
            torch.testing.assert_close(compiled(x, y), reference(x, y))
    general = op.support.MANIFEST["general"]
    assert optimized._kernel._kernel.calls == (3 if general else 0)


def check_compile_grows_dynamic() -> None:
    reference, optimized, _, _ = pair()
    compiled = torch.compile(optimized, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        for rows in (64, 65, 128, 3):
            x, y = torch.randn(2, rows, COLUMNS)
            torch.testing.assert_close(compiled(x, y), reference(x, y))


def check_opcheck() -> None:
    _, optimized, x, y = pair()
    x.requires_grad_()
    state = optimized._state()
    torch.library.opcheck(
        op.support.OP,
        ([x, y], state, optimized._number),
        test_utils=("test_schema", "test_autograd_registration", "test_faketensor"),
    )


def check_guard() -> None:
    reference, optimized, x, y = pair()
    assert "dtype" in optimized.why_not(x.double(), y)
    assert "dimensions" in optimized.why_not(x[None], y)
    assert "contiguous" in optimized.why_not(torch.randn(COLUMNS, ROWS).t(), y)
    assert "arguments" in optimized.why_not(x)
    assert "int" in optimized.why_not(x, 3)
    assert "differ" in optimized.why_not(x, y[:1]) or "not verified" in optimized.why_not(x, y[:1])
    assert optimized.why_not(x[:0], y[:0])
    fresh = (
        (x.double(), y),
        (x[None], y),
        (x, y[:1]),
        (x[:0], y[:0]),
        (torch.randn(COLUMNS, ROWS).t(), y),
    )
    with torch.no_grad():
        for args in fresh:
            assert torch.equal(optimized(*args), reference(*args))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert optimized.why_not(x, y) == "autocast is on"
            optimized(x, y)
        assert optimized._kernel._kernel.calls == 0
    for args in (x, y[:, :5]), (x[:, :5], y):
        try:
            optimized(*args)
        except RuntimeError:
            continue
        raise AssertionError("the reference's error is missing")


def check_transforms() -> None:
    reference, optimized, x, y = pair()
    with torch.no_grad():
        batched = [torch.stack([t, t + 1]) for t in (x, y)]
        expected = torch.func.vmap(reference)(*batched)
        torch.testing.assert_close(torch.func.vmap(optimized)(*batched), expected)
        tangents = (torch.ones_like(x), torch.ones_like(y))
        expected = torch.func.jvp(reference, (x, y), tangents)[1]
        torch.testing.assert_close(torch.func.jvp(optimized, (x, y), tangents)[1], expected)
        with torch.autograd.forward_ad.dual_level():
            dual = torch.autograd.forward_ad.make_dual(x, tangents[0])
            assert "forward-mode" in optimized.why_not(dual, y)
    assert optimized._kernel._kernel.calls == 0


def check_jit_trace() -> None:
    reference, optimized, x, y = pair()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(optimized, (x, y), check_trace=False)
        torch.testing.assert_close(traced(y, x), reference(y, x))


def check_make_fx() -> None:
    from torch.fx.experimental.proxy_tensor import make_fx

    reference, optimized, x, y = pair()
    with torch.no_grad():
        graph = make_fx(lambda a, b: optimized(a, b))(x, y)
        torch.testing.assert_close(graph(y, x), reference(y, x))


def check_export() -> None:
    reference, optimized, x, y = pair()
    for strict in (False, True):
        program = torch.export.export(optimized, (x, y), strict=strict)
        assert not any("kernelevolve" in str(node.target) for node in program.graph.nodes)
        with torch.no_grad():
            torch.testing.assert_close(program.module()(x, y), reference(x, y))


def check_unseen_sizes() -> None:
    reference, optimized, x, y = pair()
    general = op.support.MANIFEST["general"]
    assert bool(optimized.why_not(x[:5], y[:5])) is not general
    with torch.no_grad():
        torch.testing.assert_close(optimized(x[:5], y[:5]), reference(x[:5], y[:5]))
    assert optimized._kernel._kernel.calls == int(general)


def check_other_module_dtype() -> None:
    _, optimized, x, y = pair()
    half = copy.deepcopy(optimized).double()
    assert "dtype" in half.why_not(x, y)
    half(x, y)


def check_constructor_keeps_the_seed() -> None:
    torch.manual_seed(5)
    reference = nn.Sequential(Reference(COLUMNS))
    after = torch.rand(3)
    torch.manual_seed(5)
    optimized = nn.Sequential(op.Optimized(COLUMNS))
    assert torch.equal(after, torch.rand(3))
    assert optimized.state_dict().keys() == reference.state_dict().keys()


def main() -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("error", UserWarning)
    results: dict[str, str] = {}
    for name, function in list(globals().items()):
        if name.startswith("check_") and (not sys.argv[1:] or name in sys.argv[1:]):
            try:
                function()
                results[name] = ""
            except BaseException:  # noqa: BLE001  becomes the test's message
                results[name] = traceback.format_exc()
    print(json.dumps(results))


if __name__ == "__main__":
    main()
