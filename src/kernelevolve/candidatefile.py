"""Reads a candidate's files; nothing of them is executed."""

from pathlib import Path

from kernelevolve.core.candidate import SourceFile
from kernelevolve.core.errors import UsageError

SOURCES = (".py", ".cpp", ".h", ".hpp", ".inc", ".cu", ".cuh", ".hip")


def read(path: Path) -> tuple[SourceFile, ...]:
    """The files of a candidate: a folder, or one Python file with the native sources beside it.

    Raises:
        UsageError: there is no such file, or the folder holds no `model.py`.
    """
    try:
        if path.is_dir():
            found = {str(p.relative_to(path)): p for p in sorted(path.rglob("*")) if _is_source(p)}
        else:
            native = [p for p in sorted(path.parent.iterdir()) if _is_source(p)]
            found = {p.name: p for p in native if p.suffix != ".py"} | {"model.py": path}
        if "model.py" not in found:
            raise UsageError(
                f"candidate {path}: the folder holds no model.py that defines ModelNew"
            )
        return tuple(SourceFile(path=name, text=p.read_text()) for name, p in found.items())
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"candidate {path}: {error}; give a file with ModelNew") from error


def _is_source(path: Path) -> bool:
    hidden = any(part.startswith((".", "__")) for part in path.parts if part not in (".", ".."))
    return path.is_file() and path.suffix in SOURCES and not hidden
