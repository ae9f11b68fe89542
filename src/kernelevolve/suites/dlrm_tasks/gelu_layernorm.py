"""An activation with its residual, normalised: layer_norm(1.7 gelu(x) + x) over the last dimension.

x[R, C] in float32; GELU with the error function, weight[C] and bias[C] in the norm, epsilon 1e-5.
Eager PyTorch passes over memory four times; once is enough. No algebra.

A chain of standard operations at a size that we chose.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

WORKLOADS = {"wide": {"rows": 256, "width": 8192}, "narrow": {"rows": 2048, "width": 768}}
HELD_OUT = {"odd": {"rows": 391, "width": 777}, "long": {"rows": 5, "width": 65_537}}
ACCELERATOR_WORKLOADS = {
    "wide": {"rows": 4096, "width": 8192},
    "narrow": {"rows": 32_768, "width": 768},
}
ACCELERATOR_HELD_OUT = {
    "odd": {"rows": 1023, "width": 5001},
    "long": {"rows": 65, "width": 131_073},
}


class Model(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(F.gelu(x) * 1.7 + x)


def get_inputs(rows: int = 256, width: int = 8192) -> list[Tensor]:
    return [torch.randn(rows, width)]


def get_init_inputs(width: int = 8192) -> list[int]:
    return [width]
