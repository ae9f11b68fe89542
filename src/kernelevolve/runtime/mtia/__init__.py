"""Runs kernels for MTIA's processing elements on a simulator, with their simulated time.

A kernel is C++ against `include/mtia.h`, compiled by g++ and run in this process: two fibers for
each processing element, and a discrete-event model of its engines, circular buffers and memories.
What it computes is what the bytes are; how long it takes is simulated, and never measured.
docs/mtia.md says what the model knows and what it assumes.
"""

import ctypes
import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from kernelevolve.runtime.cpp import BUILD_FOLDER, SOURCES, is_plain
from kernelevolve.runtime.mtia import ledger
from kernelevolve.runtime.mtia.launch import (
    FAILURES,
    Deadlock,
    Event,
    Fault,
    Launch,
    Overtime,
    given,
)
from kernelevolve.runtime.mtia.ledger import Launched
from kernelevolve.runtime.mtia.machine import Machine, machines

__all__ = ["Deadlock", "Fault", "Kernel", "Overtime", "load", "timeline"]

HERE = Path(__file__).parent
SIMULATOR = "mtia.so"
USUAL_ARCH = "2i"
FLAGS = (
    *("-std=gnu++20", "-O3", "-march=native", "-fPIC", "-shared"),
    *("-fno-math-errno", "-fstack-clash-protection"),
)
SIMULATOR_FLAGS = (*FLAGS, "-ffp-contract=off", "-U_FORTIFY_SOURCE")
MOST_MS = 1000.0
"""Simulated time that one launch may take."""


def load(source: str, kernel: str, flags: Sequence[str] = ()) -> "Kernel":
    """A kernel of `source`, a file beside the caller's, which names it in `MTIA_KERNEL(...)`.

    Call it with what its function takes behind the core: a tensor arrives as `Global<T>`, a number
    as what the function declares.

    Raises:
        OSError: the file is missing or the compiler failed; the message holds its errors.
        ValueError: there is no such kernel in it.
    """
    folder = Path(sys._getframe(1).f_globals["__file__"]).resolve().parent
    return load_from(folder, source, kernel, flags)


def load_from(folder: Path, source: str, kernel: str, flags: Sequence[str] = ()) -> "Kernel":
    """`load` for a file in a folder that is named."""
    built = built_path(folder, source, flags)
    if not built.exists():
        built.parent.mkdir(exist_ok=True)
        build_simulator(built.with_name(SIMULATOR))
        _compile(command(source, flags, built), folder)
    return Kernel(built, kernel)


def built_path(folder: Path, source: str, flags: Sequence[str]) -> Path:
    """Where the build of `source` lies; the simulator lies beside it."""
    state = hashlib.sha256(repr((source, tuple(flags))).encode())
    for path in sorted(p for p in folder.iterdir() if p.suffix in SOURCES and is_plain(p)):
        state.update(f"{path.name}\0".encode() + path.read_bytes() + b"\0")
    return folder / BUILD_FOLDER / f"{state.hexdigest()[:32]}.so"


def command(source: str, flags: Sequence[str], built: Path) -> list[str]:
    """The compiler call that makes `built`, with the simulator beside it."""
    include, simulator = str(HERE / "include"), str(built.with_name(SIMULATOR))
    return [
        *("g++", *FLAGS, "-Wall", *flags, "-I", include, source, simulator),
        *("-Wl,-rpath,$ORIGIN", "-o", str(built)),
    ]


def build_simulator(path: Path) -> None:
    """Compile the simulator itself, unless it is there.

    Raises:
        OSError: the compiler failed.
    """
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".so", delete=False) as file:
        partial = Path(file.name)
    include, source = str(HERE / "include"), str(HERE / "simulator.cpp")
    _compile(["g++", *SIMULATOR_FLAGS, "-I", include, source, "-o", str(partial)], HERE)
    partial.chmod(0o755)
    partial.replace(path)


def simulator_key() -> str:
    """Changes with the simulator's sources and with this processor."""
    from kernelevolve.runtime.cpp import processor

    state = hashlib.sha256(f"{SIMULATOR_FLAGS}{processor()}".encode())
    for path in sorted([*HERE.glob("*.h"), *HERE.glob("*.cpp"), *HERE.glob("include/*")]):
        state.update(path.read_bytes())
    return state.hexdigest()[:32]


def _compile(arguments: Sequence[str], folder: Path) -> None:
    done = subprocess.run(  # noqa: S603
        arguments, cwd=folder, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise OSError(f"g++ could not compile a kernel:\n{done.stderr[-4000:]}")


@cache
def _library(path: str) -> ctypes.CDLL:
    return ctypes.CDLL(path)


class Kernel:
    """One kernel, launched by calling it."""

    def __init__(self, built: Path, name: str) -> None:
        self.name = name
        try:
            self._start = _library(str(built))[f"mtia_kernel_{name}"]
        except AttributeError as error:
            raise ValueError(f"the source has no MTIA_KERNEL({name})") from error
        arch = built.with_suffix(".arch")
        self.machine: Machine = machines()[arch.read_text() if arch.exists() else USUAL_ARCH]

    def __call__(self, *arguments: Any) -> None:
        """Run it on the whole chip, to its end.

        Raises:
            Fault: it did what its tools would report; the message begins with the source line.
            Deadlock: its cores and engines wait for each other.
            Overtime: it takes more simulated time than a launch may.
        """
        first, tracing = ledger.current.first(), ledger.current.tracing
        room = ledger.MOST_EVENTS if tracing else 0
        events = (Event * room)()
        integers, reals, regions, scratch = given(arguments, ledger.current.in_dram)
        partition = self.machine.partition
        used = -(-scratch // partition) * partition
        launch = Launch(
            ctypes.pointer(self.machine.given(first)),
            *(len(integers), integers, reals, len(regions), regions),
            max(partition, self.machine.sram_bytes - used),
            MOST_MS * 1e6 * self.machine["clock_ghz"],
            *(room, events),
        )
        code = self._start(ctypes.byref(launch))
        if code < 0:
            raise TypeError(f"{self.name} takes {-code - 1} arguments, {len(arguments)} were given")
        if code:
            raise self._failure(launch)
        ledger.current.add(Launched.of(self.name, self.machine, launch, events))

    def _failure(self, launch: Launch) -> Exception:
        where = f"{Path(os.fsdecode(launch.file)).name}:{launch.line}: " if launch.file else ""
        if launch.failure == Overtime.code:
            text = f"it had not ended after {MOST_MS:g} ms of simulated time; does its loop end?"
            return Overtime(f"{where}{self.name}: {text}")
        said = launch.message.decode(errors="replace")
        return FAILURES[launch.failure](f"{where}{self.name}: {said}")


@contextmanager
def timeline(path: str | Path) -> Iterator[None]:
    """Write what every engine did in the launches of the block, for ui.perfetto.dev to open."""
    with ledger.recording(tracing=True) as found:
        yield
    Path(path).write_text(found.timeline())
