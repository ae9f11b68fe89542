"""Products for MTIA: tiles of both operands through the dot-product engine, what follows in place.

Core 0 reads, core 1 multiplies and has the sums finished. Tiles are dealt out one after the other,
or by the grid: then the processing elements of a row read the same rows of the left operand, those
of a column the same columns of the right one, and one read serves them all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kernelevolve.programmers.builtin.emit.engine_rows import Rows
from kernelevolve.programmers.builtin.emit.engine_text import buffer_line, decoded, factor, within
from kernelevolve.programmers.builtin.emit.engine_values import Matrix, Unwritten, Value
from kernelevolve.programmers.builtin.ir import Axis, Contraction, Expr, Load, MapReduce, Pass, Size
from kernelevolve.programmers.builtin.prims import numel
from kernelevolve.programmers.builtin.schedule import Engines


@dataclass(frozen=True)
class ProductKernel:
    """A kernel as text, and what decides its tiles."""

    name: str
    text: str
    extents: tuple[Size, Size, Size, Size]
    """Products, rows, columns and terms."""
    flips: bool
    """The right operand's tiles are transposed first."""
    each: int
    """Bytes of local memory for an element of the result's tile, sums included."""
    aside: int
    """Bytes for a row or a column of it."""


def emit_product(
    region: Contraction, parameters: Sequence[str], engines: Engines, short: bool
) -> ProductKernel:
    """The kernel of a product.

    Raises:
        Unwritten: the engines have no commands for it.
    """
    return Product(region, engines, short).product(parameters)


