"""Factorisation-machine interaction of a recommendation model: `X @ (X^T @ Y)` for every example.

`x` holds the embeddings of an example's features, `y` a projection of them to fewer columns.
"""

import torch
from torch import nn

WORKLOADS = {
    "features24": {"batch": 64, "features": 24, "width": 224, "columns": 448},
    "features40": {"batch": 32, "features": 40, "width": 192, "columns": 320},
}
HELD_OUT = {"odd": {"batch": 17, "features": 23, "width": 101, "columns": 77}}


class Model(nn.Module):
    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return torch.bmm(x, torch.bmm(x.transpose(1, 2), y))


def get_inputs(batch=64, features=24, width=224, columns=448):
    return [torch.randn(batch, features, width), torch.randn(batch, features, columns)]


def get_init_inputs():
    return []
