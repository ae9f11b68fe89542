"""C++ kernels for MTIA's processing elements, against a header of our own, on the simulator."""

import re
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kernelevolve.config import cache_folder
from kernelevolve.core.candidate import Candidate, SourceFile
from kernelevolve.core.evaluation import Build, Flag
from kernelevolve.core.job import Limits
from kernelevolve.core.protocols import Language, Run
from kernelevolve.core.target import TargetSpec
from kernelevolve.core.task import Task
from kernelevolve.languages import _model
from kernelevolve.languages._screening import screen
from kernelevolve.runtime import mtia as runtime
from kernelevolve.runtime.cpp import BUILD_FOLDER

if TYPE_CHECKING:
    from torch.nn import Module

GUIDES = Path(__file__).parent / "guides"
GUIDE = GUIDES / "mtia_cpp.md"
STARTER = GUIDES / "mtia_cpp_starter"
EXAMPLE = 'mtia.load("kernel.cpp", "name", flags=["-DBLOCK=2048"])'
ALLOWED_FLAGS = re.compile(r"-D\w+(=[\w.+-]*)?|-Wno-[\w-]+|-w")
HEADER = "mtia.h"


@dataclass(frozen=True)
class Load:
    """Kernels that `model.py` loads of one source with the same flags."""

    source: str
    flags: tuple[str, ...]


class MtiaCpp:
    """g++ makes what the simulator runs; macros are the only flags."""

    requires: Mapping[str, str] = {"g++": "apt-get install g++"}
    vendors: Sequence[str] = ("mtia",)
    preload: Sequence[str] = ("kernelevolve.runtime.mtia.operators",)

    def guide(self, spec: TargetSpec) -> str:
        """How to write `model.py` and `kernel.cpp`, and the header itself."""
        header = (runtime.HERE / "include" / HEADER).read_text()
        return f"{GUIDE.read_text()}\n## {HEADER}\n\n```cpp\n{header}```\n"

    def starter(self, task: Task) -> tuple[SourceFile, ...]:
        """A fused `relu(x + y)`, in the form that a candidate has."""
        return _model.example(STARTER)

    def screen(self, candidate: Candidate, task: Task) -> Sequence[Flag]:
        """Constructs that deserve a closer look, in Python and in C++."""
        return screen(candidate, task)

    def build(self, candidate: Candidate, spec: TargetSpec, workdir: Path, run: Run) -> Build:
        """A library for each source, with the simulator and the chip's name beside it."""
        started = time.monotonic()
        _model.write(candidate, workdir)
        try:
            for load in loads_of(candidate.text("model.py") or ""):
                if candidate.text(load.source) is None:
                    raise ValueError(
                        f"model.py loads {load.source!r}, which is not among the files"
                    )
                _compile(load, spec, workdir, run)
        except ValueError as error:
            return Build(ok=False, message=str(error), seconds=time.monotonic() - started)
        return Build(ok=True, folder=str(workdir), seconds=time.monotonic() - started)

    def load(self, build: Build, task: Task) -> "type[Module]":
        """`ModelNew` of the built `model.py`."""
        return _model.model_class(build)


def loads_of(model: str) -> list[Load]:
    """The sources that `mtia.load` calls of a `model.py` name, each once.

    Raises:
        ValueError: it is not Python, or a call's arguments are not literals, or a flag is not
            in the allow-list; the message says what to change.
    """
    found = []
    for call in _model.calls_of(model, "mtia.load"):
        given = _model.literals(call, ("source", "kernel", "flags"), EXAMPLE)
        flags = tuple(str(f) for f in given.get("flags", ()))
        refused = [f for f in flags if not ALLOWED_FLAGS.fullmatch(f)]
        if refused:
            raise ValueError(f"model.py:{call.lineno}: flag {refused[0]!r} is not allowed")
        found.append(Load(str(given.get("source")), flags))
    return list(dict.fromkeys(found))


def _compile(load: Load, spec: TargetSpec, workdir: Path, run: Run) -> None:
    built = runtime.built_path(workdir, load.source, load.flags)
    (workdir / BUILD_FOLDER).mkdir(exist_ok=True)
    kept = cache_folder() / "mtia" / f"{runtime.simulator_key()}.so"
    runtime.build_simulator(kept)
    shutil.copyfile(kept, built.with_name(runtime.SIMULATOR))
    built.with_suffix(".arch").write_text(spec.arch)
    extra = ["-fdiagnostics-color=never"]
    done = run(runtime.command(load.source, [*load.flags, *extra], built), workdir, Limits())
    if done.code == 124:
        raise ValueError(f"{load.source}: the compiler ran past its time limit")
    if done.code or not built.exists():
        raise ValueError(f"{load.source}: {_model.excerpt(done.output)}")


plugin: type[Language] = MtiaCpp
