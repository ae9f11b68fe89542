"""Convolutions as kernels of the programmer's own: fused, and right at sizes never seen."""

from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from random import Random

import pytest

from kernelevolve.programmers.builtin.emit.spelling import CUDA
from kernelevolve.programmers.builtin.moves import draw, initial_plans
from kernelevolve.programmers.builtin.render import Model, render
from kernelevolve.programmers.builtin.schedule import Blocks, Plan
from kernelevolve.runtime import nvrtc

from . import test_triton
from .conftest import HEAD, captured

EXAMPLES = Path(__file__).parents[2] / "examples"
OWN = Plan(convolve=True)
LINE = """
class Model(nn.Module):
    def __init__(self, c, o):
        super().__init__()
        self.conv = nn.Conv1d(c, o, 3, padding="same", dtype=torch.DTYPE)

    def forward(self, x, y):
        return torch.relu(self.conv(x)) + y

def get_inputs(n, c, o, h):
    return [torch.randn(n, c, h).to(torch.DTYPE), torch.randn(n, o, h).to(torch.DTYPE)]
def get_init_inputs(c, o): return [c, o]
"""
MANY = """
class Model(nn.Module):
    def __init__(self, c, o, g):
        super().__init__()
        self.split = nn.Conv2d(c, o, 3, padding=2, dilation=2, groups=g)
        self.each = nn.Conv2d(c, 2 * c, 3, padding=1, groups=c)
        self.point = nn.Conv2d(c, o, 1, bias=False)
        self.deep = nn.Conv3d(c, o, 2, stride=2, padding=1)
        self.up = nn.ConvTranspose2d(c, o, 3, stride=2, padding=1, output_padding=1, groups=g)
        self.long = nn.ConvTranspose1d(c, o, 4, dilation=2, padding=1)

    def forward(self, x):
        flat = F.gelu(self.split(torch.tanh(x))), F.hardswish(self.each(x)), self.point(x)
        deep = self.deep(x.unsqueeze(2)) * 2, self.long(x[:, :, 0])
        return *flat, *deep, torch.relu(self.up(x))

def get_inputs(n, c, h): return [torch.randn(n, c, h, h + 3)]
def get_init_inputs(c, o, g): return [c, o, g]
"""
HALF = """
class Model(nn.Module):
    def __init__(self, c, o):
        super().__init__()
        self.down = nn.Conv2d(c, o, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2))
        self.few = nn.Conv2d(3, o, 5, stride=2)
        self.half()

    def forward(self, x):
        return F.silu(self.down(x)), torch.sigmoid(self.few(x[:, :3])) + 1

def get_inputs(n, c, h): return [torch.randn(n, c, h, h + 3).half()]
def get_init_inputs(c, o): return [c, o]
"""
IN_A_ROW = """
class Model(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.first, self.second = nn.Conv2d(c, c, 3, padding=1), nn.Conv2d(c, c, 3, padding=1)

    def forward(self, x):
        return torch.softmax(self.second(torch.relu(self.first(x))), 1)

def get_inputs(n, c, h): return [torch.randn(n, c, h, h)]
def get_init_inputs(c): return [c]
"""
SEEN = [{"n": 2, "c": 16, "o": 12, "h": 5, "g": 4}, {"n": 1, "c": 24, "o": 8, "h": 6, "g": 8}]
UNSEEN = [{"n": 1, "c": 18, "o": 6, "h": 7, "g": 2}]
SMALL = [{"batch": 2, "inputs": 3, "outputs": 8, "side": 9}]


def kernels(model: str) -> int:
    """How many a text in Triton has."""
    return model.count("@triton.jit\ndef fill")


@pytest.fixture
def in_cuda(check):
    return partial(check, language="cuda")


@pytest.fixture
def in_triton(tmp_path):
    pytest.importorskip("triton")
    return partial(test_triton._asked, "compare", tmp_path, "1")


def own(language: str, body: str) -> Model:
    return replace(captured(HEAD + body, SEEN), language=language)


def test_bias_activation_and_residual_are_in_the_kernel_of_a_convolution():
    model = own("cuda", LINE.replace("DTYPE", "float16"))
    made = render(model, OWN)
    assert "  tensor_product<" in made.files["kernel.cu"]
    assert made.files["model.py"].count("torch.empty") == 1 and not made.message
    text = render(replace(model, language="triton"), OWN).files["model.py"]
    assert kernels(text) == 1 and "convolution" not in text


def test_the_library_comes_first_and_moves_reach_both_ways():
    base = own("cuda", LINE.replace("DTYPE", "float32"))
    for language, ways in (("cuda", {True, False}), ("triton", {True, False}), ("cpp", {False})):
        model = replace(base, language=language)
        plans = initial_plans(model)
        assert not plans[0].convolve and {p.convolve for p in plans} == ways
        assert {draw(model, (), Random(n)).plan.convolve for n in range(40)} == ways


@pytest.mark.slow
@pytest.mark.needs_gxx
def test_every_kind_of_convolution_in_cuda(in_cuda):
    made = in_cuda(MANY, SEEN, UNSEEN, plan=Plan(convolve=True, prologues=True))
    assert not made.fallback and "convolution" not in made.message


@pytest.mark.slow
@pytest.mark.needs_gxx
def test_convolutions_on_tensor_cores(in_cuda):
    plan = Plan(convolve=True, blocks=Blocks(tile_m=32, tile_n=128))
    made = in_cuda(HALF, [SEEN[1] | {"o": 80}, SEEN[0]], UNSEEN, plan=plan)
    assert "  tensor_product<f16_t, 32, 96, 32" in made.files["kernel.cu"] and not made.message


@pytest.mark.slow
@pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")
def test_convolutions_in_triton(in_triton):
    made = in_triton(HALF, SEEN, UNSEEN, plan=OWN)
    assert kernels(made["model"]) == 2 and "convolution" not in made["left"]


def test_convolutions_in_a_row_need_no_memory_but_between_them():
    made = render(own("cuda", IN_A_ROW), OWN)
    assert made.files["model.py"].count("torch.empty") == 3 and not made.message


@pytest.mark.slow
@pytest.mark.needs_gxx
def test_a_block_of_an_image_network_is_one_kernel(in_cuda):
    source = (EXAMPLES / "conv_bn_relu.py").read_text()
    made = in_cuda(source, SMALL, plan=OWN, mode="eval")
    forward = made.files["model.py"].split("def forward")[1].split("def prepare")[0]
    assert made.algebraic and forward.count("torch.empty") == 1
    assert "convolution" not in made.files["model.py"]


@pytest.mark.slow
def test_the_device_has_registers_for_the_tiles(tmp_path, monkeypatch):
    pytest.importorskip("cuda.bindings.nvrtc", reason='pip install "kernelevolve[cuda]"')
    monkeypatch.chdir(tmp_path)
    plan = Plan(convolve=True, blocks=Blocks(tile_m=128, tile_n=128))
    made = render(own("cuda", LINE.replace("DTYPE", "float16")), plan)
    (tmp_path / "kernel.cu").write_text(made.files["kernel.cu"])
    fine, log = nvrtc.compile_file("kernel.cu", "sm_90", tmp_path / "k", list(CUDA.flags))
    assert fine and log.count(" 0 bytes spill stores") == 2, log
