"""The knowledge base: folders of notes, the packaged ones first, found by search or by walking."""

from collections.abc import Sequence
from difflib import get_close_matches
from functools import cached_property
from itertools import groupby
from pathlib import Path
from tempfile import NamedTemporaryFile

from kernelevolve.core.errors import UnknownName, UsageError
from kernelevolve.core.note import Note
from kernelevolve.knowledge import notefile
from kernelevolve.knowledge.search import Index

PACKAGED = Path(__file__).parent / "notes"
SKILLS = "skills"
RETIRED = ".retired"


class Library:
    """Notes of several folders; what a later folder holds replaces what earlier ones call the same.

    Nothing is read before the first question.
    """

    def __init__(
        self, folders: Sequence[Path] = (), skills: Path | None = None, packaged: Path = PACKAGED
    ) -> None:
        """Take folders, which must be there, and the folder that `learn` writes to, which need not.

        Args:
            folders: of notes, beside the packaged ones.
            skills: where lessons go, and the reasons why notes were retired.
            packaged: the notes that come with this package.
        """
        self.folders = (packaged, *folders)
        self.skills = skills

    def recall(
        self, query: str, *, limit: int, target: str = "", language: str = ""
    ) -> Sequence[Note]:
        """The notes that fit best, best first."""
        found = (self._notes[ref] for ref in self._index.refs(query))
        return [note for note in found if note.about(target, language)][: max(limit, 0)]

    def note(self, ref: str) -> Note:
        """One note.

        Raises:
            UnknownName: there is none of that name, or it was retired.
        """
        if ref in self._notes:
            return self._notes[ref]
        if ref in self._retired:
            raise UnknownName(f"note {ref!r} was retired: {self._retired[ref]}")
        near = get_close_matches(ref, self._notes, n=3, cutoff=0.4)
        raise UnknownName(f"unknown note {ref!r}; near it: {', '.join(near) or 'none'}")

    def index(self, target: str = "", language: str = "") -> str:
        """The tree: one line per folder with the names and titles of its notes."""
        wanted = sorted(ref for ref, note in self._notes.items() if note.about(target, language))
        by_folder = groupby(wanted, key=lambda ref: ref.rpartition("/")[0])
        return "\n".join(
            f"{folder or '.'}: "
            + "; ".join(f"{r.rpartition('/')[2]} ({self._notes[r].title})" for r in refs)
            for folder, refs in by_folder
        )

    def learnt(self) -> Sequence[Note]:
        """Every skill that runs taught and that was not retired."""
        return [note for ref, note in self._notes.items() if ref.startswith(f"{SKILLS}/")]

    def learn(self, note: Note) -> None:
        """Keep a skill that a run taught.

        Raises:
            UsageError: it is no skill, it was retired, or there is no folder to write to.
        """
        folder, name = self._writable(), note.ref.removeprefix(f"{SKILLS}/")
        if note.kind != "skill" or name == note.ref:
            raise UsageError(
                f"note {note.ref!r} of kind {note.kind}: only skills are learnt; "
                f"give it kind skill and a ref below {SKILLS}/"
            )
        if note.ref in self._retired:
            raise UsageError(
                f"note {note.ref!r} was retired: {self._retired[note.ref]}; give it another ref"
            )
        _write(folder / f"{name}.md", notefile.render(note))
        self._forget()

    def retire(self, ref: str, reason: str) -> None:
        """Have a note found no more.

        Raises:
            UnknownName: there is none of that name.
            UsageError: there is no folder to write to.
        """
        folder, note = self._writable(), self.note(ref)
        _write(folder / RETIRED / f"{note.ref}.txt", reason.strip() or "no reason given")
        self._forget()

    @cached_property
    def _notes(self) -> dict[str, Note]:
        places = [path for folder in self.folders for path in _places(folder).items()]
        if self.skills and self.skills.is_dir():
            own = notefile.files(self.skills).items()
            places += [(f"{SKILLS}/{name}", path) for name, path in own]
        live = {ref: path for ref, path in places if ref not in self._retired}
        return {ref: _read(path, ref) for ref, path in live.items()}

    @cached_property
    def _index(self) -> Index:
        return Index(self._notes.values())

    @cached_property
    def _retired(self) -> dict[str, str]:
        """Refs to reasons."""
        if self.skills is None:
            return {}
        folder = self.skills / RETIRED
        return {
            path.relative_to(folder).with_suffix("").as_posix(): path.read_text("utf-8")
            for path in sorted(folder.rglob("*.txt"))
        }

    def _forget(self) -> None:
        for name in ("_notes", "_index", "_retired"):
            self.__dict__.pop(name, None)

    def _writable(self) -> Path:
        if self.skills is None:
            raise UsageError("this knowledge base has no folder for skills; name one")
        return self.skills


def _places(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise UsageError(f"knowledge folder {folder}: no such folder")
    return notefile.files(folder)


def _read(path: Path, ref: str) -> Note:
    try:
        return notefile.read(path, ref)
    except notefile.NoteError as error:
        raise UsageError(f"{path}:{error.line}: {error}") from error


def _write(path: Path, text: str) -> None:
    """Replace a file at once, so that no reader sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8") as file:
        file.write(text)
    Path(file.name).replace(path)
