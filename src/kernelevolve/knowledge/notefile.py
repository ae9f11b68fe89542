"""Notes as Markdown files with TOML front matter between two lines of `+++`."""

import json
import tomllib
from pathlib import Path

from pydantic import ValidationError

from kernelevolve.core.errors import UsageError
from kernelevolve.core.note import Note

FENCE = "+++"
FIELDS = ("title", "kind", "targets", "languages", "symptoms", "source", "test")


class NoteError(UsageError):
    """A file that is no note; the message says what to change, `line` where."""

    def __init__(self, message: str, line: int = 1) -> None:
        super().__init__(message)
        self.line = line


def files(folder: Path) -> dict[str, Path]:
    """Files of a folder that hold notes, by the refs that their places give them."""
    found = sorted(folder.rglob("*.md"))
    kept = [p for p in found if not any(part[0] in "._" for part in p.relative_to(folder).parts)]
    return {p.relative_to(folder).with_suffix("").as_posix(): p for p in kept}


def read(path: Path, ref: str) -> Note:
    """The note in a file.

    Raises:
        NoteError: it holds none.
    """
    try:
        return parse(path.read_bytes().decode(), ref)
    except UnicodeDecodeError as error:
        raise NoteError(f"not UTF-8 at byte {error.start}; save it as UTF-8") from error


def parse(text: str, ref: str) -> Note:
    """The note that a file's text holds.

    Raises:
        NoteError: it holds none.
    """
    lines = text.replace("\r\n", "\n").split("\n")
    if lines[0].strip() != FENCE or FENCE not in lines[1:]:
        raise NoteError("a note begins with TOML between two lines of +++; put it there")
    end = lines.index(FENCE, 1)
    try:
        matter = tomllib.loads("\n".join(lines[1:end]))
    except tomllib.TOMLDecodeError as error:
        raise NoteError(f"front matter is no TOML: {error} of it", 2) from error
    unknown = [name for name in matter if name not in FIELDS]
    if unknown:
        message = f"unknown field {unknown[0]!r}; known: {', '.join(FIELDS)}"
        raise NoteError(message, line_of(text, unknown[0]))
    try:
        return Note.model_validate({**matter, "ref": ref, "text": "\n".join(lines[end + 1 :])})
    except ValidationError as error:
        first = error.errors()[0]
        field = str(first["loc"][0])
        raise NoteError(f"{field}: {first['msg'].lower()}", line_of(text, field)) from error


def line_of(text: str, field: str) -> int:
    """Number of the line that sets a field, or of the first one."""
    lines = enumerate(text.splitlines(), start=1)
    return next((n for n, line in lines if line.partition("=")[0].strip() == field), 1)


def render(note: Note) -> str:
    """A note as the text of its file."""
    given = note.model_dump(mode="json", exclude={"ref", "text"}, exclude_defaults=True)
    matter = [f"{name} = {_toml(given[name])}" for name in FIELDS if name in given]
    return "\n".join([FENCE, *matter, FENCE, "", note.text, ""])


def _toml(value: object) -> str:
    """A string or a list of them; what JSON leaves as it is and TOML does not, is escaped."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
