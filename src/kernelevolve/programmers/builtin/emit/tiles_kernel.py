"""A Triton kernel through whose stages blocks of rows go: names, scopes, operands and results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from kernelevolve.programmers.builtin.collapse import indices
from kernelevolve.programmers.builtin.emit.expr import ARITHMETIC
from kernelevolve.programmers.builtin.emit.steps import Chained
from kernelevolve.programmers.builtin.emit.tiles import KIND, Run, TilePrinter, points, text_of
from kernelevolve.programmers.builtin.emit.tiles_launch import (
    Launch,
    compiled_in,
    launch,
    pipelined,
)
from kernelevolve.programmers.builtin.emit.tiles_product import (
    fitting,
    indices_of,
    operand_block,
    operand_of,
)
from kernelevolve.programmers.builtin.ir import Contraction, Size, Store
from kernelevolve.programmers.builtin.schedule import Tiles


class Inner(NamedTuple):
    """The positions inside a row, in one stage's words."""

    number: str
    mask: str


@dataclass
class ChainKernel:
    """The kernel of one chain as it is written."""

    chain: Chained
    tiles: Tiles
    printer: TilePrinter = field(default_factory=TilePrinter)
    decided: dict[str, str] = field(default_factory=dict)
    before: list[str] = field(default_factory=list)
    """Statements of `forward` that decide blocks."""
    count: int = 0
    after: str = ""
    """What names of this part of the kernel end in."""
    wide: list[str] = field(default_factory=list)
    """The blocks that hold whole rows."""
    blocks: str = ""
    """The statement that decides how many rows a program has, where they are no chain's."""
    backward: bool = False
    """Later rows take longer, so they begin."""

    @property
    def first(self) -> Contraction:
        """The first product, whose rows are the chain's."""
        stage = self.chain.stages[0]
        assert isinstance(stage, Contraction)
        return stage

    def launch(self, buffers: Sequence[str], symbols: Sequence[str]) -> Launch:
        m, batch = self.first.m, points(self.first.batch)
        rows = text_of(m.size)
        first = "tl.program_id(0) % down"
        head = [
            f"down = (({rows}) + M_BLOCK - 1) // M_BLOCK",
            "batch = (tl.program_id(0) // down).to(INDEX)",
            f"m_first = ({f'down - 1 - {first}' if self.backward else first}).to(INDEX) * M_BLOCK",
            "m_at = (m_first + tl.arange(0, M_BLOCK))[:, None]",
            f"m_in = m_at < ({rows})",
            f"row = batch * ({rows}) + m_at",
        ]
        stages = self.chain.stages
        found, extents = [], []
        for stage in stages:
            if isinstance(stage, Contraction):
                found += indices_of(stage)
                extents += [a.size for a in (*stage.batch[1:], stage.n, stage.k)]
            else:
                found += indices(stage)
                extents += [a.size for a in stage.outer[1:]]
        sizes = compiled_in(symbols, found, extents)
        sides = ", ".join([str(fitting(self.tiles.dot_m, m)), str(self.tiles.warps), *self.wide])
        before = [*self.before, self.blocks or f"m_block, warps = chain_block_({sides})"]
        decided = {
            "INDEX": "index",
            "M_BLOCK": "m_block",
            **self.decided,
            "num_warps": "warps",
            **pipelined(self.tiles.stages, self.tiles),
        }
        grid = f"({text_of(batch)}) * -(-({rows}) // m_block), {self._shares()}"
        body = [*head, *self.printer.scopes[0].lines]
        given = [b for b in buffers if b not in self.chain.local]
        name = self.chain.name
        return launch(name, self.printer, body, given, sizes, decided, f"({grid})", before)

    def _shares(self) -> str:
        """Programs that share the columns of the last product."""
        last = self.chain.stages[-1]
        if not isinstance(last, Contraction) or "N_STEPS" not in self.decided:
            return "1"
        block = int(self.decided["N_BLOCK"]) * int(self.decided["N_STEPS"])
        return f"-(-({text_of(last.n.size)}) // {block})"

    def enter(self, c: Contraction, columns: Inner | None = None) -> int:
        """Open the scopes of a product, and of its columns where they are known."""
        depth = self.next()
        self.printer.begin(Run("batch", c.batch, self.after))
        self.printer.begin(Run("m_at", (c.m,), self.after), "m_in")
        if columns is not None:
            self.printer.begin(Run(columns.number, (c.n,), self.after), columns.mask)
        return depth

    def next(self) -> int:
        """Give names of its own to what follows; how many scopes are open."""
        self.count += 1
        self.after = f"_{self.count}"
        return len(self.printer.scopes)

    def ended(self, depth: int) -> None:
        """Close scopes, and put their statements into the one around them."""
        lines: list[str] = []
        while len(self.printer.scopes) > depth:
            lines = [*self.printer.close(), *lines]
        self.printer.runs.clear()
        self.printer.masks.clear()
        self.printer.scopes[-1].lines += lines

    def columns(self, name: str, length: Size) -> Inner:
        """The whole of a row as positions."""
        self.printer.line(f"{name}_at = tl.arange(0, {self.block(name.upper(), length)})[None, :]")
        self.printer.line(f"{name}_at = {name}_at.to(INDEX)")
        self.printer.line(f"{name}_in = {name}_at < ({text_of(length)})")
        self.wide.append(name.lower())
        return Inner(f"{name}_at", f"{name}_in")

    def block(self, name: str, length: Size) -> str:
        """The side of a block that holds a whole extent, decided at each launch."""
        self.before.append(f"{name.lower()} = whole_({text_of(length)})")
        self.decided[name] = name.lower()
        return name

    def results(self, c: Contraction, last: bool, acc: str = "", *, rounded: bool = True) -> None:
        """What a product stores, as blocks and, where others need it, in memory.

        Blocks are `rounded` as memory is, unless no product takes them as they are.
        """
        self.printer.bind("acc", acc or f"acc{self.after}", False, "f32")
        number = self.printer.runs[-1].name
        for store in c.stores:
            masks = ("m_in", self.printer.masks.get(c.n.name, ""))
            self.result(store, ("m_at", number), masks, last, rounded)

    def result(
        self,
        store: Store,
        blocks: Sequence[str],
        masks: Sequence[str],
        last: bool,
        rounded: bool = True,
    ) -> None:
        """What a stage stores, likewise."""
        printer = self.printer
        if last or store.buffer not in self.chain.local:
            printer.write(store, blocks, [m for m in masks if m])
        if not last:
            value = printer.convert(printer.value(store.value), ARITHMETIC[store.dtype])
            kind = KIND[store.dtype if rounded else ARITHMETIC[store.dtype]]
            printer.line(f"{store.buffer}_own = tl.cast({value.text}, {kind})")
            printer.held[store.buffer] = f"{store.buffer}_own"

    def left(self, c: Contraction) -> str:
        """A block of the left operand of the product whose terms are numbered now."""
        number, mask = f"k_own{self.after}[None, :]", f"k_in_a{self.after}"
        return operand_block(self.printer, c.a, (c.k,), number, mask, operand_of(c))

    def right(self, c: Contraction, whole: bool = False) -> str:
        """A block of the right one; `whole` where all of its terms are there."""
        number, mask = f"k_own{self.after}[:, None]", "" if whole else f"k_in_b{self.after}"
        return operand_block(self.printer, c.b, (c.k,), number, mask, operand_of(c))

    def multiplied(self, left: str, right: str, more: bool = False) -> str:
        """A statement with their product, added to what is there where there is `more`."""
        acc = f"acc{self.after}"
        given = f"{left}, {right}, {acc}" if more else f"{left}, {right}"
        return f'{acc} = tl.dot({given}, input_precision="ieee")'

    def terms(self, number: str, extent: Size) -> list[str]:
        """Statements that number the terms of the product that was entered last."""
        own, long = f"k_own{self.after}", text_of(extent)
        return [
            f"{own} = ({number}).to(INDEX)",
            f"k_in_a{self.after} = ({own} < ({long}))[None, :]",
            f"k_in_b{self.after} = ({own} < ({long}))[:, None]",
        ]


def longest(size: Size) -> int:
    """The largest captured value."""
    return max(size.values)
