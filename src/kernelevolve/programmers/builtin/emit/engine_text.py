"""Pieces of a kernel for MTIA as text."""

from __future__ import annotations

from collections.abc import Sequence

from kernelevolve.programmers.builtin.emit.engine_values import STORED
from kernelevolve.programmers.builtin.ir import Axis, Size


def buffer_line(name: str, dtype: str, elements: str, depth: str) -> str:
    """The declaration of a circular buffer."""
    return f'auto {name} = core.buffer<{STORED[dtype]}>("{name}", room({elements}), {depth});'


def for_each_core(line: str) -> list[str]:
    """A buffer of core 1's and one of core 0's where it works, and the name for this core's."""
    name, made = line.split()[1], line.removesuffix(";").partition(" = ")[2]
    return [
        f"auto {name}_of1 = {made};",
        f"auto {name}_of0 = cores == 2 ? {made} : {name}_of1;",
        f"auto {name} = core.number ? {name}_of1 : {name}_of0;",
    ]


def factor(size: Size) -> str:
    """A size as an operand of a product."""
    return f"({size.expr})" if " " in size.expr else size.expr


def decoded(number: str, axes: Sequence[Axis]) -> list[str]:
    """Statements that take a row-major number apart."""
    lines = []
    for axis in reversed(axes):
        lines.append(f"const int64_t {axis.name} = {number} % ({axis.size.expr});")
        number = f"({number} / ({axis.size.expr}))"
    return lines


def within(head: str, lines: Sequence[str]) -> list[str]:
    """Statements of a block."""
    return [head, *(f"  {line}" for line in lines), "}"]
