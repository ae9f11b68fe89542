"""What CUDA and HIP have in common: kernels of C++ with threads, compiled and emulated."""

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kernelevolve.core.candidate import Candidate, SourceFile
from kernelevolve.core.evaluation import Build, Flag
from kernelevolve.core.job import Limits
from kernelevolve.core.protocols import Run
from kernelevolve.core.target import TargetSpec
from kernelevolve.core.task import Task
from kernelevolve.languages import _model
from kernelevolve.languages._screening import screen
from kernelevolve.runtime import kernels, launcher
from kernelevolve.runtime.cpp import BUILD_FOLDER

if TYPE_CHECKING:
    from torch.nn import Module

GUIDES = Path(__file__).parent / "guides"
USUAL = re.compile(r"^ptxas (info|        \.)|: In (member )?function |: At global scope")
"""Of a compiler's output, what is no complaint."""


@dataclass(frozen=True)
class Load:
    """Kernels that `model.py` loads of one source with the same flags."""

    source: str
    flags: tuple[str, ...]


class Simt:
    """Subclass with the attributes below and `compiled`."""

    dialect: kernels.Dialect
    allowed: re.Pattern[str]
    """Flags that a candidate may ask for."""
    example: str
    """A load, for messages."""
    preload: Sequence[str] = ()

    def compiled(self, load: Load, spec: TargetSpec, workdir: Path, run: Run) -> dict[str, float]:
        """What the kernels of a source need on a device.

        Raises:
            ValueError: it cannot be compiled; the message says why.
        """
        raise NotImplementedError

    def inline(self, candidate: Candidate, spec: TargetSpec, workdir: Path, run: Run) -> None:
        """Build what `load_inline` asks for.

        Raises:
            ValueError: it failed, or the device is not here.
        """
        if "load_inline" in (candidate.text("model.py") or ""):
            raise ValueError(
                "model.py: load_inline needs a GPU to run what it builds; use "
                f"{self.dialect.name}.load, which is emulated where there is none"
            )

    def remarks(self) -> tuple[str, ...]:
        """What every build must say on this machine."""
        return ()

    def guide(self, spec: TargetSpec) -> str:
        """How to write `model.py` and the kernels beside it."""
        return (GUIDES / f"{self.dialect.name}.md").read_text()

    def starter(self, task: Task) -> tuple[SourceFile, ...]:
        """A fused `relu(x + y)`, in the form that a candidate has."""
        return _model.example(GUIDES / f"{self.dialect.name}_starter")

    def screen(self, candidate: Candidate, task: Task) -> Sequence[Flag]:
        """Constructs that deserve a closer look, in Python and in C++."""
        return screen(candidate, task)

    def build(self, candidate: Candidate, spec: TargetSpec, workdir: Path, run: Run) -> Build:
        """For the architecture; for the emulator too, where that stands for the device."""
        started = time.monotonic()
        _model.write(candidate, workdir)
        (workdir / BUILD_FOLDER).mkdir(exist_ok=True)
        resources: dict[str, float] = {}
        try:
            loads = self.loads_of(candidate.text("model.py") or "")
            self.inline(candidate, spec, workdir, run)
            for load in loads:
                if candidate.text(load.source) is None:
                    raise ValueError(
                        f"model.py loads {load.source!r}, which is not among the files"
                    )
                found = self.compiled(load, spec, workdir, run)
                _check_limits(load.source, found, spec)
                resources |= {k: max(v, resources.get(k, 0.0)) for k, v in found.items()}
                if spec.fidelity == "emulated":
                    self._emulate(load, spec, workdir, run)
            if loads and spec.accelerated:
                built = launcher.built_path(workdir / BUILD_FOLDER)
                run(launcher.command(built), workdir, Limits())
        except ValueError as error:
            return Build(ok=False, message=str(error), seconds=time.monotonic() - started)
        return Build(
            ok=True,
            folder=str(workdir),
            resources=resources,
            remarks=self.remarks(),
            seconds=time.monotonic() - started,
        )

    def load(self, build: Build, task: Task) -> "type[Module]":
        """`ModelNew` of the built `model.py`."""
        return _model.model_class(build)

    def loads_of(self, model: str) -> list[Load]:
        """The sources that calls of a `model.py` name, each once.

        Raises:
            ValueError: it is not Python, or a call's arguments are not literals, or a flag is not
                in the allow-list; the message says what to change.
        """
        found = []
        for call in _model.calls_of(model, f"{self.dialect.name}.load"):
            given = _model.literals(call, ("source", "kernel", "flags"), self.example)
            flags = tuple(str(f) for f in given.get("flags", ()))
            refused = [f for f in flags if not self.allowed.fullmatch(f)]
            if refused:
                raise ValueError(f"model.py:{call.lineno}: flag {refused[0]!r} is not allowed")
            found.append(Load(str(given.get("source")), flags))
        return list(dict.fromkeys(found))

    def _emulate(self, load: Load, spec: TargetSpec, workdir: Path, run: Run) -> None:
        built = kernels.built_path(workdir, load.source, load.flags)
        if spec.multiprocessor is not None:
            built.with_suffix(".shared").write_text(str(spec.multiprocessor.shared_block))
        for command in kernels.prepare(self.dialect, workdir, load.source, load.flags, built):
            done = run(command, workdir, Limits())
            if done.code:
                text = f"{load.source}: the emulator's compiler refuses it"
                raise ValueError(f"{text}: {errors(done.output)}")


def compile_with(
    compiler: str, load: Load, spec: TargetSpec, workdir: Path, run: Run
) -> tuple[str, Path]:
    """The log of a compiler that is a module of ours, and the stem of what it made.

    Raises:
        ValueError: it failed.
    """
    stem = kernels.device_stem(workdir, load.source, load.flags, spec.arch)
    command = kernels.compile_command(compiler, load.source, spec.arch, stem, load.flags)
    done = run(command, workdir, Limits())
    if done.code == 124:
        raise ValueError(f"{load.source}: the compiler ran past its time limit")
    if done.code:
        raise ValueError(f"{load.source}: {errors(done.output)}")
    return done.output, stem


def errors(output: str) -> str:
    """What the compiler complains of."""
    lines = output.strip().splitlines()
    return _model.excerpt("\n".join(x for x in lines if not USUAL.search(x)))


def _check_limits(source: str, found: Mapping[str, float], spec: TargetSpec) -> None:
    limits = spec.multiprocessor
    if limits is None or not found.get("registers"):
        return
    if found["shared_bytes"] > limits.shared_block:
        raise ValueError(
            f"{source}: {found['shared_bytes']:.0f} bytes of shared memory for a block, of which "
            f"{spec.arch} has {limits.shared_block}"
        )
    if not found["occupancy"]:
        raise ValueError(
            f"{source}: {found['registers']:.0f} registers for each of "
            f"{found['block_threads']:.0f} threads are more than the {limits.registers} "
            f"of a multiprocessor"
        )
