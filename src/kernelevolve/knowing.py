"""What a user does with notes: find, read, add, retire and lint them."""

from collections.abc import Sequence
from pathlib import Path

from kernelevolve.config import RunConfig, data_folder
from kernelevolve.core.errors import UsageError
from kernelevolve.core.note import Note
from kernelevolve.knowledge import lint, notefile
from kernelevolve.knowledge.checks import FOLDERS, Around, faults
from kernelevolve.knowledge.library import PACKAGED, SKILLS, Library
from kernelevolve.knowledge.lint import Linted


def library_of(config: RunConfig) -> Library:
    """The packaged notes, those added to this store, those of `--knowledge`, and learnt skills."""
    own = _added(config.store)
    named = [Path(folder).expanduser() for folder in config.knowledge]
    folders = [own, *named] if own.is_dir() else named
    return Library(folders, data_folder(config.store) / "knowledge" / SKILLS)


def find_notes(
    query: str, config: RunConfig, limit: int, target: str = "", language: str = ""
) -> Sequence[Note]:
    """The notes that fit any text best."""
    return library_of(config).recall(query, limit=limit, target=target, language=language)


def show_note(ref: str, config: RunConfig) -> Note:
    """One note.

    Raises:
        UnknownName: there is none of that name.
    """
    return library_of(config).note(ref)


def note_index(config: RunConfig) -> str:
    """All notes, folder by folder."""
    return library_of(config).index()


def add_note(file: Path, folder: Path | None, config: RunConfig) -> Path:
    """Copy a note into a folder, at the place that follows from its kind; returns that place.

    Args:
        file: the note.
        folder: of notes; without one, where this store keeps them.
        config: names the store.

    Raises:
        UsageError: it is no note, or the place is taken by another.
    """
    folder = folder or _added(config.store)
    if not file.is_file():
        raise UsageError(f"note {file}: no such file")
    try:
        note = notefile.read(file, file.stem.lower())
    except notefile.NoteError as error:
        raise UsageError(f"note {file}:{error.line}: {error}") from error
    refs = {*notefile.files(PACKAGED), *(notefile.files(folder) if folder.is_dir() else ())}
    fault = next((f for f in faults(note, Around(refs, None)) if not f.minor), None)
    if fault:
        raise UsageError(f"note {file}: {fault.message}; {fault.fix}")
    place = folder / _branch(note) / f"{note.ref}.md"
    data = file.read_bytes()
    if place.is_file() and place.read_bytes() != data:
        raise UsageError(f"note {file}: {place} is there already; remove it or rename this file")
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(data)
    return place


def retire_note(ref: str, reason: str, config: RunConfig) -> None:
    """Have a note found no more in this store, for a reason that `show` then tells.

    Raises:
        UnknownName: there is none of that name.
        UsageError: no reason is given.
    """
    if not reason.strip():
        raise UsageError(f"note {ref!r}: say why it is retired")
    library_of(config).retire(ref, reason)


def lint_notes(folders: Sequence[Path], strict: bool) -> Linted:
    """What is wrong with the notes of these folders, or with the packaged ones.

    Raises:
        UsageError: there is no such folder.
    """
    return lint.lint(folders, strict)


def _added(store: str | None) -> Path:
    return data_folder(store) / "knowledge" / "notes"


def _branch(note: Note) -> Path:
    """Where notes of its kind are kept."""
    top = next(folder for folder, kind in FOLDERS.items() if kind == note.kind)
    about = {"hardware": note.targets, "language": note.languages}.get(note.kind, ())
    return Path(top, *(name.partition(":")[0] for name in about[:1]))
