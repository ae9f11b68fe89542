"""What the row and the column form of a map/reduce region share."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count

from kernelevolve.programmers.builtin.emit.expr import Printer
from kernelevolve.programmers.builtin.ir import Expr, Load, MapReduce, Pass, walk
from kernelevolve.programmers.builtin.schedule import Loops

UNSEEN = 16
"""How much longer a sum may be than at any captured size and still keep its accuracy."""


@dataclass
class Emission:
    """What one region's code is made with."""

    region: MapReduce
    loops: Loops
    numbers: count[int] = field(default_factory=count)
    staged: dict[Expr, str] = field(default_factory=dict)
    """Expressions kept in scratch memory between passes."""
    ready: set[Expr] = field(default_factory=set)

    def printer(self, lane: str | None, lanes: str | None = None) -> Printer:
        printer = Printer(lane, self.numbers)
        printer.lanes = lanes
        printer.reciprocals = self.loops.reciprocal
        return printer


def values(p: Pass) -> list[Expr]:
    return [r.value for r in p.reductions] + [s.value for s in p.stores]


def loads(p: Pass) -> list[Load]:
    found = {e: None for v in values(p) for e in walk(v) if isinstance(e, Load)}
    return list(found)


def loop(axis: str, stop: str, step: str = "1", start: str = "0") -> str:
    return f"for (int64_t {axis} = {start}; {axis} < {stop}; {axis} += {step}) {{"


def linear(p: Pass, lane: str, at: str) -> str:
    """The row-major number of the current element among the pass's axes."""
    text = ""
    for axis in p.axes:
        mine = at if axis.name == lane else axis.name
        text = f"({text}) * {axis.size.expr} + {mine}" if text else mine
    return f"({text})"
