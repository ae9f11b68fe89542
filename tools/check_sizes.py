"""Keeps files small: sources at most 400 lines, tests 600. Prints the median of the sources."""

import sys
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parent.parent
BUDGETS = {"src": 400, "tools": 400, "benchmarks": 400, "tests": 600}
MEDIAN = 120


def main() -> int:
    """Exit code 1 when a file is over its budget."""
    too_long = 0
    for folder, budget in BUDGETS.items():
        sizes = {path: lines(path) for path in sorted((ROOT / folder).rglob("*.py"))}
        sizes = {path: size for path, size in sizes.items() if size}
        for path, size in sizes.items():
            if size > budget:
                too_long += 1
                print(f"{path.relative_to(ROOT)}: {size} lines, at most {budget}")
        if folder == "src":
            print(f"src: {len(sizes)} files, median {median(sizes.values()):.0f} (aim: {MEDIAN})")
    return 1 if too_long else 0


def lines(path: Path) -> int:
    """Lines of a file."""
    return len(path.read_text(encoding="utf-8").splitlines())


if __name__ == "__main__":
    sys.exit(main())