class Product(Rows):
    """One kernel as it is written: what follows the product is a map over its tiles."""

    def __init__(self, region: Contraction, engines: Engines, short: bool) -> None:
        if region.m.parts or region.k.parts:
            raise Unwritten("it multiplies convolutions' windows, which do not lie in rows")
        self.region_of_product = region
        self.a, self.b = _operand(region.a, region), _operand(region.b, region)
        if self.a.index.stride(region.k.name).constant != 1:
            raise Unwritten("terms of the left operand of a product lie apart in memory")
        self.flips = self.b.index.stride(region.k.name).constant != 1
        if self.flips and self.b.index.stride(region.n.name).constant != 1:
            raise Unwritten(
                "rows and columns of the right operand of a product lie apart in memory"
            )
        follows = MapReduce(
            region.name, (*region.batch, region.m), (Pass((region.n,), (), region.stores),)
        )
        matrix = Matrix(region.batch, region.m, (region.n,), whole=False)
        alone = engines.model_copy(update={"both": False})
        super().__init__(follows, matrix, alone, short, Value("tile", "sums"))

    def product(self, parameters: Sequence[str]) -> ProductKernel:
        """Its text, and its tiles."""
        commands = self._commands()
        own, moved = zip(*self._room([s for s, _ in self.values.stores]), strict=True)
        region = self.region_of_product
        points = numel(tuple(x.size for x in region.batch))
        return ProductKernel(
            region.name,
            self._text(parameters, commands),
            (points, region.m.size, region.n.size, region.k.size),
            self.flips,
            8 + own[0] + 2 * moved[0],
            own[1] + 2 * moved[1],
        )

    def _text(self, parameters: Sequence[str], commands: Sequence[str]) -> str:
        region = self.region_of_product
        ahead = [x for v in self.loads for x in self._read(v)]
        reads = [
            *self._terms([*_if("in_row", self._left()), *_if("in_column", self._right())]),
            *_if("in_row && in_column", ahead),
            "return;",
        ]
        tile = [
            *within("if (core.number == 0) {", reads),
            *self._terms(self._multiplied()),
            "if (!in_row || !in_column) return;",
            "sums.push();",
            *commands,
            "sums.pop();",
        ]
        head = "auto tile = [&](int64_t point, int64_t at_row, int64_t at_column) {"
        place = [
            *decoded("point", region.batch),
            "const bool in_row = at_row < extent, in_column = at_column < length;",
            "const int64_t here = std::min(rows, extent - at_row);",
            "const int64_t wide = std::min(width, length - at_column);",
        ]
        points = numel(tuple(x.size for x in region.batch)).expr
        body = [
            f"const int64_t points = {points}, extent = {region.m.size.expr};",
            f"const int64_t length = {region.n.size.expr}, terms = {region.k.size.expr};",
            *self._buffers(),
            *within(head, [*place, *tile])[:-1],
            "};",
            *(self._by_grid() if self.engines.share else self._one_by_one()),
        ]
        sizes = [f"int64_t {n}" for n in ("rows", "width", "step", "depth")]
        given = ", ".join(["Core& core", *parameters, *sizes])
        lines = within(f"void {region.name}({given}) {{", body)
        return "\n".join([*lines, f"MTIA_KERNEL({region.name})", ""])

    def _one_by_one(self) -> list[str]:
        return [
            "const int64_t down = (extent + rows - 1) / rows;",
            "const int64_t across = (length + width - 1) / width;",
            "for (int64_t i = core.pe; i < points * down * across; i += core.pes)",
            "  tile(i / across / down, i / across % down * rows, i % across * width);",
        ]

    def _by_grid(self) -> list[str]:
        return [
            "for (int64_t point = 0; point < points; point++)",
            "  for (int64_t row = 0; row < extent; row += core.rows * rows)",
            "    for (int64_t column = 0; column < length; column += core.columns * width)",
            "      tile(point, row + core.row * rows, column + core.column * width);",
        ]

    def _terms(self, lines: Sequence[str]) -> list[str]:
        """A loop over the terms, in steps; what lies in a block behind the last is zero."""
        return within(
            "for (int64_t term = 0; term < terms; term += step) {",
            [
                "const int64_t deep = std::min(step, terms - term);",
                "const int64_t padded = (deep + 15) / 16 * 16;",
                *lines,
            ],
        )

    def _left(self) -> list[str]:
        stride = self.a.index.stride(self.region_of_product.m.name).expr
        at = self._first(self.a, self.region_of_product.m, "at_row")
        group = ", Group::row" if self.engines.share else ""
        return [f"core.fi.read(left.back(), {at}, here, deep, {stride}, padded{group});",
                "left.push();"]  # fmt: skip

    def _right(self) -> list[str]:
        region = self.region_of_product
        at = self._first(self.b, region.n, "at_column")
        group = ", Group::column" if self.engines.share else ""
        if self.flips:
            stride = self.b.index.stride(region.k.name).expr
            shape = f"deep, wide, {stride}, wide"
        else:
            stride = self.b.index.stride(region.n.name).expr
            shape = f"wide, deep, {stride}, padded"
        return [f"core.fi.read(right.back(), {at}, {shape}{group});", "right.push();"]

    def _first(self, load: Load, axis: Axis, at: str) -> str:
        """Where a tile of an operand begins."""
        index, terms = load.index, self.region_of_product.k.name
        parts = [index.offset.expr, f"{at} * {factor(index.stride(axis.name))}"]
        parts.append(f"term * {factor(index.stride(terms))}")
        for point in self.region_of_product.batch:
            if not index.stride(point.name).is_const(0):
                parts.append(f"{point.name} * {factor(index.stride(point.name))}")
        return f"{load.buffer} + ({' + '.join(p for p in parts if p != '0')})"

    def _multiplied(self) -> list[str]:
        operands = "left.front(), flipped.front()" if self.flips else "left.front(), right.front()"
        product = f"core.dpe.multiply(sums.back(), {operands}, here, wide, padded, term > 0);"
        lines = [product]
        if self.flips:
            turned = "core.mlu.transpose(flipped.back(), right.front(), deep, wide);"
            lines = [turned, "flipped.push();", product, "flipped.pop();"]
        return [
            *_if("in_row && in_column", lines),
            "if (in_row) left.pop();",
            "if (in_column) right.pop();",
        ]

    def _buffers(self) -> list[str]:
        dtype = self.a.dtype
        lines = [
            buffer_line("left", dtype, "rows * step", "depth"),
            buffer_line("right", dtype, "width * step", "depth"),
            *([buffer_line("flipped", dtype, "width * step", "2")] if self.flips else []),
            buffer_line("sums", "f32", "rows * width", "2"),
        ]
        return [*lines, *super()._buffers()]


def _operand(expr: Expr, region: Contraction) -> Load:
    if not isinstance(expr, Load):
        raise Unwritten(f"it computes an operand of the product {region.name} on the way")
    if expr.dtype not in ("f16", "bf16") or expr.inside is not None or expr.index.jumps:
        raise Unwritten(f"it multiplies {expr.dtype}, and the dot-product engine takes 16 bits")
    return expr


def _if(condition: str, lines: Sequence[str]) -> list[str]:
    return within(f"if ({condition}) {{", lines) if lines else []
