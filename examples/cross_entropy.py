"""Mean cross entropy of a language model's logits against the next token."""

import torch
from torch import nn
from torch.nn import functional as F

WORKLOADS = {
    "vocabulary8192": {"tokens": 512, "vocabulary": 8192},
    "vocabulary1000": {"tokens": 2048, "vocabulary": 1000},
}
HELD_OUT = {"odd": {"tokens": 277, "vocabulary": 5003}}


class Model(nn.Module):
    def forward(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(logits, targets)


def get_inputs(tokens=512, vocabulary=8192):
    return [torch.randn(tokens, vocabulary) * 2, torch.randint(0, vocabulary, (tokens,))]


def get_init_inputs():
    return []
