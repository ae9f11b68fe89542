"""Root-mean-square normalisation with a learned scale, written out as language models do it."""

import torch
from torch import nn

WORKLOADS = {
    "tokens2048": {"tokens": 2048, "hidden": 1024},
    "wide": {"tokens": 512, "hidden": 4096},
}
HELD_OUT = {"odd": {"tokens": 701, "hidden": 1001}}


class Model(nn.Module):
    def __init__(self, hidden: int, eps: float = 1e-6):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden))
        self.eps = eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean_square = x.pow(2).mean(dim=-1, keepdim=True)
        return x * torch.rsqrt(mean_square + self.eps) * self.weight


def get_inputs(tokens=2048, hidden=1024):
    return [torch.randn(tokens, hidden)]


def get_init_inputs(hidden=1024):
    return [hidden]
