"""Several captures of one model become one graph whose integers are expressions of sizes.

Every varying integer is fitted to the extents of the forward inputs and parameters; what follows
no such extent makes the graph unusable, and the reason is raised.
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations_with_replacement
from typing import Any

from kernelevolve.programmers.builtin.ir import Size


class NotUnified(Exception):
    """The captures do not describe one graph."""


ROOTS = {
    1: "{}",
    -1: "1.0 / ({})",
    2: "__builtin_sqrt({})",
    -2: "1.0 / __builtin_sqrt({})",
}
"""Powers that turn a number into a size, and how the number is written over that size."""
STRIDES = (2, 3, 4, 5, 6, 7, 8, 16, 32)
COUNTED = "0"
"""Python text of a size that forward has yet to count."""
WINDOW = 64
"""How much padding and windows may add to an extent before it is divided."""


@dataclass(frozen=True)
class Symbol:
    """A size known at run time, and the Python text that reads it in forward."""

    name: str
    source: str
    size: Size
    of_weights: str = ""
    """Python text that reads the same size from a parameter or buffer, where one has it."""


@dataclass
class Fitter:
    """Finds expressions for integers and floats, given their values at each capture."""

    symbols: list[Symbol] = field(default_factory=list)
    counted: dict[tuple[str, ...], Symbol] = field(default_factory=dict)
    """By what the captures call them."""

    def count(self, names: tuple[str, ...], about: Sequence[int]) -> Size:
        """A size that only data decide, at plausible values that are like no other's."""
        if names not in self.counted:
            taken = {v for s in self.counted.values() for v in s.size.values}
            values = tuple(_prime(v, taken) for v in about)
            name = f"s{len(self.symbols) + len(self.counted)}"
            self.counted[names] = Symbol(name, COUNTED, Size(name, values))
        return self.counted[names].size

    def learn(self, source: str, values: tuple[int, ...], weight: bool) -> None:
        """Offer one extent as a symbol, unless it is constant or known."""
        for i, known in enumerate(self.symbols):
            if known.size.values == values and weight and not known.of_weights:
                self.symbols[i] = replace(known, of_weights=source)
        if len(set(values)) > 1 and all(s.size.values != values for s in self.symbols):
            name = f"s{len(self.symbols)}"
            self.symbols.append(Symbol(name, source, Size(name, values), source * weight))

    def size(self, values: Sequence[int]) -> Size:
        """The expression of an integer.

        Raises:
            NotUnified: it varies, but with none of the symbols.
        """
        wanted = tuple(values)
        if len(set(wanted)) == 1:
            return Size.of(wanted[0])
        fit = next((fit for fit in self._fits(wanted) if fit is not None), None)
        if fit is None:
            raise NotUnified(f"an extent with values {list(wanted)} follows no input's extent")
        return fit

    def _fits(self, wanted: tuple[int, ...]) -> Iterator[Size | None]:
        """Attempts at an expression, the plainest first."""
        sizes = [s.size for s in self.symbols]
        yield from (_scaled(product, wanted) for product in self._products())
        pairs = combinations_with_replacement(sizes, 2)
        yield from (_scaled(a + b, wanted) for a, b in pairs)
        yield from (_quotient(p, below, wanted) for p in self._products() for below in sizes)
        yield from (_floored(size, wanted) for size in sizes)

    def _products(self) -> Iterator[Size]:
        for degree in (1, 2, 3):
            for chosen in combinations_with_replacement(self.symbols, degree):
                product = Size.of(1)
                for symbol in chosen:
                    product = product * symbol.size
                yield product

    def number(self, values: Sequence[float]) -> float | str:
        """A literal, or C++ text such as `2.0 / sqrt(s0)`; same errors as `size`."""
        if len(set(values)) == 1 or all(v != v for v in values):
            return values[0]
        if any(v == 0 or not math.isfinite(v) for v in values):
            raise NotUnified(f"a number with values {list(values)}")
        for power, text in ROOTS.items():
            if (fit := self._whole([v**power for v in values])) is not None:
                return text.format(f"(double)({fit.expr})")
        for symbol in self.symbols:
            for power, text in ROOTS.items():
                basis = [float(v) ** (1 / power) for v in symbol.size.values]
                scale = values[0] / basis[0]
                if all(math.isclose(scale * b, v) for b, v in zip(basis, values, strict=True)):
                    return f"{scale!r} * ({text.format(f'(double)({symbol.size.expr})')})"
        if all(v > 1 for v in values):
            count = self._whole([v / (v - 1) for v in values])
            if count is not None:
                text = f"(double)({count.expr})"
                return f"{text} / ({text} - 1.0)"
        raise NotUnified(f"a number with values {list(values)} follows no input's extent")

    def _whole(self, values: Sequence[float]) -> Size | None:
        """The size that these floats are, but for rounding."""
        if not all(math.isclose(v, round(v), rel_tol=1e-9) and v > 0.5 for v in values):
            return None
        try:
            return self.size([round(v) for v in values])
        except NotUnified:
            return None


