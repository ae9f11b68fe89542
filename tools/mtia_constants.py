"""Writes the simulator's constants into docs/mtia.md, between its two marks."""

import sys
from pathlib import Path

from kernelevolve.runtime.mtia.machine import Constant, machines

BEGIN, END = "<!-- constants -->\n", "<!-- end of constants -->\n"
PAGE = Path(__file__).resolve().parent.parent / "docs" / "mtia.md"


def tables() -> str:
    """What all chips share, then one table for each."""
    chips = machines().values()
    common = {
        name: constant
        for name, constant in next(iter(chips)).constants.items()
        if all(chip.constants[name] is constant for chip in chips)
    }
    parts = [_table("Every chip", common)]
    for chip in chips:
        own = {name: c for name, c in chip.constants.items() if name not in common}
        parts.append(_table(f"`mtia:{chip.arch}`, {chip.name}", own))
    return "\n".join(parts)


def _table(title: str, rows: dict[str, Constant]) -> str:
    lines = [f"### {title}", "", "| constant | value | kind | source |", "|---|---|---|---|"]
    lines += [f"| `{name}` | {c.value:g} | {c.kind} | {c.source} |" for name, c in rows.items()]
    return "\n".join(lines) + "\n"


def replaced(text: str) -> str:
    """The page with its tables made anew."""
    head, rest = text.split(BEGIN)
    return f"{head}{BEGIN}\n{tables()}\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    PAGE.write_text(replaced(PAGE.read_text()))
    sys.exit(0)
