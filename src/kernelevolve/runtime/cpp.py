"""Loads C++ that lies beside a candidate's `model.py`: built ahead by content, or on first use."""

import ctypes
import hashlib
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

BUILD_FOLDER = ".build"
DEFAULT_FLAGS = ("-O3", "-march=native")
REQUIRED_FLAGS = ("-std=c++17", "-shared", "-fPIC")
SOURCES = (".cpp", ".h", ".hpp", ".inc")
FLOATING_POINT_BYTES = 64


def load(source: str, flags: Sequence[str] = DEFAULT_FLAGS) -> "Library":
    """The library built from `source`, a file beside the caller's.

    It is looked for under `.build/`, by content, flags and processor, and compiled with g++
    where it is missing. Functions must be `extern "C"` and return nothing: a tensor argument
    arrives as its data pointer, an int as `int64_t`, a float as `double`, None as a null pointer.

    Raises:
        OSError: the file is missing or the compiler failed; the message holds its errors.
    """
    folder = Path(sys._getframe(1).f_globals["__file__"]).resolve().parent
    built = library_path(folder, source, flags)
    if not built.exists():
        compile_library(folder, source, flags, built)
    return Library(built)


def library_path(folder: Path, source: str, flags: Sequence[str]) -> Path:
    """Where the build of `source` with `flags` on this processor lies."""
    state = hashlib.sha256(repr((source, tuple(flags), processor())).encode())
    for path in sorted(p for p in folder.iterdir() if p.suffix in SOURCES and is_plain(p)):
        state.update(f"{path.name}\0".encode() + path.read_bytes() + b"\0")
    return folder / BUILD_FOLDER / f"{state.hexdigest()[:32]}.so"


def is_plain(path: Path) -> bool:
    """Whether it is a file of its own: no link that leads elsewhere, nothing that blocks."""
    return path.is_file() and not path.is_symlink()


def command(source: str, flags: Sequence[str], built: Path) -> list[str]:
    """The compiler call that makes `built`."""
    return ["g++", *REQUIRED_FLAGS, *flags, "-o", str(built), source]


def compile_library(folder: Path, source: str, flags: Sequence[str], built: Path) -> None:
    """Compile into `built`.

    Raises:
        OSError: the compiler failed, or the folder cannot be written.
    """
    built.parent.mkdir(exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=built.parent, suffix=".so", delete=False) as file:
        partial = Path(file.name)
    done = subprocess.run(  # noqa: S603
        command(source, flags, partial), cwd=folder, capture_output=True, text=True, check=False
    )
    if done.returncode:
        partial.unlink()
        raise OSError(f"g++ could not compile {source}:\n{done.stderr[-4000:]}")
    partial.replace(built)


@cache
def processor() -> str:
    """What `-march=native` depends on: machine type and the processor's feature flags."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    wanted = ("model name", "flags", "Features", "CPU part")
    return platform.machine() + "".join(sorted({x for x in lines if x.startswith(wanted)}))


@contextmanager
def _same_floating_point() -> Iterator[None]:
    """A library that g++ linked with -ffast-math makes its whole process flush denormals to zero.

    That is undone: kernels that want it set it for themselves, and back.
    """
    libm, modes = ctypes.CDLL(None), ctypes.create_string_buffer(FLOATING_POINT_BYTES)
    saved = libm.fegetenv(modes) == 0
    yield
    if saved:
        libm.fesetenv(modes)


class Library:
    """Functions of one shared library, called with tensors and numbers."""

    def __init__(self, path: Path) -> None:
        with _same_floating_point():
            self._library = ctypes.CDLL(str(path))

    def __getattr__(self, name: str) -> Callable[..., None]:
        """The function `name`, kept for later calls."""
        call = _callable(self._library[name])
        setattr(self, name, call)
        return call


def _callable(function: Any) -> Callable[..., None]:
    pointers: list[bool] = []
    function.restype = None

    def learn(arguments: Sequence[object]) -> None:
        pointers.extend(a is None or hasattr(a, "data_ptr") for a in arguments)
        function.argtypes = [
            ctypes.c_void_p
            if pointer
            else ctypes.c_double
            if isinstance(argument, float)
            else ctypes.c_int64
            for argument, pointer in zip(arguments, pointers, strict=True)
        ]

    def call(*arguments: Any) -> None:
        if not pointers:
            learn(arguments)
        function(
            *[
                a.data_ptr() if pointer and a is not None else a
                for a, pointer in zip(arguments, pointers, strict=True)
            ]
        )

    return call
