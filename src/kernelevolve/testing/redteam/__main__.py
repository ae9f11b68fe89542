"""`python -m kernelevolve.testing.redteam [FILE]`: the suite as a table, or written into a file.

In a file, the table stands between the two marks `<!-- redteam -->` and `<!-- /redteam -->`.
"""

import re
import sys
from pathlib import Path

from kernelevolve.testing.redteam import suite

MARKED = re.compile(r"(<!-- redteam -->\n).*?(<!-- /redteam -->)", re.DOTALL)


def table() -> str:
    """One row per exploit: what it does, and what catches it."""
    lines = ["| row | exploit | what it does | caught by |", "|---|---|---|---|"]
    for exploit in sorted(suite.exploits(), key=lambda e: (e.letter, int(e.row[1:]))):
        named = ", ".join(f"`{d}`" for d in exploit.caught_by[:2])
        named += ", …" if len(exploit.caught_by) > 2 else ""
        lines.append(f"| {exploit.row} | `{exploit.name}` | {exploit.does} | {named} |")
    return "\n".join(lines) + "\n"


def rendered(text: str) -> str:
    """A document with its table made anew."""
    return MARKED.sub(lambda found: found[1] + table() + found[2], text)


def main() -> None:
    """Print, or rewrite the file that is named."""
    if len(sys.argv) < 2:
        sys.stdout.write(table())
        return
    path = Path(sys.argv[1])
    path.write_text(rendered(path.read_text()))


if __name__ == "__main__":
    main()
