"""Softmax over the last dimension, for MTIA: a candidate for `examples/softmax.py`."""

import torch
from torch import nn

from kernelevolve.runtime import mtia

softmax = mtia.load("kernel.cpp", "softmax")
WIDEST = 5888
"""Columns of which two blocks of eight rows fit the 384 KB of a processing element."""


class ModelNew(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[-1] > WIDEST or not x.numel():
            return torch.softmax(x, dim=-1)
        x = x.contiguous()
        out = torch.empty_like(x)
        softmax(x, out, x.numel() // x.shape[-1], x.shape[-1])
        return out
