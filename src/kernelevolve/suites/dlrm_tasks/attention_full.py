"""Scaled dot-product attention of all to all, op by op, with shared key and value heads.

The case `attention` without its mask: q[B, H, L, W] attends to k and v[B, G, L, W], H / G query
heads to one head of keys and values; softmax(q k^T / sqrt(W)) v over all positions. The reference
writes the whole matrix of scores. No algebra is left to gain, but plain PyTorch has
`scaled_dot_product_attention`, which does not write it. A gain over this reference says nothing
about a gain over that.

A task of its own, because a kernel for one of the two is hardly one for the other.
"""

import torch
from torch import Tensor, nn

WORKLOADS = {
    "length256": {
        "batch": 1, "heads": 8, "groups": 2, "length": 256, "width": 64, "dtype": "float32",
    },
    "length128": {
        "batch": 2, "heads": 8, "groups": 2, "length": 128, "width": 128, "dtype": "float32",
    },
}  # fmt: skip
HELD_OUT = {
    "odd": {"batch": 1, "heads": 6, "groups": 3, "length": 173, "width": 40, "dtype": "float32"},
}
ACCELERATOR_WORKLOADS = {
    "length2048": {
        "batch": 1, "heads": 32, "groups": 8, "length": 2048, "width": 128, "dtype": "float16",
    },
    "length512": {
        "batch": 8, "heads": 32, "groups": 8, "length": 512, "width": 128, "dtype": "float16",
    },
}  # fmt: skip
ACCELERATOR_HELD_OUT = {
    "odd": {
        "batch": 2, "heads": 32, "groups": 8, "length": 1111, "width": 128, "dtype": "float16",
    },
    "long": {
        "batch": 1, "heads": 32, "groups": 8, "length": 4096, "width": 128, "dtype": "float16",
    },
}  # fmt: skip


class Model(nn.Module):
    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        shared = q.size(1) // k.size(1)
        k, v = k.repeat_interleave(shared, 1), v.repeat_interleave(shared, 1)
        scores = torch.matmul(q, k.transpose(-2, -1)) * q.size(-1) ** -0.5
        return torch.matmul(torch.softmax(scores, -1), v)


def get_inputs(
    batch: int = 1,
    heads: int = 8,
    groups: int = 2,
    length: int = 256,
    width: int = 64,
    dtype: str = "float32",
) -> list[Tensor]:
    made = [torch.randn(batch, count, length, width) for count in (heads, groups, groups)]
    return [tensor.to(getattr(torch, dtype)) for tensor in made]


def get_init_inputs() -> list[int]:
    return []
