"""SwiGLU feed-forward of a language model: `down(silu(gate(x)) * up(x))`, without biases."""

import torch
from torch import nn
from torch.nn import functional as F

WORKLOADS = {
    "tokens128": {"tokens": 128, "width": 256, "hidden": 688},
    "tokens8": {"tokens": 8, "width": 512, "hidden": 1376},
}
HELD_OUT = {"odd": {"tokens": 51, "width": 139, "hidden": 365}}


class Model(nn.Module):
    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.gate = nn.Linear(width, hidden, bias=False)
        self.up = nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(F.silu(self.gate(x)) * self.up(x))


def get_inputs(tokens=128, width=256):
    return [torch.randn(tokens, width)]


def get_init_inputs(width=256, hidden=688):
    return [width, hidden]
