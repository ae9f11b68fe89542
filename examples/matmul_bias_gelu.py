"""A linear layer with GELU: `gelu(x @ weight + bias)`, the first half of a feed-forward block."""

import math

import torch
from torch import nn
from torch.nn import functional as F

WORKLOADS = {
    "batch256": {"batch": 256, "features": 512, "outputs": 1024},
    "batch16": {"batch": 16, "features": 1024, "outputs": 2048},
}
HELD_OUT = {"odd": {"batch": 67, "features": 301, "outputs": 515}}


class Model(nn.Module):
    def __init__(self, features: int, outputs: int):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(features, outputs) / math.sqrt(features))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.gelu(torch.matmul(x, self.weight) + self.bias)


def get_inputs(batch=256, features=512):
    return [torch.randn(batch, features)]


def get_init_inputs(features=512, outputs=1024):
    return [features, outputs]
