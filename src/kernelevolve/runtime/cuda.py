"""Loads CUDA C++ that lies beside a candidate's `model.py` and launches its kernels.

Tensors on a GPU are worked on there, by what NVRTC compiled for it; those in host memory by the
emulator (`kernelevolve.runtime.simt`). Either is built ahead by content, or on first use.
"""

import hashlib
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kernelevolve.runtime import nvrtc, simt
from kernelevolve.runtime.cpp import BUILD_FOLDER, is_plain

if TYPE_CHECKING:
    from kernelevolve.runtime.gpu import DeviceKernel

SOURCES = (".cu", ".cuh", ".h", ".hpp", ".inc")
SHARED_LIMIT = 48 << 10
"""Bytes of shared memory that a block of any device has, where a build does not say more."""
DEFINES = ("-D",)
Size = int | Sequence[int]


def load(source: str, kernel: str, flags: Sequence[str] = ()) -> "Kernel":
    """An `extern "C" __global__` function of `source`, a file beside the caller's.

    Launch it as `kernel[grid, block](...)` or `kernel[grid, block, shared_bytes](...)`, where grid
    and block are numbers or up to three of them. A tensor arrives as its data pointer, an int or a
    float as what the kernel declares, None as a null pointer.

    Raises:
        ValueError: there is no such kernel in it, or it cannot be emulated.
        OSError: the file is missing or the compiler failed; the message holds its errors.
    """
    folder = Path(sys._getframe(1).f_globals["__file__"]).resolve().parent
    known = simt.kernels_of((folder / source).read_text())
    if kernel not in known:
        listed = ", ".join(known) or "none"
        raise ValueError(
            f'{source} has no extern "C" __global__ function {kernel!r}; it has {listed}'
        )
    return Kernel(folder, source, kernel, tuple(flags))


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


def compile_command(source: str, arch: str, stem: Path, flags: Sequence[str]) -> list[str]:
    """Makes what lies at `device_stem`, in the folder of the source."""
    return [sys.executable, "-m", nvrtc.__name__, source, arch, str(stem), *flags]


def prepare(folder: Path, source: str, flags: Sequence[str], built: Path) -> list[list[str]]:
    """Write what the emulator's compiler reads, and the commands that make `built` of it.

    Raises:
        Unemulated: the source uses what is not there on a processor.
    """
    text = (folder / source).read_text()
    translated = built.with_suffix("") / source
    translated.parent.mkdir(parents=True, exist_ok=True)
    translated.write_text(simt.translated(text, source, simt.kernels_of(text)))
    defines = [flag for flag in flags if flag.startswith(DEFINES)]
    return simt.commands(str(translated), built, [*defines, "-I", str(folder)])


class Kernel:
    """One kernel, ready to be launched."""

    def __init__(self, folder: Path, source: str, name: str, flags: Sequence[str]) -> None:
        self.name = name
        self._source = folder, source, flags

    def __getitem__(self, launch: tuple[Any, ...]) -> Callable[..., None]:
        """A launch with `[grid, block]` or `[grid, block, shared_bytes]`."""
        grid, block, shared = launch if len(launch) == 3 else (*launch, 0)
        return lambda *arguments: self._launch(_three(grid), _three(block), int(shared), arguments)

    def _launch(
        self, grid: list[int], block: list[int], shared: int, arguments: Sequence[Any]
    ) -> None:
        if any(getattr(argument, "is_cuda", False) for argument in arguments):
            self._on_device.launch(grid, block, shared, arguments)
        else:
            built, limit = self._emulated
            simt.run(built, self.name, grid, block, shared, limit, arguments)

    @cached_property
    def _on_device(self) -> "DeviceKernel":
        """For the current device's architecture."""
        from torch.cuda import get_device_capability

        from kernelevolve.runtime.gpu import DeviceKernel

        folder, source, flags = self._source
        arch = "sm_{}{}".format(*get_device_capability())
        stem = device_stem(folder, source, flags, arch)
        if not stem.with_suffix(".cubin").exists():
            stem.parent.mkdir(exist_ok=True)
            _compile(compile_command(source, arch, stem, flags), folder)
        return DeviceKernel(stem, self.name)

    @cached_property
    def _emulated(self) -> tuple[Path, int]:
        """The emulator's library, and bytes of shared memory that a block may have."""
        folder, source, flags = self._source
        built = built_path(folder, source, flags)
        if not built.exists():
            for command in prepare(folder, source, flags, built):
                _compile(command, folder)
        limit = built.with_suffix(".shared")
        return built, int(limit.read_text()) if limit.exists() else SHARED_LIMIT


def _three(size: Size) -> list[int]:
    given = [size] if isinstance(size, int) else list(size)
    return [*map(int, given), 1, 1, 1][:3]


def _compile(command: Sequence[str], folder: Path) -> None:
    done = subprocess.run(  # noqa: S603
        command, cwd=folder, capture_output=True, text=True, check=False
    )
    if done.returncode:
        said = f"{done.stdout}{done.stderr}"[-4000:]
        raise OSError(f"{Path(command[0]).name} could not compile a kernel:\n{said}")
