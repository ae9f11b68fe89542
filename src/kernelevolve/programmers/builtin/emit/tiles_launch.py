"""One `@triton.jit` function: its parameters, what is compiled into it, and its launch."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files

from kernelevolve.programmers.builtin.emit.tiles import TilePrinter, text_of
from kernelevolve.programmers.builtin.ir import Index, Size
from kernelevolve.programmers.builtin.schedule import Tiles

OPTIONS = ("num_warps", "num_stages", "maxnreg")
"""What is decided for the compiler, and not in the kernel's text."""


@dataclass(frozen=True)
class Launch:
    """One `@triton.jit` function and how `forward` launches it."""

    name: str
    text: str
    before: tuple[str, ...]
    """Statements of `forward` that decide the block and make room."""
    grid: str
    given: tuple[str, ...]
    """Arguments, in order."""


def launch(
    name: str,
    printer: TilePrinter,
    body: Sequence[str],
    buffers: Sequence[str],
    sizes: Mapping[str, bool],
    decided: Mapping[str, str],
    grid: str,
    before: Sequence[str] = (),
) -> Launch:
    """A kernel of these statements.

    `sizes` are the symbols, and whether their values are part of the compiled code; `decided` are
    further parts of it and their text in `forward`, the compiler's options included.
    """
    inside = "\n".join(body)
    used = [s for s in sizes if re.search(rf"\b{s}\b", inside)]
    numbers = {n: value for (value, _), n in printer.numbers_given.items()}
    wide = {n for (_, dtype), n in printer.numbers_given.items() if dtype == "f64"}
    fixed = [s for s in used if sizes[s]]
    free = [s for s in used if not sizes[s]]
    own = [d for d in decided if d not in OPTIONS]
    constants = [*(n for n in numbers if n in wide), *fixed, *own]
    parameters = [*buffers, *free, *(n for n in numbers if n not in wide)]
    parameters += [f"{c}: tl.constexpr" for c in constants]
    lines = [f"{s} = tl.cast({s}, INDEX)" for s in free] + list(body)
    text = f"@triton.jit\ndef {name}({', '.join(parameters)}):\n" + "\n".join(indented(lines))
    given = [*buffers, *free, *(host_number(v) for n, v in numbers.items() if n not in wide)]
    given += [f"{n}={host_number(numbers[n])}" for n in numbers if n in wide]
    given += [*(f"{s}={s}" for s in fixed), *(f"{k}={v}" for k, v in decided.items())]
    return Launch(name, text + "\n", tuple(before), grid, tuple(given))


def host_number(text: str) -> str:
    """A number that sizes decide, written in C++, as Python."""
    parts = text.replace("__builtin_sqrt", "math.sqrt").split("(double)")
    if len(parts) == 1:
        return text.replace("/", "//")
    return parts[0] + "".join(_of_sizes(p) for p in parts[1:])


def _of_sizes(text: str) -> str:
    """Text that begins with an integer in parentheses, whose divisions are integers'."""
    depth = 0
    for at, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if depth == 0:
            return text[: at + 1].replace("/", "//") + text[at + 1 :]
    return text


def indented(lines: Sequence[str]) -> list[str]:
    """Lines of a block inside another one."""
    return [f"    {line}" for line in lines]


def compiled_in(
    symbols: Sequence[str], indices: Sequence[Index], extents: Sequence[Size]
) -> dict[str, bool]:
    """Each symbol, and whether it decides how a block lies in memory or divides an index."""
    sizes = [t.stride for i in indices for t in i.terms] + [
        j.stride for i in indices for j in i.jumps
    ]
    text = " ".join(s.expr for s in (*sizes, *extents))
    return {s: re.search(rf"\b{s}\b", text) is not None for s in symbols}


def prelude(text: str) -> str:
    """What `model.py` holds once before kernels and launches of this text: what they use."""
    source = files("kernelevolve.programmers.builtin.emit").joinpath("tiles.txt").read_text()
    pieces = source.split("\n\n")
    wanted: list[str] = []
    for piece in reversed(pieces):
        name = piece.split("def ")[1].split("(")[0]
        if re.search(rf"\b{name}\b", "\n".join([*wanted, text])):
            wanted.insert(0, piece)
    modules = [m for m in ("math",) if f"{m}." in "\n".join([*wanted, text])]
    lines = [*(f"import {m}" for m in modules), "import triton", "import triton.language as tl"]
    return "\n".join([*lines, *wanted])


def pipelined(stages: int, tiles: Tiles) -> dict[str, str]:
    """The compiler's options for products."""
    most = {"maxnreg": str(tiles.registers)} if tiles.registers else {}
    return {"num_stages": str(stages), **most}


def row_block(rows: Size, length: Size, tiles: Tiles) -> tuple[dict[str, str], str, list[str]]:
    """What is decided, the grid, and the statements that do it."""
    given = f"{text_of(rows)}, {text_of(length)}, {tiles.row_points}, {tiles.row_most}"
    before = [f"rows, block, warps = row_block_({given}, {tiles.warps})"]
    decided = {"INDEX": "index", "ROWS": "rows", "BLOCK": "block", "num_warps": "warps"}
    return decided, f"(-(-({text_of(rows)}) // rows),)", before
