"""Batch norms in evaluation mode disappear into the convolution or product before them."""

from collections.abc import Callable

import pytest

from kernelevolve.programmers.builtin.render import Rendered, render
from kernelevolve.programmers.builtin.schedule import Plan

from .conftest import HEAD, captured
from .test_ahead import method, passed

Check = Callable[..., Rendered]
LAYERS = """
class Model(nn.Module):
    def __init__(self, c, o):
        super().__init__()
        self.images = nn.Sequential(
            nn.Conv2d(c, o, 3, 2, padding=1, bias=False), nn.BatchNorm2d(o), nn.ReLU(),
            nn.ConvTranspose2d(o, 2 * c, 3, groups=2), nn.BatchNorm2d(2 * c, affine=False))
        self.volumes = nn.Sequential(nn.Conv3d(1, o, 2), nn.BatchNorm3d(o))
        self.series = nn.Sequential(nn.Conv1d(c, c, 3, groups=c), nn.BatchNorm1d(c), nn.SiLU())
        self.rows = nn.Sequential(nn.Linear(c, o), nn.BatchNorm1d(o), nn.ReLU())
        self.mean, self.std = nn.Parameter(torch.zeros(o)), nn.Parameter(torch.ones(o))
        self.gain = nn.Parameter(torch.ones(()))
        self.head = nn.Linear(c, o, bias=False)

    def forward(self, x):
        rows = x.mean((2, 3))
        return (self.images(x), self.volumes(x[:, None]), self.series(x.flatten(2)),
                self.rows(rows), (self.head(rows) - self.mean) / self.std * self.gain)

def get_inputs(n, c, h): return [torch.randn(n, c, h, h)]
def get_init_inputs(c, o): return [c, o]
"""
SIZES = [{"n": 3, "c": 6, "h": 10, "o": 10}, {"n": 2, "c": 4, "h": 6, "o": 12}]
BLOCK = """
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)

    def forward(self, x):
        y = self.conv(x)
        return RESULT

def get_inputs(): return [torch.randn(2, 3, 7, 7)]
"""
PLAIN = HEAD + BLOCK.replace("RESULT", "torch.relu(self.norm(y))")


@pytest.mark.slow
@pytest.mark.needs_gxx
def test_every_linear_layer_takes_its_norm_in(check: Check) -> None:
    made = check(LAYERS, SIZES, [{"n": 1, "c": 5, "h": 7, "o": 6}], mode="eval")
    assert made.algebraic and not made.fallback
    assert not any(name[:2] in ("p_", "b_") for name in passed(made))


def test_folded_convolutions_leave_the_activation() -> None:
    made = render(captured(PLAIN, [{}], "eval"), Plan())
    assert made.algebraic and made.message.count("convolution") == 1
    assert "norm" not in method(made, "forward")


def test_the_order_as_written_keeps_scale_and_shift() -> None:
    made = render(captured(PLAIN, [{}], "eval"), Plan(algebra=False))
    assert not made.algebraic and "p_conv_weight" in made.message
    assert "norm" not in method(made, "forward") and "running_var" in method(made, "prepare")


def test_batch_statistics_are_never_folded() -> None:
    made = render(captured(PLAIN, [{}], "train"), Plan())
    assert not made.algebraic and "p_conv_weight" in made.message
    assert "running_mean" in method(made, "forward")


def test_a_convolution_that_others_read_is_not_computed_twice() -> None:
    source = HEAD + BLOCK.replace("RESULT", "self.norm(y) + torch.relu(y)")
    made = render(captured(source, [{}], "eval"), Plan())
    assert not made.algebraic and made.message.count("convolution") == 1
    twice = source.replace(
        "self.conv(x)",
        "self.conv(torch.relu(self.conv(x) * self.norm.weight.view(8, 1, 1))[:, :3])",
    )
    made = render(captured(twice, [{}], "eval"), Plan())
    assert made.algebraic and made.message.count("convolution") == 2
