"""MapIdTransform: replaces ids by their place in a sorted table, counted from 1, and others by 0.

index = min(bucketize(values, table), len(table) - 1); the answer is index + 1 where
table[index] equals the value, else 0. The table [100, 200, 300, 400, 500] maps
[100, 300, 500, 200, 999] to [1, 3, 5, 2, 0]. Everything is int64; the ids of a table are distinct.
The table is an input: whatever a kernel makes of it first is part of its time.

From the KernelEvolve paper, table 7, and one larger size.
"""

import torch
from torch import Tensor, nn

WORKLOADS = {
    "ids1000": {"ids": 1000, "values": 10_000},
    "ids10000": {"ids": 10_000, "values": 50_000},
    "ids100000": {"ids": 100_000, "values": 200_000},
}
HELD_OUT = {"odd": {"ids": 7919, "values": 31_337}, "few_ids": {"ids": 3, "values": 10_001}}
ACCELERATOR_WORKLOADS = {
    "ids1000": {"ids": 1000, "values": 10_000},
    "ids10000": {"ids": 10_000, "values": 50_000},
    "ids100000": {"ids": 100_000, "values": 5_000_000},
}
ACCELERATOR_HELD_OUT = {
    "odd": {"ids": 77_777, "values": 1_234_567},
    "many_ids": {"ids": 1_500_001, "values": 500_001},
    "few_ids": {"ids": 3, "values": 100_001},
}


class Model(nn.Module):
    def forward(self, values: Tensor, table: Tensor) -> Tensor:
        index = torch.bucketize(values, table).clamp(max=table.numel() - 1)
        return torch.where(table[index] == values, index + 1, 0)


def get_inputs(ids: int = 1000, values: int = 10_000) -> list[Tensor]:
    """Three values of four are in the table."""
    table = torch.randint(1, 40, (ids,)).cumsum(0)
    known = table[torch.randint(0, ids, (values,))]
    other = (torch.rand(values, dtype=torch.float64) * (table[-1] + 40)).long()
    return [torch.where(torch.rand(values) < 0.75, known, other), table]


def get_init_inputs() -> list[int]:
    return []
