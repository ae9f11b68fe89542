"""A model's answer in text: whole files, edits of the current kernel, a hypothesis, a prediction.

Text with fences is what every model writes well; files inside JSON strings are not.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from kernelevolve.core.candidate import SourceFile

FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})[ \t]*([^\n`]*)$")
NAMED = re.compile(
    r"^[\s#*>\-]*(?P<what>file|edit|delete)\b[\s:*`]*(?P<path>[\w./+-]+\.\w+)[\s:*`]*$", re.I
)
PATH = re.compile(r"[\w./+-]+\.(?:py|cpp|cu|cuh|hip|h|hpp|inc)\b")
HYPOTHESIS = re.compile(r"^[\s#*>\-]*hypothesis\b[\s:*]*(?P<text>.+)$", re.I | re.M)
PREDICTED = re.compile(
    r"^[\s#*>\-]*predict(?:ed|ion)\b[^\d\n]*(?P<number>\d+(?:\.\d+)?)", re.I | re.M
)
BLOCK = re.compile(
    r"^<{5,9} ?SEARCH[^\n]*\n(?P<old>.*?)^={5,9}[ \t]*\n(?P<new>.*?)^>{5,9} ?REPLACE[^\n]*$",
    re.S | re.M,
)
MODEL = "model.py"
MOST_BYTES = 1 << 20
TEMPLATE = "FILE: model.py followed by one fenced block with its whole text"


class Complaint(ValueError):
    """What is wrong with an answer, in words that tell the model what to write instead."""


@dataclass(frozen=True)
class Answer:
    """What a model proposes."""

    files: tuple[SourceFile, ...]
    hypothesis: str
    predicted: float | None


@dataclass(frozen=True)
class Piece:
    """One fenced block or deletion of an answer."""

    what: str
    """`file`, `edit` or `delete`."""
    path: str
    text: str
    line: int
    """Where its fence begins in the answer, from 1."""


def parse(text: str, current: Sequence[SourceFile] = ()) -> Answer:
    """Read an answer and apply its edits to the current kernel.

    Args:
        text: as the model wrote it.
        current: the first parent's files; edits apply to them, and files not named stay.

    Raises:
        Complaint: it holds no candidate, or its edits do not apply exactly.
    """
    files = {f.path: f.text for f in current}
    found = list(pieces(text))
    if not found:
        raise Complaint(_nothing(text))
    for piece in found:
        _apply(piece, files)
    _check(files)
    hypothesis, predicted = HYPOTHESIS.search(text), PREDICTED.search(text)
    return Answer(
        files=tuple(SourceFile(path=p, text=t) for p, t in sorted(_needed(files).items())),
        hypothesis=hypothesis["text"].strip(" *`") if hypothesis else "",
        predicted=float(predicted["number"]) if predicted else None,
    )


def pieces(text: str) -> Iterator[Piece]:
    """Named blocks in their order; a block without a name counts where it is plainly a kernel.

    Raises:
        Complaint: a fence is not closed, which is how a cut answer ends.
    """
    lines = text.splitlines()
    at, named = 0, None
    while at < len(lines):
        fence = FENCE.match(lines[at])
        name = NAMED.match(lines[at])
        if fence:
            end = _closing(lines, at, fence[1])
            body = "".join(f"{line}\n" for line in lines[at + 1 : end])
            piece = _piece(named, fence[2].strip(), body, at + 1)
            if piece:
                yield piece
            at, named = end, None
        elif name:
            named = (name["what"].lower(), name["path"])
            if named[0] == "delete":
                yield Piece("delete", named[1], "", at + 1)
                named = None
        at += 1


def _closing(lines: Sequence[str], start: int, mark: str) -> int:
    for at in range(start + 1, len(lines)):
        stripped = lines[at].strip()
        if len(stripped) >= len(mark) and set(stripped) == {mark[0]}:
            return at
    raise Complaint(
        f"the block that begins on line {start + 1} of your answer is not closed, so it was cut: "
        "answer again, shorter; edit blocks need less room than whole files"
    )


def _piece(named: tuple[str, str] | None, tag: str, body: str, line: int) -> Piece | None:
    if named is None:
        inside = PATH.search(tag) or PATH.search(body.split("\n", 1)[0])
        if inside:
            named = ("file", inside[0])
        elif re.search(r"^class ModelNew\b", body, re.M):
            named = ("file", MODEL)
        else:
            return None
    what = "edit" if BLOCK.search(body) else named[0]
    return Piece(what, named[1], body, line)


def _apply(piece: Piece, files: dict[str, str]) -> None:
    path = piece.path.removeprefix("./")
    if path.startswith("/") or ".." in path.split("/"):
        raise Complaint(f"{piece.path}: paths are relative, inside the candidate's folder")
    if piece.what == "delete":
        files.pop(path, None)
    elif piece.what == "file":
        files[path] = piece.text
    else:
        files[path] = edited(files, path, piece.text)


def edited(files: Mapping[str, str], path: str, edits: str) -> str:
    """A file after search-and-replace blocks, each of which must match exactly once.

    Raises:
        Complaint: the file or a passage does not exist, or a passage exists more than once.
    """
    if path not in files:
        if not files:
            raise Complaint(f"EDIT: {path}: there is no current kernel: answer with whole files")
        known = ", ".join(sorted(files))
        raise Complaint(f"EDIT: {path}: no such file in the current kernel; known: {known}")
    blocks = list(BLOCK.finditer(edits))
    if not blocks:
        raise Complaint(
            f"EDIT: {path}: no edit block in it; write <<<<<<< SEARCH, the old lines, =======, "
            "the new lines, >>>>>>> REPLACE"
        )
    text = files[path]
    for number, block in enumerate(blocks, 1):
        text = _replaced(text, block["old"], block["new"], f"EDIT: {path}, block {number}")
    return text


def _replaced(text: str, old: str, new: str, where: str) -> str:
    if not old.strip():
        raise Complaint(f"{where}: SEARCH is empty; quote the lines that are to be replaced")
    old_lines, lines = old.splitlines(), text.splitlines()
    size = len(old_lines)
    places = [i for i in range(len(lines) - size + 1) if lines[i : i + size] == old_lines]
    if len(places) > 1:
        at = ", ".join(str(i + 1) for i in places[:5])
        raise Complaint(
            f"{where}: SEARCH matches {len(places)} times, on lines {at}; quote more lines around "
            "the passage so that it is unique"
        )
    if not places:
        raise Complaint(f"{where}: SEARCH does not occur in the file{_nearest(lines, old_lines)}")
    start = places[0]
    changed = [*lines[:start], *new.splitlines(), *lines[start + size :]]
    return "".join(f"{line}\n" for line in changed)


def _nearest(lines: Sequence[str], old: Sequence[str]) -> str:
    """What comes closest to the first line that is searched for."""
    first = next(line for line in old if line.strip())
    close = difflib.get_close_matches(first, lines, 1, 0.5)
    if not close:
        return "; copy the lines exactly as they stand in the current kernel"
    return f"; the closest to its first line is line {lines.index(close[0]) + 1}: {close[0]!r}"


def _check(files: Mapping[str, str]) -> None:
    if MODEL not in files:
        raise Complaint(f"no {MODEL}: answer with {TEMPLATE}")
    if not re.search(r"^class ModelNew\b", files[MODEL], re.M):
        raise Complaint(f"{MODEL} does not define class ModelNew at its top level")
    try:
        compile(files[MODEL], MODEL, "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as error:
        at = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
        raise Complaint(f"{MODEL}{at}: {error}") from error
    size = sum(len(text) for text in files.values())
    if size > MOST_BYTES:
        raise Complaint(f"the files are {size} bytes long; at most {MOST_BYTES} are accepted")


def _needed(files: Mapping[str, str]) -> dict[str, str]:
    """Without files that nothing names any more: a kernel rewritten leaves its old source."""
    kept, waiting = {MODEL: files[MODEL]}, [MODEL]
    while waiting:
        text = files[waiting.pop()]
        for path in set(files) - set(kept):
            if path.rsplit("/", 1)[-1].removesuffix(".py") in text:
                kept[path] = files[path]
                waiting.append(path)
    return kept


def _nothing(text: str) -> str:
    if not text.strip():
        return f"the answer is empty: answer with {TEMPLATE}"
    return f"the answer holds no code that can be used: answer with {TEMPLATE}"
