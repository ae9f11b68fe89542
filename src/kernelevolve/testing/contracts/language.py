"""What every language must do."""

import ast
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from kernelevolve import registry
from kernelevolve.core.candidate import Candidate, SourceFile
from kernelevolve.core.job import Finished, Limits
from kernelevolve.core.protocols import Language
from kernelevolve.core.target import TargetSpec
from kernelevolve.core.task import Task, Workload

TASK = Task(name="contract", source="class Model: ...", workloads=(Workload(name="default"),))


def run_here(command: Sequence[str], folder: Path, limits: Limits) -> Finished:
    """Run a command without a sandbox: for contracts and their trusted sources only."""
    done = subprocess.run(  # noqa: S603
        command,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=limits.build_seconds,
        check=False,
    )
    return Finished(code=done.returncode, output=done.stdout + done.stderr)


class LanguageContract:
    """Subclass with `name`, `spec` and `broken` (a file and text that cannot be compiled)."""

    name: str
    spec: TargetSpec
    broken: SourceFile

    @property
    def language(self) -> Language:
        """The plug-in under test."""
        return registry.load("language", self.name)()  # type: ignore[no-any-return]

    def starter(self) -> Candidate:
        """The language's own example."""
        return Candidate(language=self.name, files=self.language.starter(TASK))

    def test_importing_it_imports_none_of_its_toolchain(self) -> None:
        code = (
            "import sys\nfrom kernelevolve import registry\n"
            f"preload = registry.load('language', {self.name!r}).preload\n"
            "sys.exit(' '.join(sys.modules.keys() & set(preload)))"
        )
        done = subprocess.run(  # noqa: S603
            [sys.executable, "-c", code], capture_output=True, text=True, check=False
        )
        assert not done.stderr.strip()

    def test_guide_tells_what_to_write(self) -> None:
        assert "ModelNew" in self.language.guide(self.spec)

    def test_starter_is_python_and_passes_screen(self) -> None:
        ast.parse(self.starter().text("model.py") or "")
        assert not self.language.screen(self.starter(), TASK)

    def test_starter_builds_loads_and_is_right(self, tmp_path: Path) -> None:
        build = self.language.build(self.starter(), self.spec, tmp_path, run_here)
        assert build.ok, build.message
        module = self.language.load(build, TASK)()
        x, y = torch.randn(37), torch.randn(37)
        assert torch.equal(module(x, y), torch.relu(x + y))

    def test_broken_source_is_a_failed_build_with_its_reason(self, tmp_path: Path) -> None:
        kept = [f for f in self.starter().files if f.path != self.broken.path]
        candidate = Candidate(language=self.name, files=(*kept, self.broken))
        build = self.language.build(candidate, self.spec, tmp_path, run_here)
        assert not build.ok
        assert self.broken.path in build.message

    def test_python_that_does_not_parse_is_a_failed_build_with_its_line(
        self, tmp_path: Path
    ) -> None:
        files = (SourceFile(path="model.py", text="x = 1\ndef :\n"),)
        build = self.language.build(
            Candidate(language=self.name, files=files), self.spec, tmp_path, run_here
        )
        assert not build.ok
        assert "model.py:2" in build.message
