"""Kernels of C++ with threads (CUDA, HIP) that lie beside a candidate's `model.py`.

Tensors on a GPU are worked on there, by what NVRTC compiled for it; those in host memory by the
emulator (`kernelevolve.runtime.simt`). Either is built ahead by content, or on first use.
"""

import hashlib
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kernelevolve.runtime import launcher, nvrtc, simt
from kernelevolve.runtime.cpp import BUILD_FOLDER, is_plain

if TYPE_CHECKING:
    from kernelevolve.runtime.gpu import DeviceKernel

SOURCES = (".cu", ".cuh", ".hip", ".h", ".hpp", ".inc")
SHARED_LIMIT = 48 << 10
"""Bytes of shared memory that a block of any device has, where a build does not say more."""
DEFINES = ("-D",)
KEPT_LAUNCHES = 256
ROOT = Path(__file__).parents[2]
"""Where this package lies, which may be a copy of it in an export."""
Size = int | Sequence[int]


@dataclass(frozen=True)
class Dialect:
    """A way to spell such kernels."""

    name: str
    """What it is called."""
    warp: int
    """Threads of a warp of the devices that it is for."""
    flags: tuple[str, ...] = ()
    """That every compiler here is given, before those of a source."""


def load(
    dialect: Dialect, folder: Path, source: str, kernel: str, flags: Sequence[str]
) -> "Kernel":
    """An `extern "C" __global__` function of `source`, a file in a folder.

    Raises:
        ValueError: there is no such kernel in it.
        OSError: the file is missing.
    """
    known = simt.kernels_of((folder / source).read_text())
    if kernel not in known:
        listed = ", ".join(known) or "none"
        raise ValueError(
            f'{source} has no extern "C" __global__ function {kernel!r}; it has {listed}'
        )
    return Kernel(dialect, folder, source, kernel, tuple(flags))


def built_path(folder: Path, source: str, flags: Sequence[str]) -> Path:
    """Where the emulated build of `source` lies; what belongs to it has the same stem."""
    state = hashlib.sha256(repr((source, tuple(flags))).encode())
    for path in sorted(p for p in folder.iterdir() if p.suffix in SOURCES and is_plain(p)):
        state.update(f"{path.name}\0".encode() + path.read_bytes() + b"\0")
    return folder / BUILD_FOLDER / f"{state.hexdigest()[:32]}.so"


def device_stem(folder: Path, source: str, flags: Sequence[str], arch: str) -> Path:
    """Of the `.cubin` and the `.ptx` of `source` for an architecture."""
    built = built_path(folder, source, flags)
    return built.with_name(f"{built.stem}-{arch}")


def compile_command(
    compiler: str, source: str, arch: str, stem: Path, flags: Sequence[str]
) -> list[str]:
    """Makes what lies at `device_stem`, in the folder of the source, by a module of ours."""
    return [sys.executable, "-m", compiler, source, arch, str(stem), *flags]


def prepare(
    dialect: Dialect, folder: Path, source: str, flags: Sequence[str], built: Path
) -> list[list[str]]:
    """Write what the emulator's compiler reads, and the commands that make `built` of it.

    Raises:
        Unemulated: the source uses what is not there on a processor.
    """
    text = (folder / source).read_text()
    translated = built.with_suffix("") / source
    translated.parent.mkdir(parents=True, exist_ok=True)
    translated.write_text(simt.translated(text, source, simt.kernels_of(text)))
    defines = [flag for flag in flags if flag.startswith(DEFINES)]
    given = [*dialect.flags, *defines, "-I", str(folder)]
    return simt.commands(str(translated), built, given, dialect.warp)


class Kernel:
    """One kernel, ready to be launched."""

    def __init__(
        self, dialect: Dialect, folder: Path, source: str, name: str, flags: Sequence[str]
    ) -> None:
        self.name = name
        self._dialect = dialect
        self._source = folder, source, flags
        self._launches: dict[tuple[Any, ...], Launch] = {}

    def __getitem__(self, launch: tuple[Any, ...]) -> "Launch":
        """A launch with `[grid, block]` or `[grid, block, shared_bytes]`."""
        try:
            return self._launches[launch]
        except (KeyError, TypeError):
            return self._new(launch)

    def _new(self, launch: tuple[Any, ...]) -> "Launch":
        grid, block, shared = launch if len(launch) == 3 else (*launch, 0)
        made = Launch(self, _three(grid), _three(block), int(shared))
        with suppress(TypeError):  # a list is no key, and may change
            if len(self._launches) < KEPT_LAUNCHES:
                self._launches[launch] = made
        return made

    @cached_property
    def on_device(self) -> "DeviceKernel":
        """For the current device's architecture."""
        from torch.cuda import get_device_capability

        from kernelevolve.runtime.gpu import DeviceKernel

        folder, source, flags = self._source
        arch = "sm_{}{}".format(*get_device_capability())
        stem = device_stem(folder, source, flags, arch)
        if not stem.with_suffix(".cubin").exists():
            stem.parent.mkdir(exist_ok=True)
            given = [*self._dialect.flags, *flags]
            _compile(compile_command(nvrtc.__name__, source, arch, stem, given), folder)
            with suppress(OSError):  # launches take a few microseconds longer without it
                _compile(launcher.command(launcher.built_path(stem.parent)), folder)
        return DeviceKernel(stem, self.name)

    @cached_property
    def emulated(self) -> tuple[Path, int]:
        """The emulator's library, and bytes of shared memory that a block may have."""
        folder, source, flags = self._source
        built = built_path(folder, source, flags)
        if not built.exists():
            for command in prepare(self._dialect, folder, source, flags, built):
                _compile(command, folder)
        limit = built.with_suffix(".shared")
        return built, int(limit.read_text()) if limit.exists() else SHARED_LIMIT


class Launch:
    """A kernel with its grid, to be called with its arguments."""

    def __init__(self, kernel: Kernel, grid: list[int], block: list[int], shared: int) -> None:
        self._kernel, self._grid, self._block, self._shared = kernel, grid, block, shared
        self._size = *grid, *block, shared

    def __call__(self, *arguments: Any) -> None:
        """Where the tensors lie: queued on a GPU's current stream, or done by the emulator."""
        for argument in arguments:
            if hasattr(argument, "is_cuda"):
                if argument.is_cuda:
                    self._kernel.on_device.launch(argument.get_device(), self._size, arguments)
                    return
                break
        built, limit = self._kernel.emulated
        name = self._kernel.name
        simt.run(built, name, self._grid, self._block, self._shared, limit, arguments)


def _three(size: Size) -> list[int]:
    given = [size] if isinstance(size, int) else list(size)
    return [*map(int, given), 1, 1, 1][:3]


def _compile(command: Sequence[str], folder: Path) -> None:
    inherited = os.environ  # noqa: TID251  an export runs in its user's environment
    path = os.pathsep.join(filter(None, [str(ROOT), inherited.get("PYTHONPATH")]))
    environment = {**inherited, "PYTHONPATH": path}
    done = subprocess.run(  # noqa: S603
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        said = f"{done.stdout}{done.stderr}"[-4000:]
        raise OSError(f"{Path(command[0]).name} could not compile a kernel:\n{said}")
