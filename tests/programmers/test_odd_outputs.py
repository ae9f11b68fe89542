"""What a model may legally return or be given, however odd, is answered with a candidate."""

from __future__ import annotations

import asyncio
import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from kernelevolve.core.candidate import Proposal
from kernelevolve.programmers.builtin import Builtin
from kernelevolve.programmers.builtin import render as rendering
from kernelevolve.programmers.builtin.render import Rendered, model_of, render
from kernelevolve.programmers.builtin.schedule import Plan

from .conftest import HEAD, captured
from .test_builtin_briefs import Bench, brief, task

HOLDS = """
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.p = nn.Parameter(torch.ones(8))
        self.register_buffer("b", torch.zeros(8))

    def forward(self, x):
        return """
MATRIX = "\ndef get_inputs(rows): return [torch.randn(rows, 8)]\n"
SIZES = [{"rows": 4}, {"rows": 6}]

PLAIN = """{
            "result0": (x * 2, None, 3, "plain0", 2.5, float("inf"), True, x.shape[0] * 2),
            "twice": (lambda y: [y, y])(torch.exp(x)), "input": x, "parameter": self.p,
            "buffer": self.b, "scalar": x.sum(), "view": x.t(), "one": torch.softmax(x[:, :1], 1),
            "where": x[:, :1].argmax(1),
        }"""
EMPTY = """(torch.softmax(x[:0], -1), torch.softmax(x[:, :0], -1), x[:, :0].sum(-1), x[:0].sum(0),
                torch.cat([x[:0], x * 2]), torch.cumsum(x[:, :0], 1), x[:, :0] @ x.t()[:0],
                torch.relu(x))"""
ALONE = ["None", "3", "()", "x", "self.p", "self.b", "x.sum()", "x.t()", "x.detach()", "(x, None)",
         "x.unbind(0)[0]", "torch.ones(3)", "torch.fft.fft(x)", "x.sum().item()",
         "{'a': [(x * 2, 'b')]}", "x[:0].argmax(1)", "x[torch.arange(0)]", "F.pad(x[:0], (1, 1))",
         "F.layer_norm(x[:0], (8,))", "(x, x.dtype)", "x.sort()"]  # fmt: skip


@pytest.mark.slow
@pytest.mark.needs_gxx
@pytest.mark.parametrize("results", [PLAIN, EMPTY])
def test_odd_results_beside_others(check: Callable[..., Rendered], results: str) -> None:
    made = check(HOLDS + results + MATRIX, SIZES, [{"rows": 0}, {"rows": 33}])
    assert not made.fallback


@pytest.mark.parametrize("result", ALONE)
def test_an_odd_result_alone(result: str) -> None:
    made = render(captured(HEAD + HOLDS + result + MATRIX, SIZES), Plan())
    assert "class ModelNew" in made.files["model.py"]
    assert made.message if made.fallback else "kernel.cpp" in made.files


@pytest.mark.needs_gxx
@pytest.mark.parametrize("shape", ["0", "()", "5, 1"])
def test_inputs_of_odd_shapes(check: Callable[..., Rendered], shape: str) -> None:
    made = check(
        "class Model(nn.Module):\n    def forward(self, x):\n"
        "        return torch.softmax(x, -1) + x, x.sum()\n"
        f"def get_inputs(): return [torch.randn({shape})]\n",
        [{}],
    )
    assert not made.fallback


@pytest.mark.needs_gxx
def test_arithmetic_of_truth_values_is_logic(check: Callable[..., Rendered]) -> None:
    made = check(
        "class Model(nn.Module):\n    def forward(self, x):\n"
        "        a, b = x > 0, x < 1\n"
        "        either, both = torch.maximum(a, b), torch.minimum(a, b)\n"
        "        return torch.isfinite(x / (x > 0)).sum(1), a * b, (a + b).sum(), either, both\n"
        "def get_inputs(): return [torch.randn(5, 37)]\n",
        [{}],
    )
    assert not made.fallback


@pytest.mark.needs_gxx
def test_gelu_ends_in_zero_however_far_below(check: Callable[..., Rendered]) -> None:
    made = check(
        "class Model(nn.Module):\n    def forward(self, x):\n"
        "        return F.gelu(x), F.gelu(x / 1e12)\n"
        "def get_inputs(): return [-1e12 * torch.rand(5, 37) - 1e10]\n",
        [{}],
    )
    assert not made.fallback


class Here(Bench):
    """Captures in this process."""

    async def run(self, command: Sequence[str], stdin: bytes) -> bytes:
        from kernelevolve.programmers.builtin.capture import answer

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return json.dumps(answer(json.loads(stdin))).encode()


class Silent(Bench):
    """A capture that the task's code ended."""

    async def run(self, command: Sequence[str], stdin: bytes) -> bytes:
        return b""


def said(bench: Bench) -> Proposal:
    asked = brief(task(source=HEAD + HOLDS + "x * 2" + MATRIX))
    return asyncio.run(Builtin().propose(asked, bench))


@pytest.mark.parametrize("part", ["setting_of", "segments", "module_source", "source"])
def test_a_gap_leaves_the_model_to_the_reference(
    part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise KeyError("r0")

    if part == "source":
        broken = replace(rendering.LANGUAGES["cpp"], source=fails)
        monkeypatch.setitem(rendering.LANGUAGES, "cpp", broken)
    else:
        monkeypatch.setattr(rendering, part, fails)
    made = said(Here())
    assert made.fallback and "KeyError: 'r0'" in made.summary and "\n" not in made.summary


def test_a_capture_that_says_nothing_leaves_the_model_to_the_reference() -> None:
    made = said(Silent())
    assert made.fallback and "not captured" in made.summary


def test_what_capture_should_not_answer_is_a_fallback() -> None:
    made = model_of(HEAD + HOLDS + "x" + MATRIX, {"captures": [{}]})
    assert made.traced is None and "not understood" in made.message


def test_a_model_by_another_name_keeps_it() -> None:
    source = HEAD + HOLDS.replace("Model", "Net") + "x * 2" + MATRIX + "Model = Net\n"
    made = render(captured(source, SIZES), Plan())
    scope: dict[str, object] = {}
    exec(made.files["model.py"], scope)  # noqa: S102
    assert made.fallback and scope["ModelNew"] is scope["Model"]
