"""Map/reduce regions for MTIA: one core reads tiles ahead for the other, or each has its own.

What a command computes lies in a register: a block that later values use again when the last user
of the first was issued.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from kernelevolve.programmers.builtin.emit.engine_text import (
    buffer_line,
    decoded,
    factor,
    for_each_core,
    within,
)
from kernelevolve.programmers.builtin.emit.engine_values import (
    Form,
    Matrix,
    Unwritten,
    Value,
    Values,
    matrix_of,
)
from kernelevolve.programmers.builtin.emit.expr import BYTES
from kernelevolve.programmers.builtin.ir import Index, MapReduce, Size, Store
from kernelevolve.programmers.builtin.prims import numel
from kernelevolve.programmers.builtin.schedule import Engines

ELEMENTS: dict[Form, str] = {"tile": "rows * width", "row": "rows", "column": "width"}
COUNT: dict[Form, str] = {"tile": "here * wide", "row": "here", "column": "wide"}
WHOLE = "const int64_t wide = length, at_row = 0, at_column = 0;"
ROOM = 508 << 10
"""Bytes of local memory of the largest of these chips that tiles may take."""


@dataclass(frozen=True)
class EngineKernel:
    """A kernel as text, and what decides its tiles."""

    name: str
    text: str
    extents: tuple[Size, Size]
    """Rows and columns."""
    cores: int
    """Of a processing element that have tiles of their own."""
    whole: bool
    """Tiles have whole rows."""
    smallest: tuple[int, int]
    """Bytes of the smallest element that is read, and that is written."""
    by_rows: tuple[bool, bool]
    """Whether numbers of rows are read, and written: then rows that begin a tile are as well."""
    each: tuple[int, int]
    """Bytes of local memory for an element of a tile, and for each further tile under way."""
    aside: tuple[int, int]
    """The same for a row or a column."""


@dataclass
class Registers:
    """Blocks for values, by form."""

    counts: dict[Form, int] = field(default_factory=dict)
    free: dict[Form, list[int]] = field(default_factory=dict)

    def take(self, form: Form) -> str:
        """The name of one that is free."""
        free = self.free.setdefault(form, [])
        if free:
            return f"{form}{free.pop()}"
        number = self.counts.get(form, 0)
        self.counts[form] = number + 1
        return f"{form}{number}"

    def leave(self, form: Form, name: str) -> None:
        """Nobody needs it from here on."""
        if name.startswith(form):
            self.free[form].append(int(name.removeprefix(form)))


def emit_rows(
    region: MapReduce, parameters: Sequence[str], engines: Engines, short: bool, workloads: int
) -> EngineKernel:
    """The kernel of a region, whose sizes begin with those of the workloads.

    Raises:
        Unwritten: the engines have no commands for it.
    """
    matrix = matrix_of(region)
    kernel = Rows(region, matrix, engines, short)
    return kernel.emitted(parameters, workloads)


class Rows:
    """One kernel as it is written."""

    def __init__(
        self,
        region: MapReduce,
        matrix: Matrix,
        engines: Engines,
        short: bool,
        sums: Value | None = None,
    ) -> None:
        self.region, self.matrix, self.engines = region, matrix, engines
        stores = [s for p in region.passes for s in p.stores]
        narrow = all(s.dtype in ("f16", "bf16") for s in stores)
        functions = "tables" if narrow else "series"
        if engines.functions == "vector":
            functions = "vector"
        self.values = Values(matrix, functions, short)
        if sums is not None:
            self.values.reduced["acc"] = sums
        self.values.take(region.passes)
        self.both = engines.both and all(v.unit == "se" for v in self.values.order)
        """Both cores have tiles of their own; only core 1 has a vector core."""
        self.loads = [v for v in self.values.order if v.load is not None]
        self.registers = Registers()
        self.places = {} if sums is None else {sums: "sums.front()"}
        self.last = self._last()
        self.ready: dict[Value, str] = {}
        for number, (store, value) in enumerate(self.values.stores):
            if value.op not in ("load", "sums") and not self._later(value, store):
                self.ready.setdefault(value, f"result{number}.back()")

    def emitted(self, parameters: Sequence[str], workloads: int) -> EngineKernel:
        """Its text, and its tiles."""
        commands = self._commands()
        stores = [s for s, _ in self.values.stores]
        each, aside = self._room(stores)
        sizes = [BYTES[v.load.dtype] for v in self.loads if v.load is not None]
        smallest = min(sizes, default=4), min(BYTES[s.dtype] for s in stores)
        row = Size.of(1) if self.matrix.row is None else self.matrix.row.size
        reads = any(v.form == "row" for v in self.loads)
        if self.matrix.whole and max(self.matrix.extent.values[:workloads]) * sum(each) > ROOM:
            raise Unwritten("rows are too long for the local memory of a processing element")
        return EngineKernel(
            self.region.name,
            self._text(parameters, commands),
            (row, self.matrix.extent),
            1 + self.both,
            self.matrix.whole,
            smallest,
            (reads, any(self.matrix.form(s.index) == "row" for s in stores)),
            each,
            aside,
        )

    def _last(self) -> dict[Value, int]:
        """The number of the last command that uses each value."""
        order = self.values.order
        found = {a: i for i, v in enumerate(order) for a in v.args}
        for _, value in self.values.stores:
            found[value] = len(order)
        return found

    def _later(self, value: Value, store: Store) -> bool:
        """Whether more than this store needs the value, which it rounds."""
        return store.dtype != "f32" and any(value in v.args for v in self.values.order)

    def _room(self, stores: Sequence[Store]) -> tuple[tuple[int, int], tuple[int, int]]:
        """Bytes for each element, and for each row or column: of registers, and under way."""
        moved = [
            *((v.form, v.load.dtype) for v in self.loads if v.load is not None),
            *((self.matrix.form(s.index), s.dtype) for s in stores),
        ]
        tiles = sum(BYTES[d] for form, d in moved if form == "tile")
        others = sum(BYTES[d] for form, d in moved if form != "tile")
        counts = self.registers.counts
        aside = 4 * sum(counts.get(f, 0) for f in ("row", "column"))
        return (4 * counts.get("tile", 0), tiles), (aside, others)

    # ---- core 1

    def _commands(self) -> list[str]:
        """What core 1 issues for one tile."""
        lines: list[str] = []
        for number, value in enumerate(self.values.order):
            if value.load is not None:
                self.places[value] = f"{self._name(value)}.front()"
                lines += [] if value in self.last else self._popped(value)
                continue
            sources = [self.places[a] for a in value.args if a.form != "number"]
            done = [a for a in dict.fromkeys(value.args) if self.last.get(a) == number]
            for a in done:
                self._leave(a)
            self.places[value] = self.ready.get(value) or self._register(value)
            lines += self._command(value, sources)
            for a in done:
                lines += self._popped(a)
        return [*lines, *self._stored()]

    def _register(self, value: Value) -> str:
        return f"{self.registers.take(value.form)}.back()"

    def _leave(self, value: Value) -> None:
        place = self.places.get(value, "")
        if value.op not in ("load", "sums", "") and value not in self.ready:
            self.registers.leave(value.form, place.removesuffix(".back()"))

    def _popped(self, value: Value) -> list[str]:
        if value.load is None or self._once(value):
            return []
        return [f"{self._name(value)}.pop();"]

    def _command(self, value: Value, sources: Sequence[str]) -> list[str]:
        to, unit = self.places[value], f"core.{value.unit}"
        waits = []
        if value.unit == "vector":
            waits = [f"core.wait({p});" for p in dict.fromkeys([*sources, to])]
        first = sources[0]
        if value.op.startswith("fold "):
            op = value.op.removeprefix("fold ")
            return [f"core.se.fold(Op::{op}, {to}, {first}, here, wide);"]
        count = COUNT[value.form]
        if value.op == "select":
            return [f"{unit}.select({to}, {', '.join(sources)}, {count});"]
        head = f"Op::{value.op}, {to}, {first}"
        if len(value.args) == 1:
            return [*waits, f"{unit}.map({head}, {count});"]
        other = value.args[1]
        if other.form == "number":
            return [f"{unit}.map({head}, {other.text}, {count});"]
        if other.form == value.form:
            return [f"{unit}.map({head}, {sources[1]}, {count});"]
        spread = "rows" if other.form == "row" else "columns"
        return [f"{unit}.{spread}({head}, {sources[1]}, here, wide);"]

    def _stored(self) -> list[str]:
        lines = []
        for number, (store, value) in enumerate(self.values.stores):
            name, form = f"result{number}", self.matrix.form(store.index)
            if self.places[value] != f"{name}.back()":
                copied = f"{name}.back(), {self.places[value]}, {COUNT[form]}"
                lines.append(f"core.se.map(Op::copy, {copied});")
        for value in dict.fromkeys(v for _, v in self.values.stores):
            lines += self._popped(value)
        for number, (store, _) in enumerate(self.values.stores):
            name = f"result{number}"
            lines += [f"{name}.push();", f"core.fi.write({self._moved(store, name)});"]
            lines.append(f"{name}.pop();")
        return lines

    def _moved(self, store: Store, name: str) -> str:
        """Where a result goes; whole tiles in one piece where memory has them so."""
        to, block = f"{store.buffer} + {self._at(store.index)}", f"{name}.front()"
        if self.matrix.form(store.index) == "row":
            return f"{to}, {block}, here"
        down, _ = self.matrix.stride(store.index)
        if self.matrix.row is None:
            return f"{to}, {block}, wide"
        if down == self.matrix.extent:
            one = f"wide == {down.expr}"
            flat = f"{one} ? 1 : here, {one} ? here * wide : wide"
            return f"{to}, {block}, {flat}, {down.expr}, {one} ? here * wide : wide"
        return f"{to}, {block}, here, wide, {down.expr}, wide"

    # ---- core 0

    def _name(self, value: Value) -> str:
        return f"in{self.loads.index(value)}"

    def _once(self, value: Value) -> bool:
        """Whether all tiles need the same block of it."""
        load = value.load
        return (
            load is not None
            and value.form == "column"
            and self.matrix.whole
            and not any(t.axis in {p.name for p in self.matrix.points} for t in load.index.terms)
        )

    def _read(self, value: Value) -> list[str]:
        load = value.load
        assert load is not None
        name, at = self._name(value), f"{load.buffer} + {self._at(load.index)}"
        down, _ = self.matrix.stride(load.index)
        if value.form == "row":
            what = "here" if down.constant == 1 else f"here, 1, {down.expr}, 1"
        elif value.form == "column":
            what = "wide"
        else:
            what = f"here, wide, {down.expr}, wide"
        group = ", Group::row" if self._once(value) and self.engines.share and not self.both else ""
        return [f"core.fi.read({name}.back(), {at}, {what}{group});", f"{name}.push();"]

    def _at(self, index: Index) -> str:
        """The first element of a tile."""
        down, along = self.matrix.stride(index)
        parts = [index.offset.expr, f"at_row * {factor(down)}", f"at_column * {factor(along)}"]
        for axis in self.matrix.points:
            parts.append(f"{axis.name} * {factor(index.stride(axis.name))}")
        kept = [p for p in parts if p != "0" and not p.endswith("* 0")]
        return f"({' + '.join(kept) or '0'})"

    # ---- both

    def _text(self, parameters: Sequence[str], commands: Sequence[str]) -> str:
        once = [v for v in self.loads if self._once(v)]
        ahead = [x for v in self.loads if v not in once for x in self._read(v)]
        row = "1" if self.matrix.row is None else self.matrix.row.size.expr
        points = numel(tuple(a.size for a in self.matrix.points)).expr
        first = [x for v in once for x in self._read(v)]
        place = [
            "const int64_t at_column = tile % across * width;",
            "const int64_t at_row = tile / across % down * rows;",
            *decoded("(tile / across / down)", self.matrix.points),
            "const int64_t here = std::min(rows, extent - at_row);",
            "const int64_t wide = std::min(width, length - at_column);",
        ]
        body = [
            f"const int64_t extent = {row}, length = {self.matrix.extent.expr};",
            "const int64_t down = (extent + rows - 1) / rows;",
            "const int64_t across = (length + width - 1) / width;",
            f"const int64_t tiles = ({points}) * down * across;",
            *self._buffers(),
            *(self._each_core if self.both else self._in_turn)(first, place, ahead, commands),
        ]
        given = ", ".join(
            [
                "Core& core",
                *parameters,
                *(f"int64_t {n}" for n in ("rows", "width", "depth", "cores")),
            ]
        )
        lines = within(f"void {self.region.name}({given}) {{", body)
        return "\n".join([*lines, f"MTIA_KERNEL({self.region.name})", ""])

    def _in_turn(
        self, first: list[str], place: list[str], ahead: list[str], commands: Sequence[str]
    ) -> list[str]:
        """Core 0 reads, core 1 has all else done."""
        tile = [*place, *within("if (core.number == 0) {", [*ahead, "continue;"]), *commands]
        return [
            *(within("if (core.number == 0) {", [WHOLE, *first]) if first else []),
            *within("for (int64_t tile = core.pe; tile < tiles; tile += core.pes) {", tile),
        ]

    def _each_core(
        self, first: list[str], place: list[str], ahead: list[str], commands: Sequence[str]
    ) -> list[str]:
        """`cores` of them have tiles of their own, and read one ahead where there is room.

        Without room a core must not read ahead: engines take commands in their order, so the read
        would keep those of the other core from starting that it waits for itself.
        """
        tile = [
            "if (tile == begin || depth == 1) read(tile);",
            "if (depth > 1 && tile + step < tiles) read(tile + step);",
            *place,
            *commands,
        ]
        return [
            "if (core.number < 2 - cores) return;",
            *(within("{", [WHOLE, *first]) if first else []),
            *within("auto read = [&](int64_t tile) {", [*place, *ahead])[:-1],
            "};",
            "const int64_t begin = core.pe + core.pes * (1 - core.number);",
            "const int64_t step = cores * core.pes;",
            *within("for (int64_t tile = begin; tile < tiles; tile += step) {", tile),
        ]

    def _buffers(self) -> list[str]:
        lines = []
        for value in self.loads:
            assert value.load is not None
            depth = "1" if self._once(value) else "depth"
            lines.append(
                buffer_line(self._name(value), value.load.dtype, ELEMENTS[value.form], depth)
            )
        for number, (store, _) in enumerate(self.values.stores):
            form = self.matrix.form(store.index)
            lines.append(buffer_line(f"result{number}", store.dtype, ELEMENTS[form], "depth"))
        for form, count in self.registers.counts.items():
            lines += [buffer_line(f"{form}{i}", "f32", ELEMENTS[form], "1") for i in range(count)]
        return [x for line in lines for x in for_each_core(line)] if self.both else lines
