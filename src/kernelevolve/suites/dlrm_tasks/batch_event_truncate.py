"""Batch event truncate: keeps the first events of each user's history, for many features at once.

Jagged in two levels, feature after feature: outer[F, U] counts the events of each user,
inner[E] the values of each event, and values[V] are those values one after another. Of each user
the first `most` events stay. For one feature and most = 2, outer [3, 4, 1],
inner [1, 0, 2, 0, 3, 1, 1, 1] and values 1 to 9 become [2, 2, 1], [1, 0, 0, 3, 1] and
[1, 4, 5, 6, 9].

From the KernelEvolve paper, section 5.5, whose baseline is a Python loop over features. This
reference has no loop, so that a gain over it is none over Python. Every set of inputs is another
arrangement of the same lengths: how much is kept does not change from call to call.
"""

import torch
from torch import Tensor, nn

WORKLOADS = {
    "one_feature": {"features": 1, "users": 128, "events": 200, "most": 100},
    "nine_uncut": {"features": 9, "users": 64, "events": 200, "most": 200},
    "many_features": {"features": 32, "users": 32, "events": 200, "most": 100},
}
HELD_OUT = {
    "odd": {"features": 5, "users": 37, "events": 171, "most": 53},
    "first_only": {"features": 7, "users": 41, "events": 99, "most": 1},
}
ACCELERATOR_WORKLOADS = {
    "one_feature": {"features": 1, "users": 1024, "events": 200, "most": 100},
    "nine_uncut": {"features": 9, "users": 1024, "events": 200, "most": 200},
    "many_features": {"features": 32, "users": 1024, "events": 200, "most": 100},
}
ACCELERATOR_HELD_OUT = {
    "odd": {"features": 5, "users": 777, "events": 171, "most": 53},
    "first_only": {"features": 7, "users": 1001, "events": 99, "most": 1},
}


class Model(nn.Module):
    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most

    def forward(
        self, outer: Tensor, inner: Tensor, values: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        stays = _place(outer.flatten()) < self.most
        return (
            outer.clamp(max=self.most),
            inner[stays],
            values[torch.repeat_interleave(stays, inner)],
        )


def _place(lengths: Tensor) -> Tensor:
    """Of each event, how many of its user come before it."""
    starts = lengths.cumsum(0) - lengths
    first = torch.repeat_interleave(starts, lengths)
    return torch.arange(first.numel(), device=lengths.device) - first


def get_inputs(
    features: int = 1, users: int = 128, events: int = 200, most: int = 100
) -> list[Tensor]:
    """Up to `events` events of a user, up to three values of an event."""
    outer = _arranged(features * users, events + 1)
    stays = _place(outer) < most
    inner = torch.empty_like(stays, dtype=torch.int64)
    for part in (stays, ~stays):
        inner[part] = _arranged(int(part.sum()), 4)
    return [outer.view(features, users), inner, torch.randn(int(inner.sum()))]


def _arranged(count: int, below: int) -> Tensor:
    """The same `count` lengths in a new order."""
    return torch.linspace(0, below - 1, count).round().long()[torch.randperm(count)]


def get_init_inputs(most: int = 100) -> list[int]:
    return [most]
