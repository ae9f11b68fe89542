"""What all languages whose candidates are a `model.py` with sources beside it have in common."""

import ast
import sys
from collections.abc import Sequence
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kernelevolve.core.candidate import Candidate, SourceFile
from kernelevolve.core.evaluation import Build
from kernelevolve.core.job import Limits
from kernelevolve.core.protocols import Run
from kernelevolve.runtime import inline

INLINE_SECONDS = 180.0

if TYPE_CHECKING:
    from torch.nn import Module


def write(candidate: Candidate, folder: Path) -> None:
    """Its files, below a folder."""
    for file in candidate.files:
        path = folder / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(file.text)


def example(folder: Path) -> tuple[SourceFile, ...]:
    """The files of a folder, which end in `.txt` so that nobody takes them for code."""
    return tuple(
        SourceFile(path=path.name.removesuffix(".txt"), text=path.read_text())
        for path in sorted(folder.iterdir())
    )


def build_inline(
    candidate: Candidate, folder: Path, run: Run, environment: Sequence[str] = ()
) -> str:
    """Build what `load_inline` asks for, once, by importing the module; the error, or nothing.

    Args:
        candidate: whose `model.py` may ask.
        folder: where its files are.
        run: runs a command in the sandbox.
        environment: `NAME=value`, for the compilers.
    """
    if "load_inline" not in (candidate.text("model.py") or ""):
        return ""
    limits = Limits(build_seconds=INLINE_SECONDS)
    command = ["env", *environment, sys.executable, "-m", inline.__name__, "model.py"]
    done = run(command, folder, limits)
    if done.code == 124:
        return f"model.py: load_inline took longer than {INLINE_SECONDS:g} s"
    return f"model.py: load_inline failed\n{excerpt(done.output)}" if done.code else ""


def excerpt(output: str) -> str:
    """A compiler's output, at most a screenful."""
    lines = output.strip().splitlines()
    return "\n".join(lines if len(lines) <= 30 else [*lines[:20], "…", *lines[-8:]])


def calls_of(model: str, name: str) -> list[ast.Call]:
    """Calls of `name` (`cpp.load`) in a `model.py`.

    Raises:
        ValueError: it is not Python; the message says where.
    """
    calls = (n for n in ast.walk(parsed(model)) if isinstance(n, ast.Call))
    return [call for call in calls if ast.unparse(call.func).endswith(name)]


def parsed(text: str, path: str = "model.py") -> ast.Module:
    """The tree of a file.

    Raises:
        ValueError: it is not Python; the message says where.
    """
    try:
        return ast.parse(text)
    except SyntaxError as error:
        raise ValueError(f"{path}:{error.lineno}: {error.msg}") from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f"{path}:1: Python cannot parse it: {error}") from error


def literals(call: ast.Call, names: tuple[str, ...], example: str) -> dict[str, Any]:
    """Arguments of a call by name; those left out are missing.

    Raises:
        ValueError: one is no literal; the message shows how to write it.
    """
    try:
        found = dict(zip(names, map(ast.literal_eval, call.args), strict=False))
        return found | {str(k.arg): ast.literal_eval(k.value) for k in call.keywords}
    except (ValueError, TypeError) as error:
        raise ValueError(f"model.py:{call.lineno}: write {example} with literals") from error


def model_class(build: Build) -> "type[Module]":
    """`ModelNew` of the built `model.py`.

    Raises:
        AttributeError: the module defines no `ModelNew`.
    """
    path = Path(build.folder) / "model.py"
    inline.use_prebuilt(path.parent)
    spec = spec_from_file_location("model", path)
    if spec is None or spec.loader is None:
        raise AttributeError(f"{path} cannot be loaded")
    module = module_from_spec(spec)
    sys.modules["model"] = module
    spec.loader.exec_module(module)
    if not hasattr(module, "ModelNew"):
        raise AttributeError("model.py defines no class ModelNew(nn.Module)")
    return module.ModelNew  # type: ignore[no-any-return]
