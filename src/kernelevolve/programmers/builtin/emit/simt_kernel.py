"""One `__global__` function as text, and how it is launched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kernelevolve.programmers.builtin.ir import Axis, Size

MAP_THREADS = 256
MOST_BLOCKS = 1 << 20


@dataclass(frozen=True)
class Kernel:
    """One `__global__` function and how it is launched."""

    name: str
    text: str
    points: Size
    """What the grid divides."""
    each: int
    """Points of a block."""
    block: tuple[int, int]
    """Threads in x and y."""
    shared: int = 0
    """Bytes of shared memory that the launch asks for."""
    most: int = MOST_BLOCKS
    """Blocks of the grid; where there are more points, blocks take several."""
    state: int = 0
    """Zeroed int64 numbers for each point, and one more, that it is given as its last argument."""


def signature(name: str, parameters: Sequence[str], threads: int) -> str:
    """How a kernel begins."""
    return (
        f'extern "C" __global__ void __launch_bounds__({threads})\n'
        f"{name}({', '.join(parameters)}) {{"
    )


def indented(lines: Sequence[str]) -> str:
    """Statements as the body of a function."""
    return "\n".join(f"  {line}" for line in lines)


def decoded(number: str, axes: Sequence[Axis], kind: str = "const int64_t") -> list[str]:
    """Statements that take a row-major number apart."""
    lines, rest = [], number
    for at, axis in reversed(list(enumerate(axes))):
        if axis.size.is_const(1):
            lines.append(f"{kind} {axis.name} = 0;")
        elif all(a.size.is_const(1) for a in axes[:at]):
            lines.append(f"{kind} {axis.name} = {rest};")
        else:
            over = f"{axis.name}_over"
            lines.append(f"{kind} {over} = quotient({rest}, {axis.size.expr});")
            lines.append(f"{kind} {axis.name} = {rest} - {over} * ({axis.size.expr});")
            rest = over
    return lines