def _prime(least: int, taken: Container[int]) -> int:
    """The first prime from `least` on that is not taken: nothing divides into it by accident."""
    prime = max(5, least)
    while prime in taken or any(prime % d == 0 for d in range(2, math.isqrt(prime) + 1)):
        prime += 1
    return prime


def _quotient(above: Size, below: Size, wanted: tuple[int, ...]) -> Size | None:
    """A multiple of `above / below`, where that gives `wanted`."""
    if below == above or not all(below.values):
        return None
    if not below.divides(above):
        return None
    expr = f"({above.expr} / {below.expr})"
    exact = Size(expr, tuple(a // b for a, b in zip(above.values, below.values, strict=True)))
    return _scaled(exact, wanted)


def _scaled(base: Size, wanted: tuple[int, ...]) -> Size | None:
    """`base` times, over, plus or minus one constant, where that gives `wanted`."""
    pairs = list(zip(base.values, wanted, strict=True))
    if any(b == 0 for b, _ in pairs) or not pairs:
        return None
    if all(b == w for b, w in pairs):
        return base
    b0, w0 = pairs[0]
    if w0 % b0 == 0 and all(b * (w0 // b0) == w for b, w in pairs):
        return base * Size.of(w0 // b0)
    if w0 and b0 % w0 == 0 and all(b == w * (b0 // w0) for b, w in pairs):
        return base // Size.of(b0 // w0)
    if all(w - b == w0 - b0 for b, w in pairs):
        return base + Size.of(w0 - b0)
    if all(w + b == w0 + b0 for b, w in pairs):
        return Size(f"({w0 + b0} - {base.expr})", wanted)
    return None


def _floored(base: Size, wanted: tuple[int, ...]) -> Size | None:
    """`base` plus one constant, over another and rounded down: what strided windows leave."""
    for stride in STRIDES:
        lowest = [w * stride - b for b, w in zip(base.values, wanted, strict=True)]
        low, high = max(lowest), min(lowest) + stride - 1
        if low <= high and abs(low) <= WINDOW:
            added = 0 if low <= 0 <= high else low
            return Size(f"(({base.expr} + {added}) / {stride})", wanted)
    return None


@dataclass(frozen=True)
class Type:
    """Shape and dtype of a tensor."""

    shape: tuple[Size, ...]
    dtype: str


@dataclass(frozen=True)
class Placeholder:
    """A tensor that forward is given or finds on the module."""

    name: str
    kind: str
    source: str
    type: Type
    values: tuple[Any, ...] = ()

    @property
    def lifted(self) -> bool:
        """A tensor that forward writes out in numbers; no module has it."""
        return self.kind == "constant_tensor" and self.source.startswith("lifted_tensor_")

    @property
    def numbers(self) -> tuple[float | int | bool, ...]:
        """The values of a small constant."""
        return tuple(float(v["float"]) if isinstance(v, dict) else v for v in self.values)


@dataclass(frozen=True)
class Operation:
    """One ATen operator; `args` hold `{"ref": name}`, Sizes, numbers, strings and lists."""

    name: str
    op: str
    args: list[Any]
    kwargs: Mapping[str, Any]
    type: Any


@dataclass(frozen=True)
class Traced:
    """A model's forward at symbolic sizes; the first `workloads` values are the task's own."""

    symbols: tuple[Symbol, ...]
    placeholders: tuple[Placeholder, ...]
    operations: tuple[Operation, ...]
    outputs: tuple[str, ...]
    plain: tuple[Any, ...]
    """Returned values that are no tensors: numbers, Sizes, strings and None."""
    mutations: tuple[Mapping[str, str], ...]
    structure: str
    """Python text of what forward returns, over `result0`, `plain0` and so on."""
    workloads: int

    @property
    def constants(self) -> frozenset[str]:
        """Tensors that change only when weights are loaded."""
        written = {m["buffer"] for m in self.mutations}
        kept = (p for p in self.placeholders if p.kind != "user_input" and p.source not in written)
        return frozenset(p.name for p in kept)


def unify(answer: Mapping[str, Any]) -> Traced:
    """Merge what `capture` answered.

    The capture at odd sizes is left out where no expression follows its extents.

    Raises:
        NotUnified: nothing was captured, or the workloads' graphs differ.
    """
    captures, real = list(answer["captures"]), int(answer.get("workloads", 1))
    if not captures:
        raise NotUnified("; ".join(answer["messages"]) or "nothing was captured")
    plain = [c for c in captures if not c.get("odd")]
    try:
        return _unified(captures, real)
    except NotUnified:
        if len(plain) == len(captures):
            raise
        return _unified(plain, real)


def _unified(captures: list[Any], real: int) -> Traced:
    if any(_skeleton(c) != _skeleton(captures[0]) for c in captures[:real]):
        raise NotUnified("the graph's structure depends on the workload")
    captures = [c for c in captures if _skeleton(c) == _skeleton(captures[0])]
    if any(_values(c) != _values(captures[0]) for c in captures):
        raise NotUnified("a constant of forward depends on the sizes")
    fitter = _symbols(captures)
    merge = _Merge(fitter, [c.get("counts", {}) for c in captures])
    placeholders = [
        Placeholder(p["name"], p["kind"], p["source"], t, tuple(p.get("values", ())))
        for p, t in zip(
            captures[0]["placeholders"],
            [merge.type(list(p)) for p in zip(*(_types(c) for c in captures), strict=True)],
            strict=True,
        )
    ]
    operations = [merge.operation(list(g)) for g in zip(*_nodes(captures), strict=True)]
    first = captures[0]
    return Traced(
        symbols=(*fitter.symbols, *fitter.counted.values()),
        placeholders=tuple(placeholders),
        operations=tuple(operations),
        outputs=tuple(first["outputs"]),
        plain=tuple(
            merge.plain(list(p)) for p in zip(*(c["plain"] for c in captures), strict=True)
        ),
        mutations=tuple(first["mutations"]),
        structure=first["structure"],
        workloads=real,
    )


def _skeleton(capture: Mapping[str, Any]) -> list[Any]:
    nodes = [(n["name"], n["op"]) for n in capture["nodes"]]
    return [nodes, [p["name"] for p in capture["placeholders"]], capture["structure"]]


def _nodes(captures: Sequence[Mapping[str, Any]]) -> list[list[Any]]:
    return [c["nodes"] for c in captures]


def _types(capture: Mapping[str, Any]) -> list[Any]:
    return [p["type"] for p in capture["placeholders"]]


def _values(capture: Mapping[str, Any]) -> list[Any]:
    return [p.get("values") for p in capture["placeholders"]]


def _symbols(captures: Sequence[Mapping[str, Any]]) -> Fitter:
    fitter = Fitter()
    for wanted in ("user_input", "parameter", "buffer"):
        for column in zip(*(c["placeholders"] for c in captures), strict=True):
            if column[0]["kind"] == wanted:
                shapes = [p["type"]["shape"] for p in column]
                for dim, values in enumerate(zip(*shapes, strict=True)):
                    source = f"{column[0]['name']}.shape[{dim}]"
                    fitter.learn(source, values, wanted != "user_input")
    for name in captures[0].get("arguments", {}):
        values = tuple(c["arguments"].get(name) for c in captures)
        if all(v is not None for v in values):
            fitter.learn(f"self.size_{name}", values, True)
    return fitter


class _Merge:
    def __init__(self, fitter: Fitter, counts: Sequence[Mapping[str, int]]) -> None:
        self.fitter = fitter
        self.counts = counts

    def operation(self, same: list[Any]) -> Operation:
        first = same[0]
        return Operation(
            name=first["name"],
            op=first["op"],
            args=self.value([n["args"] for n in same]),
            kwargs={k: self.value([n["kwargs"][k] for n in same]) for k in first["kwargs"]},
            type=self.type([n["type"] for n in same]),
        )

    def plain(self, same: list[Any]) -> Any:
        """A returned value; text of C++ cannot be returned."""
        value = self.value(same)
        if isinstance(value, str) and not isinstance(same[0], str):
            raise NotUnified("a returned number depends on the sizes")
        return value

    def type(self, same: list[Any]) -> Any:
        first = same[0]
        if first is None:
            return None
        if isinstance(first, list):
            return [self.type(list(t)) for t in zip(*same, strict=True)]
        shapes = zip(*(t["shape"] for t in same), strict=True)
        return Type(tuple(self.size(list(v)) for v in shapes), first["dtype"])

    def size(self, same: list[Any]) -> Size:
        """An extent at each capture."""
        if not isinstance(same[0], dict):
            return self.fitter.size(same)
        names = tuple(v["counted"] for v in same)
        about = [c[n] for c, n in zip(self.counts, names, strict=True)]
        return self.fitter.count(names, about)

    def value(self, same: list[Any]) -> Any:
        first = same[0]
        if isinstance(first, list):
            if any(len(v) != len(first) for v in same):
                raise NotUnified("lists of different lengths")
            return [self.value(list(v)) for v in zip(*same, strict=True)]
        if isinstance(first, dict) and "counted" in first:
            return self.size(same)
        if isinstance(first, dict) and "float" in first:
            return self.fitter.number([float(v["float"]) for v in same])
        if type(first) is int and any(v != first for v in same):
            return self.fitter.size(same)
        if any(v != first for v in same):
            raise NotUnified(f"an argument is {first!r} or something else")
        return first
