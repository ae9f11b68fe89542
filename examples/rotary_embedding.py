"""Rotary position embedding of queries and keys; two outputs."""

import torch
from torch import nn

WORKLOADS = {
    "length512": {"batch": 2, "heads": 8, "length": 512, "head_width": 64},
    "length128": {"batch": 4, "heads": 16, "length": 128, "head_width": 128},
}
HELD_OUT = {"odd": {"batch": 1, "heads": 5, "length": 217, "head_width": 48}}


class Model(nn.Module):
    def __init__(self, head_width: int, longest: int = 1024):
        super().__init__()
        frequency = 10000.0 ** (-torch.arange(0, head_width, 2) / head_width)
        angles = torch.outer(torch.arange(longest), frequency)
        angles = torch.cat([angles, angles], dim=-1)
        self.register_buffer("cosine", angles.cos(), persistent=False)
        self.register_buffer("sine", angles.sin(), persistent=False)

    def rotate(self, x: torch.Tensor) -> torch.Tensor:
        length = x.size(-2)
        first, second = x.chunk(2, dim=-1)
        turned = torch.cat([-second, first], dim=-1)
        return x * self.cosine[:length] + turned * self.sine[:length]

    def forward(self, q: torch.Tensor, k: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.rotate(q), self.rotate(k)


def get_inputs(batch=2, heads=8, length=512, head_width=64):
    return [torch.randn(batch, heads, length, head_width) for _ in range(2)]


def get_init_inputs(head_width=64):
    return [head_width]
