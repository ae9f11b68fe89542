"""Optimised factorisation machine of the WuKong models: out = X (X^T Y) for each batch.

x[B, N, D] holds N feature embeddings, y[B, N, K] what they are compressed with; out is [B, N, K].
The reference multiplies in the order in which it is written, through a [D, K] intermediate that is
far larger than inputs and output together. Much of the gain is algebra: (X X^T) Y is the same and
passes through [N, N], which plain PyTorch could do too. The rest is to read x and y once.

From the KernelEvolve paper, section 5.3.1. Held out is an N beyond the range that its kernel takes.
"""

import torch
from torch import Tensor, nn

WORKLOADS = {
    "features24": {"batch": 16, "n": 24, "d": 224, "k": 2198, "dtype": "float32"},
    "features40": {"batch": 32, "n": 40, "d": 224, "k": 448, "dtype": "float32"},
    "features48": {"batch": 32, "n": 48, "d": 224, "k": 448, "dtype": "float32"},
}
HELD_OUT = {
    "odd": {"batch": 7, "n": 37, "d": 215, "k": 451, "dtype": "float32"},
    "features96": {"batch": 8, "n": 96, "d": 128, "k": 256, "dtype": "float32"},
}
ACCELERATOR_WORKLOADS = {
    "features24": {"batch": 1024, "n": 24, "d": 224, "k": 2198, "dtype": "float16"},
    "features40": {"batch": 1024, "n": 40, "d": 224, "k": 448, "dtype": "float16"},
    "features48": {"batch": 1024, "n": 48, "d": 224, "k": 448, "dtype": "float16"},
}
ACCELERATOR_HELD_OUT = {
    "odd": {"batch": 391, "n": 37, "d": 215, "k": 451, "dtype": "float16"},
    "features96": {"batch": 512, "n": 96, "d": 224, "k": 448, "dtype": "float16"},
}


class Model(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.bmm(x, torch.bmm(x.transpose(1, 2), y))


def get_inputs(
    batch: int = 16, n: int = 24, d: int = 224, k: int = 2198, dtype: str = "float32"
) -> list[Tensor]:
    kind = getattr(torch, dtype)
    return [torch.randn(batch, n, d).to(kind), torch.randn(batch, n, k).to(kind)]


def get_init_inputs() -> list[int]:
    return []
