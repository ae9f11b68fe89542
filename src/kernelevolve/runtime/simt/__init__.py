"""Runs CUDA and HIP kernels on the processor, and says by source line what they access wrongly.

One fiber stands for each thread of a block: barriers, shared memory, shuffles, votes and atomics
work as on a device, and nothing is fast. Reported are accesses outside of what a kernel was given,
misaligned ones, shared memory that is read before the block wrote it, and what threads write and
read with no barrier between. Kernels are plain `extern "C" __global__` functions; textures, tensor
core instructions, asynchronous copies and inline assembly are not there. Of cooperative groups
there are blocks and tiles of a warp.
"""

import ctypes
import re
import shutil
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
COMPILE = (
    "-std=gnu++20",
    "-O1",
    "-g",
    "-fPIC",
    "-fno-gnu-unique",
    "-fno-strict-aliasing",
    "-fwrapv",
    "-w",
    "-fno-threadsafe-statics",
)
HOOKED = ("-fsanitize=thread", "-fsanitize=alignment", "--param=tsan-instrument-func-entry-exit=0")
RUNTIME_FLAGS = ("-std=gnu++20", "-O2", "-fPIC", "-U_FORTIFY_SOURCE", "-shared", "-ldl")
DYNAMIC = re.compile(
    r"extern\s+__shared__\s+((?:__align__|alignas)\s*\([^)]*\)\s*)?"
    r"([\w:<>,\s]+?)\s+((?:__align__|alignas)\s*\([^)]*\)\s*)?(\w+)\s*\[\s*\]\s*;"
)
STATIC_SHARED = re.compile(r"static\s+__shared__|__shared__\s+static\b")
GLOBAL = re.compile(r"^(\s*(?:static\s+)?)__device__(?=[^;{}()]*(=[^;]*)?;)", re.MULTILINE)
IMAGE = (
    'extern "C" __attribute__((visibility("hidden"))) char __ehdr_start[], __bss_start[], _end[];'
)
"""The linker's own names for where a library begins, its zeroed data, and where it ends."""
COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
EXTERN_BLOCK = re.compile(r"\bextern_C\s*\{")
KERNEL = re.compile(
    r"(?P<extern>\bextern_C\s+)?(?:static\s+|inline\s+)*__global__\s+"
    r"(?:__\w+__\s*(?:\([^)]*\))?\s*)*void\s+(?:__\w+__\s*(?:\([^)]*\))?\s*)*(?P<name>\w+)\s*\("
)
INCLUDED = re.compile(r"^\s*#\s*include\s*[<\"](mma|cuda_pipeline|cuda/)", re.M)
EMULATED = "SIMT_EMULATED"
"""Defined here only: what stands behind `#ifndef SIMT_EMULATED` is for devices."""
CONDITION = re.compile(r"\s*#\s*(?P<word>ifdef|ifndef|if|else|endif)\b\s*(?P<name>\w+)?")
ASSEMBLY = re.compile(r"\basm\s*(volatile\s*)?\(")


class Unemulated(ValueError):
    """What a kernel uses is not there on a processor."""


class Fault(RuntimeError):
    """A kernel did what would be an error, or undefined, on a device."""


class Region(ctypes.Structure):
    """Memory that a kernel was given."""

    _fields_ = (("base", ctypes.c_uint64), ("bytes", ctypes.c_uint64), ("number", ctypes.c_int64))


class Launch(ctypes.Structure):
    """`simt_launch` of launch.h."""

    _fields_ = (
        ("grid", ctypes.c_uint32 * 3),
        ("block", ctypes.c_uint32 * 3),
        ("dynamic_shared", ctypes.c_uint64),
        ("shared_limit", ctypes.c_uint64),
        ("count", ctypes.c_int64),
        ("integers", ctypes.POINTER(ctypes.c_int64)),
        ("reals", ctypes.POINTER(ctypes.c_double)),
        ("regions", ctypes.c_int64),
        ("region", ctypes.POINTER(Region)),
        ("pc", ctypes.c_uint64),
        ("other_pc", ctypes.c_uint64),
        ("message", ctypes.c_char * 512),
    )


def kernels_of(text: str) -> list[str]:
    """Names of a source's `extern "C" __global__` functions."""
    text = COMMENT.sub(lambda found: " " + "\n" * found[0].count("\n"), text)
    text = text.replace('extern "C"', "extern_C")
    blocks = [_block(text, found.end()) for found in EXTERN_BLOCK.finditer(text)]
    return [
        found["name"]
        for found in KERNEL.finditer(text)
        if found["extern"] or any(begin < found.start() < end for begin, end in blocks)
    ]


def _block(text: str, begin: int) -> tuple[int, int]:
    """From behind an opening brace to its closing one."""
    depth, at = 1, begin
    while depth and at < len(text):
        depth += {"{": 1, "}": -1}.get(text[at], 0)
        at += 1
    return begin, at


