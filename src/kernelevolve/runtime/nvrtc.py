"""`python -m kernelevolve.runtime.nvrtc SOURCE ARCH STEM FLAG…`: one CUDA C++ file to a cubin.

Writes STEM.cubin and STEM.ptx, prints the compiler's log, and ends with 1 where it failed. Needs
no GPU and no driver.
"""

import shutil
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ALWAYS = ("-std=c++17", "-lineinfo", "--ptxas-options=-v", "-default-device")


MATHS = """#pragma once
#define INFINITY __int_as_float(0x7f800000)
#define NAN __int_as_float(0x7fffffff)
"""
HEADERS = {
    **{name: f"#include <cuda/std/c{name[:-2]}>\n" for name in ("stdint.h", "limits.h", "float.h")},
    **{name: f"#include <cuda/std/{name}>\n" for name in ("cstdint", "climits", "cfloat")},
    "math.h": MATHS,
    "cmath": MATHS,
}
"""Of the standard ones, what kernels use; NVRTC brings none."""


def compile_file(source: str, arch: str, stem: Path, flags: list[str]) -> tuple[bool, str]:
    """Whether it compiled, and what the compiler said."""
    from cuda.bindings import nvrtc

    def asked(answer: tuple[Any, ...]) -> Any:
        code, *rest = answer
        if code != nvrtc.nvrtcResult.NVRTC_SUCCESS:
            raise RuntimeError(nvrtc.nvrtcGetErrorString(code)[1].decode())
        return rest[0] if rest else None

    def bytes_of(size: Any, get: Any) -> bytes:
        buffer: bytes = b" " * asked(size(program))
        asked(get(program, buffer))
        return buffer

    text = Path(source).read_bytes()
    names, headers = zip(*((n.encode(), t.encode()) for n, t in HEADERS.items()), strict=True)
    made = nvrtc.nvrtcCreateProgram(text, source.encode(), len(names), list(headers), list(names))
    program = asked(made)
    folders = [folder / "include" for folder in (*wheels(), *toolkit())]
    paths = [f"-I{place}" for folder in folders for place in (folder, folder / "cccl")]
    options = [f"--gpu-architecture={arch}", *ALWAYS, "-I.", *paths, *flags]
    done = nvrtc.nvrtcCompileProgram(program, len(options), [o.encode() for o in options])[0]
    log = bytes_of(nvrtc.nvrtcGetProgramLogSize, nvrtc.nvrtcGetProgramLog)
    fine = done == nvrtc.nvrtcResult.NVRTC_SUCCESS
    if fine:
        ptx = bytes_of(nvrtc.nvrtcGetPTXSize, nvrtc.nvrtcGetPTX)
        stem.with_suffix(".ptx").write_bytes(ptx.rstrip(b"\0"))
        cubin = bytes_of(nvrtc.nvrtcGetCUBINSize, nvrtc.nvrtcGetCUBIN)
        stem.with_suffix(".cubin").write_bytes(cubin)
    return fine, log.rstrip(b"\0 \n").decode(errors="replace")


def wheels() -> list[Path]:
    """Folders into which CUDA's wheels were installed."""
    found = find_spec("nvidia")
    places = (found and found.submodule_search_locations) or ()
    return [Path(place) / "cu13" for place in places]


def toolkit() -> list[Path]:
    """Folder of CUDA's own installation, where its compiler is on the path."""
    nvcc = shutil.which("nvcc") or shutil.which("/usr/local/cuda/bin/nvcc")
    return [Path(nvcc).resolve().parents[1]] if nvcc else []


if __name__ == "__main__":
    compiled, said = compile_file(sys.argv[1], sys.argv[2], Path(sys.argv[3]), sys.argv[4:])
    print(said)
    sys.exit(0 if compiled else 1)
