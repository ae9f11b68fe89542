"""The tail of a residual block at inference: batch norm with its running statistics, add, ReLU."""

import torch
from torch import nn

WORKLOADS = {
    "side56": {"batch": 4, "channels": 64, "side": 56},
    "side14": {"batch": 8, "channels": 256, "side": 14},
}
HELD_OUT = {"odd": {"batch": 3, "channels": 45, "side": 29}}
MODE = "eval"
RANDOMISE = {"norm.running_mean": (-0.5, 0.5), "norm.running_var": (0.5, 2.0)}


class Model(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: torch.Tensor, shortcut: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.norm(x) + shortcut)


def get_inputs(batch=4, channels=64, side=56):
    return [torch.randn(batch, channels, side, side) for _ in range(2)]


def get_init_inputs(channels=64):
    return [channels]
