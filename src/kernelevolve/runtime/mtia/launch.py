"""What a launch gives to the simulator and gets back, and how it can fail."""

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

from kernelevolve.runtime.mtia.machine import Constants

UNITS = ("fi_read", "fi_write", "dpe", "re", "se", "mlu", "core0", "core1")
KINDS = (
    *("map", "fold", "transpose", "multiply", "read", "write", "gather rows", "gather"),
    *("send", "receive"),
)


class Fault(RuntimeError):
    """A kernel did what would be an error on the chip."""


class Deadlock(Fault):
    """Cores and engines wait for each other."""


class Overtime(Fault, TimeoutError):
    """A kernel ran past the simulated time that a launch may take."""

    code = 3


FAILURES: dict[int, type[Fault]] = {1: Fault, 2: Deadlock, Overtime.code: Overtime}


class Region(ctypes.Structure):
    """A tensor that a kernel was given."""

    _fields_ = (
        ("base", ctypes.c_uint64),
        ("bytes", ctypes.c_uint64),
        ("argument", ctypes.c_int64),
        ("dram", ctypes.c_int64),
    )


class Event(ctypes.Structure):
    """What one engine did at a time."""

    _fields_ = (
        ("start", ctypes.c_double),
        ("end", ctypes.c_double),
        *((name, ctypes.c_int32) for name in ("pe", "unit", "kind", "line")),
    )


class Launch(ctypes.Structure):
    """`mtia_launch` of mtia_abi.h."""

    _fields_ = (
        ("machine", ctypes.POINTER(Constants)),
        ("count", ctypes.c_int64),
        ("integers", ctypes.POINTER(ctypes.c_int64)),
        ("reals", ctypes.POINTER(ctypes.c_double)),
        ("regions", ctypes.c_int64),
        ("region", ctypes.POINTER(Region)),
        ("cache_bytes", ctypes.c_double),
        ("most_cycles", ctypes.c_double),
        ("events", ctypes.c_int64),
        ("event", ctypes.POINTER(Event)),
        ("recorded", ctypes.c_int64),
        ("cycles", ctypes.c_double),
        ("busy", ctypes.c_double * len(UNITS)),
        ("stalled", ctypes.c_double * len(UNITS)),
        *(
            (name, ctypes.c_double)
            for name in (
                *("read_bytes", "written_bytes", "dram_bytes"),
                *("cache_hits", "cache_misses", "core_hits", "core_misses"),
            )
        ),
        ("failure", ctypes.c_int64),
        ("line", ctypes.c_int64),
        ("file", ctypes.c_char * 256),
        ("message", ctypes.c_char * 1024),
    )


def given(arguments: Sequence[Any], in_dram: Callable[[Any], bool]) -> tuple[Any, Any, Any, int]:
    """Arguments as integers, as numbers, the tensors among them, and their bytes in SRAM."""
    integers, reals, regions, scratch = [], [], [], 0
    for number, argument in enumerate(arguments):
        if hasattr(argument, "data_ptr"):
            span = sum((n - 1) * s for n, s in zip(argument.shape, argument.stride(), strict=True))
            size = (span + 1) * argument.element_size() if argument.numel() else 0
            far = in_dram(argument)
            scratch += 0 if far else size
            regions.append(Region(argument.data_ptr(), size, number + 1, far))
            argument = argument.data_ptr()
        real = float(argument or 0)
        integers.append(int(argument or 0) if real - real == 0 else 0)
        reals.append(real)
    return (
        (ctypes.c_int64 * len(integers))(*integers),
        (ctypes.c_double * len(reals))(*reals),
        (Region * len(regions))(*regions),
        scratch,
    )
