"""Searches of one table by all threads of a block: its first levels in shared memory.

Every probe of a search halves what is left, so the elements that the first probes may meet form a
tree. A block copies that tree level by level; a search goes down there and ends in the table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kernelevolve.programmers.builtin.emit.expr import (
    ARITHMETIC,
    BYTES,
    STORAGE,
    Printer,
    literal,
)
from kernelevolve.programmers.builtin.ir import (
    FIND,
    Call,
    Const,
    Load,
    MapReduce,
    axes_of,
    table_of,
    walk,
)

THREADS = 1024
"""Of a block that holds trees."""
MULTIPROCESSORS = 132
SHARED, RESERVED = 228 << 10, 1 << 10
"""Bytes of shared memory of a multiprocessor, and what each block costs beside its own."""


@dataclass(frozen=True)
class Tree:
    """The copy of a table's first levels."""

    name: str
    table: Load
    stride: str
    length: str
    levels: int
    at: int
    """Byte in the block's shared memory."""

    @property
    def bytes(self) -> int:
        """Of shared memory."""
        return BYTES[ARITHMETIC[self.table.dtype]] << self.levels


class Trees(Printer):
    """Prints expressions whose searches begin in shared memory where their tables allow it."""

    def __init__(self, region: MapReduce, kibibytes: int) -> None:
        super().__init__(None)
        self.trees: dict[Any, Tree] = {}
        """By where the table lies."""
        searches = _searches(region) if kibibytes else {}
        room = (kibibytes << 10) // max(1, len(searches))
        for key, call in searches.items():
            self.trees[key] = _tree(call, len(self.trees), room, self.shared)

    @property
    def shared(self) -> int:
        """Bytes of shared memory that a block asks for."""
        return sum(t.bytes for t in self.trees.values())

    @property
    def most_blocks(self) -> int:
        """How many blocks a device has at once; more would copy trees in vain."""
        together = min(2048 // THREADS, SHARED // (self.shared + RESERVED))
        return MULTIPROCESSORS * max(1, together)

    def planted(self) -> list[str]:
        """Statements that copy all trees."""
        if not self.trees:
            return []
        lines = ["extern __shared__ __align__(16) char trees[];"]
        for t in self.trees.values():
            kind = STORAGE[ARITHMETIC[t.table.dtype]]
            lines.append(f"{kind} *{t.name} = ({kind} *)(trees + {t.at});")
            lines.append(f"plant<{t.levels}>({t.name}, {self._lies(t)});")
        return [*lines, "__syncthreads();"]

    def _lies(self, t: Tree) -> str:
        return f"{t.table.buffer} + {self.offset(t.table.index)}, {t.stride}, {t.length}"

    def _found(self, call: Call, table: Load) -> tuple[str, bool]:
        tree = self.trees.get(_key(call, table))
        if tree is None:
            return super()._found(call, table)
        value = self.value(call.args[0]).text
        name = f"find_planted<{str(FIND[call.fn]).lower()}, {tree.levels}>"
        return f"{name}({tree.name}, {self._lies(tree)}, {value})", False


def _searches(region: MapReduce) -> dict[Any, Call]:
    """A search of each table that is the same for all points."""
    values = [s.value for p in region.passes for s in p.stores]
    found: dict[Any, Call] = {}
    for expr in (e for v in values for e in walk(v)):
        table = table_of(expr)
        if isinstance(expr, Call) and table is not None and not _varies(table):
            found.setdefault(_key(expr, table), expr)
    return found


def _varies(table: Load) -> bool:
    return bool(axes_of(table) or table.index.jumps)


def _key(call: Call, table: Load) -> Any:
    return None if _varies(table) else (table.buffer, table.index.offset, *_lengths(call))


def _lengths(call: Call) -> list[str]:
    return [literal(a.value, "i64") for a in call.args[2:] if isinstance(a, Const)]


def _tree(call: Call, number: int, room: int, at: int) -> Tree:
    table = table_of(call)
    assert table is not None
    stride, length = _lengths(call)
    levels = (room // BYTES[ARITHMETIC[table.dtype]]).bit_length() - 1
    return Tree(f"tree{number}", table, stride, length, levels, at)
