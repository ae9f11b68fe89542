"""Softmax over the last dimension: one program for a row, which it holds in registers."""

import torch
import triton
import triton.language as tl
from torch import nn


@triton.jit
def softmax(x, out, width, BLOCK: tl.constexpr):
    first = tl.program_id(0).to(tl.int64) * width
    i = tl.arange(0, BLOCK)
    inside = i < width
    row = tl.load(x + first + i, mask=inside, other=float("-inf")).to(tl.float32)
    weights = tl.exp(row - tl.max(row, 0))
    tl.store(out + first + i, weights / tl.sum(weights, 0), mask=inside)


class ModelNew(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.contiguous()
        out = torch.empty_like(x)
        width = x.shape[-1]
        block = triton.next_power_of_2(width)
        warps = min(16, max(1, block // 256))
        if out.numel():
            softmax[(out.numel() // width,)](x, out, width, BLOCK=block, num_warps=warps)
        return out
