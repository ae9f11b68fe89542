"""Says what is wrong with notes: form, sources, tests, links, length, and who repeats whom."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path

from kernelevolve.core.errors import UsageError
from kernelevolve.core.note import REF, Note
from kernelevolve.core.record import Record
from kernelevolve.knowledge import notefile
from kernelevolve.knowledge.checks import Around, faults
from kernelevolve.knowledge.library import PACKAGED
from kernelevolve.knowledge.search import WORD

SHINGLE = 3
"""Words of a sequence by which two notes are compared."""
ALIKE = 0.6
"""Share of common sequences beyond which they say the same."""


class Finding(Record):
    """One thing that is wrong with a note."""

    file: str
    """Path of the note's file."""
    line: int
    """Where in it."""
    message: str
    """What is wrong."""
    fix: str
    """What to do."""
    minor: bool = False
    """Length, likeness and the like; told by `--strict` only."""


class Linted(Record):
    """What was looked at, and what was found."""

    notes: int
    """Files that were looked at."""
    findings: tuple[Finding, ...]
    """What is wrong, file by file."""
    unchecked: tuple[str, ...] = ()
    """What could not be looked at here, and why."""


def lint(folders: Sequence[Path] = (), strict: bool = False) -> Linted:
    """Look at every note of these folders, or at the packaged ones.

    Args:
        folders: of notes.
        strict: also tell what is minor.

    Raises:
        UsageError: there is no such folder.
    """
    shelves = [_Shelf(folder) for folder in folders or (PACKAGED,)]
    refs = {*notefile.files(PACKAGED), *(ref for shelf in shelves for ref in shelf.files)}
    found = [finding for shelf in shelves for finding in shelf.findings(refs)]
    found += repeated({path: note for shelf in shelves for path, note in shelf.notes.items()})
    return Linted(
        notes=sum(len(shelf.files) for shelf in shelves),
        findings=tuple(
            sorted((f for f in found if strict or not f.minor), key=lambda f: (f.file, f.line))
        ),
        unchecked=tuple(
            f"{shelf.folder} is in no checkout: whether the tests and documents that its notes "
            "name are there was not checked"
            for shelf in shelves
            if shelf.checkout is None
        ),
    )


def repeated(notes: Mapping[Path, Note]) -> Iterator[Finding]:
    """Notes that say the same in nearly the same words."""
    shingles = {path: _shingles(note.text) for path, note in notes.items()}
    for (one, first), (other, second) in combinations(shingles.items(), 2):
        alike = len(first & second) / len(first | second)
        if alike > ALIKE:
            yield Finding(
                file=str(other),
                line=1,
                message=f"{alike:.0%} of its sequences of words are those of {one}",
                fix="keep one, or say in each what the other does not",
                minor=True,
            )


class _Shelf:
    """The notes of one folder, as far as they can be read."""

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise UsageError(f"knowledge folder {folder}: no such folder")
        self.folder = folder
        self.files = notefile.files(folder)
        self.notes: dict[Path, Note] = {}
        self._broken: list[Finding] = []
        for ref, path in self.files.items():
            try:
                self.notes[path] = notefile.read(path, ref)
            except notefile.NoteError as error:
                fix = f"see docs/knowledge.md; a path without .md must match {REF}"
                at = {"file": str(path), "line": error.line}
                self._broken.append(Finding(**at, message=str(error), fix=fix))

    @property
    def checkout(self) -> Path | None:
        """The nearest folder above that holds `tests`."""
        above = (self.folder.resolve(), *self.folder.resolve().parents)
        return next((place for place in above if (place / "tests").is_dir()), None)

    def findings(self, refs: set[str]) -> Iterator[Finding]:
        """What is wrong with each note by itself, and its links."""
        yield from self._broken
        around = Around(refs, self.checkout)
        for path, note in self.notes.items():
            text = path.read_text(encoding="utf-8")
            for message, fix, at, minor in faults(note, around):
                line = _line(text, at)
                yield Finding(file=str(path), line=line, message=message, fix=fix, minor=minor)


def _line(text: str, at: str) -> int:
    """The line of a field, of the body, or of a phrase in it."""
    lines = text.splitlines()
    if at in notefile.FIELDS:
        return notefile.line_of(text, at)
    if at == "text":
        return lines.index(notefile.FENCE, 1) + 3
    return next((n for n, line in enumerate(lines, start=1) if at in line), 1)


def _shingles(text: str) -> frozenset[tuple[str, ...]]:
    words = [word.lower() for word in WORD.findall(text)]
    count = max(len(words) - SHINGLE + 1, 1)
    return frozenset(tuple(words[i : i + SHINGLE]) for i in range(count))
