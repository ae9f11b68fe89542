"""A mobile vision block: 3x3 convolution, batch norm with running statistics, hard-swish."""

import torch
from torch import nn
from torch.nn import functional as F

WORKLOADS = {
    "side56": {"batch": 2, "inputs": 32, "outputs": 64, "side": 56},
    "side28": {"batch": 2, "inputs": 64, "outputs": 96, "side": 28},
}
HELD_OUT = {"odd": {"batch": 1, "inputs": 19, "outputs": 37, "side": 31}}
MODE = "eval"
RANDOMISE = {"norm.running_mean": (-0.5, 0.5), "norm.running_var": (0.5, 2.0)}


class Model(nn.Module):
    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel_size=3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.hardswish(self.norm(self.conv(x)))


def get_inputs(batch=2, inputs=32, side=56):
    return [torch.randn(batch, inputs, side, side)]


def get_init_inputs(inputs=32, outputs=64):
    return [inputs, outputs]
