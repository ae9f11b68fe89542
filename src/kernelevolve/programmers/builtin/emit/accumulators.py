"""The C++ variables behind a reduction, and when a shortcut with NaN is allowed."""

from __future__ import annotations

from dataclasses import dataclass

from kernelevolve.programmers.builtin.emit.expr import ARITHMETIC, STORAGE, VECTOR, Printer
from kernelevolve.programmers.builtin.ir import (
    DType,
    MapReduce,
    Reduction,
    Ref,
    Store,
    walk,
)

IDENTITY = {"sum": "0", "prod": "1"}


@dataclass
class Accumulator:
    """The C++ variables of one reduction: a vector for each unrolled copy, maybe a total."""

    reduction: Reduction
    copies: int
    two_level: bool
    prefix: str = ""
    forgiving: bool = False
    """NaN may get lost in a maximum, because a later sum of the same values finds it."""

    @property
    def name(self) -> str:
        return self.reduction.name

    @property
    def _type(self) -> str:
        return VECTOR[ARITHMETIC[self._value_dtype]]

    @property
    def _value_dtype(self) -> DType:
        arg = self.reduction.kind.startswith("arg")
        return self.reduction.value.dtype if arg else self.reduction.dtype

    def _variable(self, copy: int) -> str:
        return f"{self.prefix}{self.name}_{copy}"

    def _identity(self) -> str:
        kind, dtype = self.reduction.kind, ARITHMETIC[self._value_dtype]
        if kind in IDENTITY:
            return f"splat<{self._type}>({IDENTITY[kind]})"
        sign = "-" if kind.endswith("max") else ""
        if dtype in ("f32", "f64"):
            return f"splat<{self._type}>({sign}__builtin_inf())"
        bits = 64 if dtype == "i64" else 32
        least = f"(-__INT{bits}_MAX__ - 1)"
        return f"splat<{self._type}>({least if sign else f'__INT{bits}_MAX__'})"

    def declare(self) -> list[str]:
        start = self._identity()
        lines = [f"{self._type} {self._variable(c)} = {start};" for c in range(self.copies)]
        if self.reduction.kind.startswith("arg"):
            lines += [f"vi64 {self._variable(c)}_at = {{}};" for c in range(self.copies)]
        if self.two_level:
            lines.append(f"vf64 {self.prefix}{self.name}_total = {{}};")
        return lines

    def update(self, printer: Printer, copy: int, lanes: str | None, position: str) -> None:
        """Take in one vector; inactive lanes count for nothing."""
        value = printer.convert(printer.value(self.reduction.value), self._arith())
        vector, into, kind = printer.vector(value), self._variable(copy), self.reduction.kind
        if lanes:
            vector = f"sel(first({lanes}), {vector}, {self._identity()})"
        if kind == "sum":
            printer.line(f"{into} += {vector};")
        elif kind == "prod":
            printer.line(f"{into} *= {vector};")
        elif kind in ("max", "min"):
            hard = "hard" if self.forgiving else ""
            printer.line(f"{into} = v{hard}{kind}({into}, {vector});")
        else:
            self._update_arg(printer, vector, into, position)

    def _arith(self) -> DType:
        return ARITHMETIC[self._value_dtype]

    def _update_arg(self, printer: Printer, vector: str, into: str, position: str) -> None:
        test = "gt" if self.reduction.kind == "argmax" else "lt"
        v, take = printer.fresh(), printer.fresh()
        at = f"splat<vi64>({position})" + ("" if self.prefix else " + iota()")
        printer.line(f"auto {v} = {vector};")
        printer.line(f"auto {take} = {test}({v}, {into}) | (ne({v}, {v}) & eq({into}, {into}));")
        printer.line(f"{into}_at = sel({take}, {at}, {into}_at);")
        printer.line(f"{into} = sel({take}, {v}, {into});")

    def flush(self) -> list[str]:
        """Add the chunk's sums to the total and begin again."""
        if not self.two_level:
            return []
        lines = [f"{self.name}_total += to<vf64>({self._combined()});"]
        return lines + [f"{self._variable(c)} = {self._identity()};" for c in range(self.copies)]

    def flush_lanes(self) -> list[str]:
        if not self.two_level:
            return []
        one = self._variable(0)
        return [
            f"{self.prefix}{self.name}_total += to<vf64>({one});",
            f"{one} = {self._identity()};",
        ]

    def _combined(self) -> str:
        names = [self._variable(c) for c in range(self.copies)]
        kind = self.reduction.kind
        if kind in ("sum", "prod"):
            return "(" + (" + " if kind == "sum" else " * ").join(names) + ")"
        text = names[0]
        for other in names[1:]:
            text = f"v{kind}({text}, {other})"
        return text

    def finish(self) -> list[str]:
        """Fold lanes and copies to the scalar result."""
        kind, scalar = self.reduction.kind, STORAGE[ARITHMETIC[self.reduction.dtype]]
        if kind.startswith("arg"):
            return self._finish_arg()
        if self.two_level:
            return [f"const {scalar} {self.name} = ({scalar})fold({self.name}_total, PLUS);"]
        op = {"sum": "PLUS", "prod": "TIMES", "max": "MOST", "min": "LEAST"}[kind]
        return [f"const {scalar} {self.name} = fold({self._combined()}, {op});"]

    def _finish_arg(self) -> list[str]:
        test = "gt" if self.reduction.kind == "argmax" else "lt"
        first, lines = self._variable(0), []
        for c in range(1, self.copies):
            o = self._variable(c)
            tie = f"(eq({o}, {first}) & lt({o}_at, {first}_at))"
            lines.append(f"auto {o}_take = {test}({o}, {first}) | {tie};")
            lines.append(f"{first}_at = sel({o}_take, {o}_at, {first}_at);")
            lines.append(f"{first} = sel({o}_take, {o}, {first});")
        largest = "true" if test == "gt" else "false"
        call = f"where_best({first}, {first}_at, {largest})"
        return [*lines, f"const int64_t {self.name} = {call};"]

    def finish_lanes(self) -> list[str]:
        """The per-lane result of the column form."""
        result, one = f"{self.prefix}{self.name}", self._variable(0)
        if self.reduction.kind.startswith("arg"):
            return [f"const vi64 {result} = {one}_at;"]
        value = f"to<vf32>({result}_total)" if self.two_level else one
        return [f"const auto {result} = {value};"]


def forgiving(region: MapReduce, r: Reduction) -> bool:
    """Every result also depends on a sum over functions of the same values and of `r`."""
    if r.kind not in ("max", "min"):
        return False
    sums = set()
    for p in region.passes:
        for other in p.reductions:
            inside = walk(other.value)
            uses = any(isinstance(e, Ref) and e.name == r.name for e in inside)
            if other.kind == "sum" and uses and r.value in inside:
                sums.add(other.name)
    return bool(sums) and all(
        any(isinstance(e, Ref) and e.name in sums for e in walk(s.value)) for s in stores_of(region)
    )


def stores_of(region: MapReduce) -> list[Store]:
    """Every store of a region."""
    return [s for p in region.passes for s in p.stores]
