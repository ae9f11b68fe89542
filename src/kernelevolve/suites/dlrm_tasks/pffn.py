"""Personalised feed-forward network of the InterFormer models: each batch has its own weights.

h = rmsnorm(gelu(x w1 + b1)), out = rmsnorm(h w2 + b2), with x[B, N, D], w1[B, D, K], b1[B, 1, K],
w2[B, K, D] and b2[B, 1, D]; GELU with the error function, both norms over the last dimension with
weights of their own. Nothing is to be gained by algebra but where the first norm's scale of a row
is applied; the gain is that h, and what comes before it, need not go through memory.

From the KernelEvolve paper, section 5.3.2, whose kernels cover halves of this chain.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

WORKLOADS = {
    "narrowing": {"batch": 8, "n": 200, "width": 256, "inner": 160, "dtype": "float32"},
    "narrow": {"batch": 16, "n": 200, "width": 192, "inner": 96, "dtype": "float32"},
    "widening": {"batch": 16, "n": 150, "width": 96, "inner": 192, "dtype": "float32"},
}
HELD_OUT = {"odd": {"batch": 5, "n": 151, "width": 107, "inner": 161, "dtype": "float32"}}
ACCELERATOR_WORKLOADS = {
    "narrowing": {"batch": 1024, "n": 200, "width": 256, "inner": 160, "dtype": "float16"},
    "narrow": {"batch": 1024, "n": 200, "width": 192, "inner": 96, "dtype": "float16"},
    "longer": {"batch": 1024, "n": 400, "width": 256, "inner": 160, "dtype": "float16"},
    "widening": {"batch": 1024, "n": 150, "width": 96, "inner": 192, "dtype": "float16"},
}
ACCELERATOR_HELD_OUT = {
    "odd": {"batch": 391, "n": 151, "width": 107, "inner": 161, "dtype": "float16"},
    "few": {"batch": 128, "n": 200, "width": 256, "inner": 160, "dtype": "float16"},
}


class Model(nn.Module):
    def __init__(self, width: int, inner: int, dtype: str) -> None:
        super().__init__()
        kind = getattr(torch, dtype)
        self.inner_norm = nn.RMSNorm(inner, eps=1e-5, dtype=kind)
        self.outer_norm = nn.RMSNorm(width, eps=1e-5, dtype=kind)

    def forward(self, x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor) -> Tensor:
        hidden = self.inner_norm(F.gelu(torch.bmm(x, w1) + b1))
        return self.outer_norm(torch.bmm(hidden, w2) + b2)


def get_inputs(
    batch: int = 8, n: int = 200, width: int = 256, inner: int = 160, dtype: str = "float32"
) -> list[Tensor]:
    made = [
        torch.randn(batch, n, width),
        torch.randn(batch, width, inner) / width**0.5,
        torch.randn(batch, 1, inner) / 4,
        torch.randn(batch, inner, width) / inner**0.5,
        torch.randn(batch, 1, width) / 4,
    ]
    return [tensor.to(getattr(torch, dtype)) for tensor in made]


def get_init_inputs(width: int = 256, inner: int = 160, dtype: str = "float32") -> list[int | str]:
    return [width, inner, dtype]
