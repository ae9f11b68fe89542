"""A small ranking tower: linear, GELU, linear, and a sigmoid that makes the score."""

import torch
from torch import nn
from torch.nn import functional as F

WORKLOADS = {
    "batch512": {"batch": 512, "features": 256, "hidden": 512, "outputs": 64},
    "batch64": {"batch": 64, "features": 512, "hidden": 1024, "outputs": 16},
}
HELD_OUT = {"odd": {"batch": 131, "features": 203, "hidden": 389, "outputs": 7}}


class Model(nn.Module):
    def __init__(self, features: int, hidden: int, outputs: int):
        super().__init__()
        self.up = nn.Linear(features, hidden)
        self.down = nn.Linear(hidden, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(self.down(F.gelu(self.up(x))))


def get_inputs(batch=512, features=256):
    return [torch.randn(batch, features)]


def get_init_inputs(features=256, hidden=512, outputs=64):
    return [features, hidden, outputs]
