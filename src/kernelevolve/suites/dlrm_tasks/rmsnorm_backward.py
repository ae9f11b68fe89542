"""Gradients of a two-dimensional RMSNorm, by their formula instead of autograd.

From x[R, C], weight[C] and the output's gradient dy[R, C] come dx[R, C] and dweight[C]. With
s = 1 / sqrt(mean(x^2) + 1e-5) of each row, n = x s and g = dy weight, dx = s (g - n mean(g n)) and
dweight = sum over rows of dy n. Computed in float32 and returned in the inputs' dtype. No algebra
is left to gain: one pass over x and dy for both answers.

The KernelEvolve paper reports this operation without its sizes; measured against autograd a
kernel seems faster than it is, because autograd also computes the output.
"""

import torch
from torch import Tensor, nn

WORKLOADS = {
    "wide": {"rows": 256, "width": 4096, "dtype": "float32"},
    "narrow": {"rows": 512, "width": 768, "dtype": "float32"},
}
HELD_OUT = {"odd": {"rows": 391, "width": 777, "dtype": "float32"}}
ACCELERATOR_WORKLOADS = {
    "narrow": {"rows": 16_384, "width": 1024, "dtype": "float16"},
    "wide": {"rows": 4096, "width": 8192, "dtype": "float16"},
}
ACCELERATOR_HELD_OUT = {
    "odd": {"rows": 4099, "width": 777, "dtype": "float16"},
    "many_rows": {"rows": 262_144, "width": 64, "dtype": "float16"},
}


class Model(nn.Module):
    def forward(self, x: Tensor, weight: Tensor, dy: Tensor) -> tuple[Tensor, Tensor]:
        wide, slope = x.float(), dy.float()
        scale = torch.rsqrt(wide.square().mean(-1, keepdim=True) + 1e-5)
        normed, inner = wide * scale, slope * weight.float()
        dx = scale * (inner - normed * (inner * normed).mean(-1, keepdim=True))
        return dx.to(x.dtype), (slope * normed).sum(0).to(weight.dtype)


def get_inputs(rows: int = 256, width: int = 4096, dtype: str = "float32") -> list[Tensor]:
    made = [torch.randn(rows, width), 1 + torch.randn(width) / 4, torch.randn(rows, width)]
    return [tensor.to(getattr(torch, dtype)) for tensor in made]


def get_init_inputs() -> list[int]:
    return []