def _active(text: str) -> str:
    """The text without what stands there for devices only, line by line."""
    lines: list[str] = []
    inside: list[tuple[bool, bool]] = []
    """Of each open condition: whether it asks for the emulator, and whether this is not for it."""
    for line in text.splitlines():
        found = CONDITION.match(line)
        if found and found["word"].startswith("if"):
            asks = found["name"] == EMULATED
            inside.append((asks, asks and found["word"] == "ifndef"))
        elif found and found["word"] == "else" and inside:
            asks, left_out = inside[-1]
            inside[-1] = (asks, asks and not left_out)
        elif found and found["word"] == "endif" and inside:
            inside.pop()
        lines.append("" if any(left_out for _, left_out in inside) else line)
    return "\n".join(lines)


def translated(text: str, name: str, kernels: Sequence[str]) -> str:
    """C++ that g++ compiles, line by line what the CUDA text is.

    Raises:
        Unemulated: it uses what is not there on a processor.
    """
    active = _active(text)
    for pattern, what in ((INCLUDED, "a header for devices only"), (ASSEMBLY, "inline assembly")):
        if found := pattern.search(active):
            line = text.count("\n", 0, found.end()) + 1
            raise Unemulated(f"{name}:{line}: {what} cannot be emulated on a processor")
    text = DYNAMIC.sub(r"static \2* const \4 = (\2*)simt_dynamic_memory;", text)
    text = STATIC_SHARED.sub("__shared__", text)
    text = GLOBAL.sub(r'\1__attribute__((section("simt_global")))', text)
    starts = "".join(
        f'extern "C" int simt_start_{kernel}(simt_launch* launch) '
        f"{{ return simt::start(launch, {kernel}, "
        "{__ehdr_start, __bss_start, _end}); }\n"
        for kernel in kernels
    )
    return f'#line 1 "{name}"\n{text}\n#line 1 "launch"\n{IMAGE}\n{starts}'


def commands(source: str, built: Path, flags: Sequence[str], warp: int = 32) -> list[list[str]]:
    """Compiler calls that make `built` of a translated source, and the emulator beside it.

    Args:
        source: the translated source.
        built: what they make.
        flags: for the source.
        warp: threads of a warp, 32 or 64.
    """
    runtime, compiled = built.with_name(f"simt{warp}.so"), built.with_suffix(".o")
    wide = f"-DSIMT_WARP={warp}"
    found = [
        ["g++", *COMPILE, *HOOKED, wide, *flags, "-include", str(HERE / "simt.h")]
        + ["-I", str(HERE / "include"), "-c", "-x", "c++", source, "-o", str(compiled)],
        ["g++", "-shared", "-nostartfiles", str(compiled), str(runtime)]
        + ["-Wl,-rpath,$ORIGIN", "-o", str(built)],
    ]
    if runtime.exists():
        return found
    return [["g++", *RUNTIME_FLAGS, wide, str(HERE / "simt.cpp"), "-o", str(runtime)], *found]


@cache
def _library(path: str) -> ctypes.CDLL:
    return ctypes.CDLL(path)


def run(
    built: Path,
    kernel: str,
    grid: Sequence[int],
    block: Sequence[int],
    shared: int,
    limit: int,
    arguments: Sequence[Any],
) -> None:
    """Launch and wait.

    Args:
        built: the library that `commands` made.
        kernel: its name.
        grid: blocks in x, y and z.
        block: threads in x, y and z.
        shared: bytes of dynamic shared memory.
        limit: bytes of shared memory that a block may have.
        arguments: tensors in host memory, numbers, and None for a null pointer.

    Raises:
        Fault: the kernel did something wrong; the message begins with the source line.
    """
    integers, reals, regions = _arguments(arguments)
    launch = Launch(
        (ctypes.c_uint32 * 3)(*grid),
        (ctypes.c_uint32 * 3)(*block),
        shared,
        limit,
        len(arguments),
        (ctypes.c_int64 * len(integers))(*integers),
        (ctypes.c_double * len(reals))(*reals),
        len(regions),
        (Region * len(regions))(*regions),
    )
    if _library(str(built))[f"simt_start_{kernel}"](ctypes.byref(launch)):
        told = f"{_line(built, launch.pc)}{kernel}: {launch.message.decode(errors='replace')}"
        if other := _line(built, launch.other_pc):
            told += f"; the other access is at {other.removesuffix(': ')}"
        raise Fault(told)


def _arguments(arguments: Sequence[Any]) -> tuple[list[int], list[float], list[Region]]:
    integers, reals, regions = [], [], []
    for number, argument in enumerate(arguments):
        if hasattr(argument, "data_ptr"):
            span = sum((n - 1) * s for n, s in zip(argument.shape, argument.stride(), strict=True))
            size = (span + 1) * argument.element_size() if argument.numel() else 0
            regions.append(Region(argument.data_ptr(), size, number + 1))
            argument = argument.data_ptr()
        real = float(argument or 0)
        integers.append(int(argument or 0) if real - real == 0 else 0)
        reals.append(real)
    return integers, reals, regions


def _line(built: Path, pc: int) -> str:
    """`kernel.cu:12: ` of an address in a library, by the first frame that is not our own."""
    tool = shutil.which("addr2line")
    if not pc or tool is None:
        return ""
    command = [tool, "-i", "-e", str(built), hex(pc - 1)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    for frame in done.stdout.splitlines():
        path, _, line = frame.split(" ")[0].rpartition(":")
        if line.isdigit() and Path(path).suffix != ".h":
            return f"{Path(path).name}:{line}: "
    return ""
