"""C++ kernels, compiled with g++ and called through `kernelevolve.runtime.cpp`."""

import ast
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kernelevolve.core.candidate import Candidate, SourceFile
from kernelevolve.core.evaluation import Build, Flag
from kernelevolve.core.job import Limits
from kernelevolve.core.protocols import Language, Run
from kernelevolve.core.target import TargetSpec
from kernelevolve.core.task import Task
from kernelevolve.languages import _model
from kernelevolve.languages._screening import screen
from kernelevolve.runtime import cpp as runtime

if TYPE_CHECKING:
    from torch.nn import Module

GUIDE = Path(__file__).parent / "guides" / "cpp.md"
STARTER = Path(__file__).parent / "guides" / "cpp_starter"
ALLOWED_FLAGS = re.compile(
    r"-O[0123s]|-Ofast|-g|-fopenmp(-simd)?|-march=native|-mtune=native|-mprefer-vector-width=\d+"
    r"|-m(no-)?(avx|sse|fma|bmi|f16c|amx)[\w.-]*|-ffast-math|-funroll(-all)?-loops|-flto"
    r"|-f(no-)?[a-z][a-z0-9-]*(=[a-z0-9-]+)?|--param=[a-z0-9-]+=\d+|-D\w+(=[\w.+-]*)?|-Wno-[\w-]+|-w"
    r"|-std=(c|gnu)\+\+(17|20|23)"
)
FORBIDDEN_FLAGS = re.compile(r"-f(plugin|profile|sanitize|dump|lto-|save|instrument|use-ld).*")
REPORT_BYTES = 1 << 20
MISSED = re.compile(r"^(?P<where>[^:]+:\d+:\d+): missed: +(?P<what>.*)$", re.MULTILINE)
TELLING = ("couldn't vectorize", "not vectorized")


@dataclass(frozen=True)
class Load:
    """One `cpp.load(...)` in `model.py`, as literals."""

    source: str
    flags: tuple[str, ...]


class Cpp:
    """g++, flags as part of the candidate within an allow-list."""

    requires: Mapping[str, str] = {"g++": "apt-get install g++"}
    vendors: Sequence[str] = ("cpu",)
    preload: Sequence[str] = ()

    def guide(self, spec: TargetSpec) -> str:
        """How to write `model.py` and `kernel.cpp` for this processor."""
        return GUIDE.read_text()

    def starter(self, task: Task) -> tuple[SourceFile, ...]:
        """A fused `relu(x + y)`, in the form that a candidate has."""
        return _model.example(STARTER)

    def screen(self, candidate: Candidate, task: Task) -> Sequence[Flag]:
        """Constructs that deserve a closer look, in Python and in C++."""
        return screen(candidate, task)

    def build(self, candidate: Candidate, spec: TargetSpec, workdir: Path, run: Run) -> Build:
        """Write the files and compile what `model.py` loads; `workdir` is keyed by content."""
        started = time.monotonic()
        _model.write(candidate, workdir)
        try:
            loads = loads_of(candidate.text("model.py") or "")
        except ValueError as error:
            return Build(ok=False, message=str(error))
        (workdir / runtime.BUILD_FOLDER).mkdir(exist_ok=True)
        message = _model.build_inline(candidate, workdir, run)
        if message:
            return Build(ok=False, message=message, seconds=time.monotonic() - started)
        outputs, commands = [], []
        for load in loads:
            if candidate.text(load.source) is None:
                message = f"model.py loads {load.source!r}, which is not among the files"
                return Build(ok=False, message=message)
            message, output = _compile(load, workdir, run)
            if message:
                return Build(ok=False, message=message, seconds=time.monotonic() - started)
            outputs.append(output)
            built = runtime.library_path(workdir, load.source, load.flags)
            commands.append(tuple(runtime.command(load.source, load.flags, built)))
        return Build(
            ok=True,
            folder=str(workdir),
            commands=tuple(commands),
            remarks=_missed("\n".join(outputs)),
            resources=_resources(workdir),
            seconds=time.monotonic() - started,
        )

    def load(self, build: Build, task: Task) -> "type[Module]":
        """`ModelNew` of the built `model.py`."""
        return _model.model_class(build)


def loads_of(model: str) -> list[Load]:
    """The `cpp.load` calls of a `model.py`.

    Raises:
        ValueError: it is not Python, or a call's arguments are not literals, or a flag is not
            in the allow-list; the message says what to change.
    """
    return [_literal_load(call) for call in _model.calls_of(model, "cpp.load")]


def _literal_load(call: ast.Call) -> Load:
    example = 'cpp.load("kernel.cpp", flags=["-O3"])'
    found = _model.literals(call, ("source", "flags"), example)
    flags = tuple(str(f) for f in found.get("flags", runtime.DEFAULT_FLAGS))
    refused = [f for f in flags if not _allowed(f)]
    if refused:
        raise ValueError(f"model.py:{call.lineno}: flag {refused[0]!r} is not allowed")
    return Load(str(found.get("source")), flags)


def _allowed(flag: str) -> bool:
    return bool(ALLOWED_FLAGS.fullmatch(flag)) and not FORBIDDEN_FLAGS.fullmatch(flag)


def _compile(load: Load, workdir: Path, run: Run) -> tuple[str, str]:
    """The error message (empty when it compiled) and what the compiler said."""
    built = runtime.library_path(workdir, load.source, load.flags)
    extra = ["-fopt-info-vec-missed", "-fstack-usage", "-fdiagnostics-color=never"]
    command = runtime.command(load.source, [*load.flags, *extra], built)
    done = run(command, workdir, Limits())
    if done.code == 124:
        return f"{load.source}: the compiler ran past its time limit", done.output
    if done.code or not built.exists():
        return f"{load.source}: {_errors(done.output)}", done.output
    return "", done.output


def _errors(output: str) -> str:
    """The compiler's errors without its remarks."""
    lines = [x for x in output.splitlines() if ": missed:" not in x and ": note:" not in x]
    return _model.excerpt("\n".join(lines))


def _missed(output: str) -> tuple[str, ...]:
    found = {
        f"{m['where']}: {m['what']}": None
        for m in MISSED.finditer(output)
        if m["what"].startswith(TELLING)
    }
    return tuple(found)[:12]


def _resources(workdir: Path) -> dict[str, float]:
    """What the compiler left; the folder may hold anything that a build chose to put there."""
    reports = [*workdir.glob("*.su"), *(workdir / runtime.BUILD_FOLDER).glob("*.su")]
    stacks = [
        float(line.split("\t")[1])
        for path in reports
        if runtime.is_plain(path) and path.stat().st_size < REPORT_BYTES
        for line in path.read_text(errors="replace").splitlines()
        if re.fullmatch(r"[^\t]*\t\d{1,12}\t[^\t]*", line)
    ]
    libraries = (workdir / runtime.BUILD_FOLDER).glob("*.so")
    return {
        "stack_bytes": max(stacks, default=0.0),
        "library_bytes": float(sum(p.lstat().st_size for p in libraries)),
    }


plugin: type[Language] = Cpp
