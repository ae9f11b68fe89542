"""Triton kernels: compiled at their first launch, by Triton itself, in the runner."""

import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kernelevolve.core.candidate import Candidate, SourceFile
from kernelevolve.core.evaluation import Build, Flag
from kernelevolve.core.protocols import Language, Run
from kernelevolve.core.target import TargetSpec
from kernelevolve.core.task import Task
from kernelevolve.languages import _model
from kernelevolve.languages._screening import screen
from kernelevolve.runtime import tiles

if TYPE_CHECKING:
    from torch.nn import Module

GUIDE = Path(__file__).parent / "guides" / "triton.md"
STARTER = Path(__file__).parent / "guides" / "triton_starter"
BACKENDS = {"nvidia": "cuda", "amd": "hip"}
"""Triton's, by vendor."""
DEVICE = "device.json"
"""Beside the sources: the device that they are for, where it has to be stood for."""


class Triton:
    """Triton's own compiler; its interpreter where there is no device."""

    requires: Mapping[str, str] = {"triton": 'pip install "kernelevolve[triton]"'}
    vendors: Sequence[str] = tuple(BACKENDS)
    preload: Sequence[str] = ("triton", "triton.language")

    def guide(self, spec: TargetSpec) -> str:
        """How to write `model.py` with kernels in it."""
        return GUIDE.read_text()

    def starter(self, task: Task) -> tuple[SourceFile, ...]:
        """A fused `relu(x + y)`, in the form that a candidate has."""
        return _model.example(STARTER)

    def screen(self, candidate: Candidate, task: Task) -> Sequence[Flag]:
        """Constructs that deserve a closer look, in Python."""
        return screen(candidate, task)

    def build(self, candidate: Candidate, spec: TargetSpec, workdir: Path, run: Run) -> Build:
        """The files as they are: what a kernel is compiled for, only its launches know."""
        started = time.monotonic()
        _model.write(candidate, workdir)
        try:
            for file in candidate.files:
                if file.path.endswith(".py"):
                    _model.parsed(file.text, file.path)
        except ValueError as error:
            return Build(ok=False, message=str(error), seconds=time.monotonic() - started)
        if spec.multiprocessor is not None:
            device = {
                "backend": BACKENDS[spec.vendor],
                "arch": spec.arch,
                "warp": spec.multiprocessor.warp,
                "multiprocessors": spec.multiprocessor.count,
                "shared_block": spec.multiprocessor.shared_block,
            }
            (workdir / DEVICE).write_text(json.dumps(device))
        return Build(ok=True, folder=str(workdir), seconds=time.monotonic() - started)

    def load(self, build: Build, task: Task) -> "type[Module]":
        """`ModelNew` of `model.py`; its launches are interpreted where no device can be seen."""
        from torch.cuda import is_available

        if not is_available():
            device = json.loads((Path(build.folder) / DEVICE).read_text())
            tiles.emulate(tiles.Device(**device))
        sys.path.append(build.folder)
        try:
            return _model.model_class(build)
        finally:
            sys.path.remove(build.folder)


plugin: type[Language] = Triton
