"""`python -m kernelevolve.testing.redteam [FILE]`: the suite as tables, or written into a file.

In a file, exploits stand between the two marks `<!-- redteam -->` and `<!-- /redteam -->`, and
what is known to get past between two of `limits`.
"""

import re
import sys
from pathlib import Path

from kernelevolve.testing.redteam import suite

MARKED = re.compile(r"(<!-- (redteam|limits) -->\n).*?(<!-- /\2 -->)", re.DOTALL)


def table() -> str:
    """One row per exploit: what it does, and what catches it."""
    lines = ["| row | exploit | on | what it does | caught by |", "|---|---|---|---|---|"]
    for exploit in sorted(suite.exploits(), key=lambda e: (e.letter, int(e.row[1:]))):
        named = ", ".join(f"`{d}`" for d in exploit.caught_by[:2])
        named += ", …" if len(exploit.caught_by) > 2 else ""
        places = ", ".join(exploit.places) or "all"
        lines.append(f"| {exploit.row} | `{exploit.name}` | {places} | {exploit.does} | {named} |")
    return "\n".join(lines) + "\n"


def known() -> str:
    """One row per kernel that is known to get past, and why it does."""
    lines = ["| row | kernel | on | what it does | why it is not caught |", "|---|---|---|---|---|"]
    for limit in sorted(suite.limits(), key=lambda e: (e.row[0], int(e.row[1:]))):
        places = ", ".join(limit.places) or "all"
        lines.append(f"| {limit.row} | `{limit.name}` | {places} | {limit.does} | {limit.risk} |")
    return "\n".join(lines) + "\n"


def rendered(text: str) -> str:
    """A document with its tables made anew."""
    made = {"redteam": table, "limits": known}
    return MARKED.sub(lambda found: found[1] + made[found[2]]() + found[3], text)


def main() -> None:
    """Print, or rewrite the file that is named."""
    if len(sys.argv) < 2:
        sys.stdout.write(table() + "\n" + known())
        return
    path = Path(sys.argv[1])
    path.write_text(rendered(path.read_text()))


if __name__ == "__main__":
    main()
