"""What a note must keep to, one function a rule; `lint` runs them over folders."""

import ast
import re
from collections.abc import Collection, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from kernelevolve import registry
from kernelevolve.core.note import Note

MOST_WORDS = 250
MOST_CODE_LINES = 40
MOST_TITLE = 90
MOST_SYMPTOM_WORDS = 10
VENDORS = ("amd", "cpu", "mtia", "nvidia")
LANGUAGES = ("cpp", "cuda", "cute", "flydsl", "hip", "mtia_cpp", "triton")
FOLDERS = {
    "constraints": "constraint",
    "guidance": "guidance",
    "hardware": "hardware",
    "languages": "language",
    "skills": "skill",
}
"""Top folders to the kind of the notes in them."""
CODE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[\[([^\]\n]*)\]\]")
TITLED = re.compile(r"\S.* <https?://[^<>\s]+>$")
OWN = "kernelevolve: "
OTHERS = ("measured: ", "run: ")
OWN_PLACES = ("design", "docs", "src", "benchmarks", "CHANGELOG.md")


class Around(NamedTuple):
    """What a note is judged by, beside its own words."""

    refs: Collection[str]
    """All notes that it may link to."""
    checkout: Path | None
    """Where the tests and documents that it names are; None outside of a checkout."""


class Fault(NamedTuple):
    """What is wrong with one note."""

    message: str
    """What it is."""
    fix: str
    """What to do."""
    at: str
    """The field, or the words of the body, where it is."""
    minor: bool = False
    """Length, likeness and the like."""


def faults(note: Note, around: Around) -> Iterator[Fault]:
    """All that is wrong with a note by itself."""
    for check in (_names, _sources, _test, _links, _lengths):
        yield from check(note, around)


def _names(note: Note, around: Around) -> Iterator[Fault]:
    vendors = sorted({*VENDORS, *registry.names("target")})
    for target in note.targets:
        if target.partition(":")[0] not in vendors:
            known = f"vendor[:arch], of: {', '.join(vendors)}"
            yield Fault(f"unknown target {target!r}", known, "targets")
    languages = sorted({*LANGUAGES, *registry.names("language")})
    for language in note.languages:
        if language not in languages:
            known = f"one of: {', '.join(languages)}"
            yield Fault(f"unknown language {language!r}", known, "languages")
    kind = FOLDERS.get(note.ref.partition("/")[0], note.kind)
    if kind != note.kind:
        message = f"kind {note.kind!r} in a folder of kind {kind!r}"
        yield Fault(message, "move the file, or change its kind", "kind")


def _sources(note: Note, around: Around) -> Iterator[Fault]:
    for source in note.source:
        if source.startswith(OWN):
            if around.checkout and not _document(around.checkout, source.removeprefix(OWN)):
                places = f"name a file below {', '.join(OWN_PLACES)}"
                yield Fault(f"source {source!r}: there is no such document", places, "source")
        elif not TITLED.match(source) and not source.startswith(OTHERS):
            forms = (
                "write 'Title <https://…>', 'kernelevolve: design/0021', "
                "'measured: machine, command, date' or 'run: name, node'"
            )
            yield Fault(f"source {source!r} cannot be looked up", forms, "source")


def _test(note: Note, around: Around) -> Iterator[Fault]:
    """What a run taught was verified by its harness."""
    if CODE.search(note.text) and not note.test and note.kind != "skill":
        fix = "set test to the pytest id of one that compiles or runs it"
        yield Fault("shows code that no test verifies", fix, "```")
    if note.test and around.checkout and not _written_in(around.checkout, note.test):
        yield Fault(f"test {note.test!r} does not exist", "name one of this checkout", "test")


def _links(note: Note, around: Around) -> Iterator[Fault]:
    for ref in LINK.findall(CODE.sub("", note.text)):
        if ref not in around.refs:
            yield Fault(f"link to {ref!r}, which is no note", "correct it", f"[[{ref}]]")


def _lengths(note: Note, around: Around) -> Iterator[Fault]:
    words = len(CODE.sub("", note.text).split())
    if words > MOST_WORDS:
        message = f"{words} words, at most {MOST_WORDS} beside code"
        yield Fault(message, "one fact a note: shorten it, or make two", "text", minor=True)
    longest = max((block.count("\n") - 1 for block in CODE.findall(note.text)), default=0)
    if longest > MOST_CODE_LINES:
        message = f"{longest} lines of code, at most {MOST_CODE_LINES}"
        yield Fault(message, "keep what makes the point", "```", minor=True)
    if len(note.title) > MOST_TITLE:
        message = f"title of {len(note.title)} characters, at most {MOST_TITLE}"
        yield Fault(message, "say the fact, not the topic", "title", minor=True)
    if not note.symptoms:
        fix = "give phrases as a compiler, a profile or a verdict says them"
        yield Fault("no symptom leads to it", fix, "title", minor=True)
    for symptom in note.symptoms:
        if len(symptom.split()) > MOST_SYMPTOM_WORDS:
            message = f"symptom {symptom!r} has more than {MOST_SYMPTOM_WORDS} words"
            yield Fault(message, "keep what other messages of its kind say too", "symptoms", True)


def _document(checkout: Path, place: str) -> bool:
    inside = place.partition("/")[0] in OWN_PLACES and ".." not in place
    return inside and any(checkout.glob(f"{place}*"))


def _written_in(checkout: Path, test: str) -> bool:
    """Whether a pytest id names a function that is there; its parameters do not count."""
    file, *names = test.partition("[")[0].split("::")
    return tuple(names) in _functions(checkout / file)


@cache
def _functions(file: Path) -> frozenset[tuple[str, ...]]:
    if not file.is_file():
        return frozenset()
    functions = ast.FunctionDef | ast.AsyncFunctionDef
    top = ast.parse(file.read_text(encoding="utf-8")).body
    plain = {(node.name,) for node in top if isinstance(node, functions)}
    in_classes = {
        (node.name, method.name)
        for node in top
        if isinstance(node, ast.ClassDef)
        for method in node.body
        if isinstance(method, functions)
    }
    return frozenset(plain | in_classes)
