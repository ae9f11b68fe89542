"""The stem of a residual network: 7x7 convolution with stride 2, batch norm at inference, ReLU."""

import torch
from torch import nn

WORKLOADS = {
    "side224": {"batch": 1, "inputs": 3, "outputs": 64, "side": 224},
    "side96": {"batch": 4, "inputs": 3, "outputs": 32, "side": 96},
}
HELD_OUT = {"odd": {"batch": 2, "inputs": 5, "outputs": 27, "side": 67}}
MODE = "eval"
RANDOMISE = {"norm.running_mean": (-0.5, 0.5), "norm.running_var": (0.5, 2.0)}


class Model(nn.Module):
    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel_size=7, stride=2, padding=3, bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.norm(self.conv(x)))


def get_inputs(batch=1, inputs=3, side=224):
    return [torch.randn(batch, inputs, side, side)]


def get_init_inputs(inputs=3, outputs=64):
    return [inputs, outputs]
