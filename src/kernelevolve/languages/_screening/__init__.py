"""Static tripwires: what deserves a closer look in a candidate's source. Runs nothing.

A flag is a reason, never a verdict: it raises the audit level, and everything that decides is
dynamic. So a rule may be coarse; it must be cheap, and honest code should rarely touch it.
"""

from collections.abc import Iterator

from kernelevolve.core.candidate import Candidate, SourceFile
from kernelevolve.core.evaluation import Flag
from kernelevolve.core.task import Task
from kernelevolve.languages._screening import cpp, precision, python, structure
from kernelevolve.languages._screening.found import Found, parsed

MOST = 3
"""Places that are reported for each rule and file."""
LARGEST = 1 << 20
"""Characters of a file that is read; a larger one is flagged for its size."""
NATIVE = (".cpp", ".h", ".hpp", ".inc", ".cu", ".cuh", ".hip")


def screen(candidate: Candidate, task: Task) -> list[Flag]:
    """Flags of all files; a line that the reference holds as well is no finding."""
    own = {line.strip() for line in task.source.splitlines()}
    flags = [
        Flag(rule=found.rule, reason=found.reason, where=f"{file.path}:{found.line}")
        for file in candidate.files
        for found in _few(_file(file, task))
        if _line(file.text, found.line) not in own
    ]
    return [*flags, *_whole(candidate, task)]


def _file(file: SourceFile, task: Task) -> Iterator[Found]:
    if len(file.text) > LARGEST:
        yield Found("size", f"{len(file.text)} characters: too large to be looked at", 1)
    elif file.path.endswith(".py"):
        tree = parsed(file.text)
        if tree is None:
            yield Found("unreadable", "Python that cannot be parsed hides what it does", 1)
        else:
            yield from python.findings(tree)
            yield from precision.in_python(tree, task)
    elif file.path.endswith(NATIVE):
        yield from cpp.findings(file.text)
        yield from precision.in_native(file.text, task)


def _whole(candidate: Candidate, task: Task) -> list[Flag]:
    """What concerns the candidate and not a line."""
    text = candidate.text("model.py") or ""
    tree = parsed(text) if len(text) <= LARGEST else None
    found = structure.findings(tree, candidate, task) if tree else ()
    return [Flag(rule=f.rule, reason=f.reason, where=f"model.py:{f.line}") for f in found]


def _few(findings: Iterator[Found]) -> Iterator[Found]:
    """Each line once per rule, and at most `MOST` lines of it."""
    seen: dict[str, set[int]] = {}
    for found in sorted(findings, key=lambda f: f.line):
        lines = seen.setdefault(found.rule, set())
        if found.line not in lines and len(lines) < MOST:
            lines.add(found.line)
            yield found


def _line(text: str, number: int) -> str:
    lines = text.splitlines()
    return lines[number - 1].strip() if 0 < number <= len(lines) else ""
