"""A small shelf of notes that tests fill."""

from collections.abc import Callable
from pathlib import Path

import pytest

NOTE = {
    "title": '"Bank conflicts"',
    "kind": '"guidance"',
    "symptoms": '["shared memory bank conflicts"]',
    "source": '["Guide <https://example.org/guide>"]',
}
Shelf = Callable[..., Path]


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    """Writes a note into a folder, with fields as TOML; returns the file."""

    def write(ref: str, text: str = "Pad each row.", folder: str = "notes", **fields: str) -> Path:
        path = tmp_path / folder / f"{ref}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        given = {**NOTE, **fields}
        matter = "\n".join(f"{name} = {value}" for name, value in given.items() if value)
        path.write_text(f"+++\n{matter}\n+++\n\n{text}\n")
        return path

    return write
