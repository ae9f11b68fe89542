"""Writes down the calls of a candidate's native functions, to repeat them elsewhere. In runners.

A record is a count of calls, and for each: library, function, the memories that its tensors lie
in, and its arguments: a tensor is the number of a memory and an offset, an integer is -1, a float
-2, each with its value. Integers have 8 bytes, texts and memories their length before them.
"""

import ctypes
import struct
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from kernelevolve.evaluation.races import WATCHED
from kernelevolve.runtime import cpp

INTEGER, DOUBLE = -1, -2
MOST_INTEGERS, MOST_DOUBLES = 32, 8
MOST_BYTES = 128 << 20
FILE = Path("/tmp/calls")  # noqa: S108 - the runner's own
SAID = 1 << 16
OPTIONS = {
    "TSAN_OPTIONS": "halt_on_error=1:exitcode=66:report_thread_leaks=0:detect_deadlocks=0:"
    "report_signal_unsafe=0:report_destroy_locked=0"
}


class Recorder:
    """Every call through `kernelevolve.runtime.cpp` since it was made."""

    def __init__(self) -> None:
        self.calls: list[bytes] = []
        self.left = MOST_BYTES
        self.missed = ""
        """Why some call is not among them."""
        original = cpp.Library.__getattr__

        def recorded(library: cpp.Library, name: str) -> Callable[..., None]:
            function = original(library, name)

            def call(*arguments: Any) -> None:
                self._note(library, name, arguments)
                function(*arguments)

            setattr(library, name, call)
            return call

        cpp.Library.__getattr__ = recorded  # type: ignore[method-assign]

    def _note(self, library: cpp.Library, name: str, arguments: Sequence[Any]) -> None:
        doubles = sum(isinstance(a, float) for a in arguments)
        if doubles > MOST_DOUBLES or len(arguments) - doubles > MOST_INTEGERS:
            self.missed = f"{name} has too many arguments"
            return
        tensors = [a for a in arguments if isinstance(a, Tensor)]
        storages = {s.data_ptr(): s for s in (t.untyped_storage() for t in tensors)}
        self.left -= sum(s.nbytes() for s in storages.values())
        if self.left < 0:
            self.missed = f"at most {MOST_BYTES >> 20} MB of calls are repeated"
            return
        places = {address: number for number, address in enumerate(storages)}
        memories = [ctypes.string_at(a, s.nbytes()) for a, s in storages.items()]
        fields = [_text(f"{library._library._name}{WATCHED}".encode()), _text(name.encode())]
        fields += [_integers(len(memories)), *map(_text, memories), _integers(len(arguments))]
        fields += [_argument(a, places) for a in arguments]
        self.calls.append(b"".join(fields))

    def repeat(self, command: str, seconds: float) -> str:
        """Make the calls again in a process of its own; what it said."""
        FILE.write_bytes(_integers(len(self.calls)) + b"".join(self.calls))
        self.calls, self.left, self.missed = [], MOST_BYTES, ""
        try:
            done = subprocess.run(  # noqa: S603
                [command, str(FILE)],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                timeout=seconds,
                env=OPTIONS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            self.missed = f"the calls took longer than {seconds:g} s with checks for races"
            return ""
        if done.returncode not in (0, 66):
            self.missed = f"the calls could not be repeated alone (code {done.returncode})"
        return done.stderr[:SAID].decode(errors="replace")


def _integers(*values: int) -> bytes:
    return struct.pack(f"={len(values)}q", *values)


def _text(data: bytes) -> bytes:
    return _integers(len(data)) + data


def _argument(value: Any, places: dict[int, int]) -> bytes:
    if isinstance(value, Tensor):
        base = value.untyped_storage().data_ptr()
        return _integers(places[base], value.data_ptr() - base)
    if isinstance(value, float):
        return _integers(DOUBLE) + struct.pack("=d", value)
    return _integers(INTEGER, 0 if value is None else int(value))
