"""One-dimensional convolution over short event sequences, stride 1, padded to the same length.

x[N, C, L] with weights [C', C, taps] and a bias gives y[N, C', L]. The published case is N = 2048,
96 channels on both sides and L = 200 in float16; it does not tell its taps, so that there is one
workload each for 1, 3 and 5. A convolution library changes the layout of x and back again, which
costs more than the arithmetic: that, and no algebra, is what there is to gain.

From the KernelEvolve paper, table 3; its shapes "out of distribution" are held out.
"""

import torch
from torch import Tensor, nn

WORKLOADS = {
    "taps1": {"n": 64, "inputs": 96, "outputs": 96, "length": 200, "taps": 1, "dtype": "float32"},
    "taps3": {"n": 64, "inputs": 96, "outputs": 96, "length": 200, "taps": 3, "dtype": "float32"},
    "taps5": {"n": 32, "inputs": 96, "outputs": 96, "length": 200, "taps": 5, "dtype": "float32"},
}
HELD_OUT = {
    "odd": {"n": 13, "inputs": 45, "outputs": 51, "length": 197, "taps": 3, "dtype": "float32"},
    "longer": {"n": 8, "inputs": 64, "outputs": 64, "length": 512, "taps": 3, "dtype": "float32"},
}
ACCELERATOR_WORKLOADS = {
    "taps1": {"n": 2048, "inputs": 96, "outputs": 96, "length": 200, "taps": 1, "dtype": "float16"},
    "taps3": {"n": 2048, "inputs": 96, "outputs": 96, "length": 200, "taps": 3, "dtype": "float16"},
    "taps5": {"n": 2048, "inputs": 96, "outputs": 96, "length": 200, "taps": 5, "dtype": "float16"},
}
ACCELERATOR_HELD_OUT = {
    "odd": {"n": 391, "inputs": 95, "outputs": 97, "length": 201, "taps": 3, "dtype": "float16"},
    "longer": {"n": 32, "inputs": 64, "outputs": 64, "length": 512, "taps": 3, "dtype": "float16"},
    "wide": {"n": 32, "inputs": 256, "outputs": 256, "length": 1024, "taps": 3, "dtype": "float16"},
}


class Model(nn.Module):
    def __init__(self, inputs: int, outputs: int, taps: int, dtype: str) -> None:
        super().__init__()
        kind = getattr(torch, dtype)
        self.conv = nn.Conv1d(inputs, outputs, taps, padding="same", dtype=kind)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


def get_inputs(
    n: int = 64, inputs: int = 96, length: int = 200, dtype: str = "float32"
) -> list[Tensor]:
    return [torch.randn(n, inputs, length).to(getattr(torch, dtype))]


def get_init_inputs(
    inputs: int = 96, outputs: int = 96, taps: int = 1, dtype: str = "float32"
) -> list[int | str]:
    return [inputs, outputs, taps, dtype]
