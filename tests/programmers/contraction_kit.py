"""Builds contractions from shapes and strides, compiles what is emitted for them, and calls it."""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from kernelevolve.programmers.builtin.emit.contraction import (
    buffers_of,
    contraction_prelude,
    emit_contraction,
)
from kernelevolve.programmers.builtin.emit.contraction_schedule import ContractionSchedule
from kernelevolve.programmers.builtin.emit.expr import prelude
from kernelevolve.programmers.builtin.ir import (
    Axis,
    Contraction,
    DType,
    Expr,
    Index,
    Load,
    Ref,
    Size,
    Store,
    Term,
)

FLAGS = ("-std=c++17", "-O1", "-march=native", "-mprefer-vector-width=512", "-fno-math-errno",
         "-fopenmp", "-shared", "-fPIC", "-w")  # fmt: skip


def symbol(name: str, *values: int) -> Size:
    return Size(name, values)


def index(**strides: Size | int) -> Index:
    terms = ((a, Size.of(s) if isinstance(s, int) else s) for a, s in strides.items())
    return Index(Size.of(0), tuple(Term(a, s) for a, s in terms))


def load(buffer: str, dtype: DType = "f32", **strides: Size | int) -> Load:
    return Load(dtype, buffer, index(**strides))


def bmm(
    sizes: tuple[Size, Size, Size, Size],
    a: Expr | None = None,
    b: Expr | None = None,
    value: Expr | None = None,
    out: Store | None = None,
    dtype: DType = "f32",
    name: str = "bmm",
) -> Contraction:
    """Batched, row-major, unless told otherwise; the axes are `i0 m n k`."""
    batch, m, n, k = sizes
    acc: DType = "f64" if dtype == "f64" else "f32"
    store = Store("out", dtype, index(i0=m * n, m=n, n=1), value or Ref(acc, "acc"))
    return Contraction(
        name,
        (Axis("i0", batch),),
        Axis("m", m),
        Axis("n", n),
        Axis("k", k),
        a or load("a", dtype, i0=m * k, m=k, k=1),
        b or load("b", dtype, i0=k * n, k=n, n=1),
        (out or store,),
    )


def source_of(
    pairs: Sequence[tuple[Contraction, ContractionSchedule]],
    symbols: Mapping[str, Sequence[int]],
    width: int = 16,
) -> str:
    emitted = [emit_contraction(c, s, symbols) for c, s in pairs]
    return "\n".join([prelude(width, False), contraction_prelude(), *emitted])


def compile_source(source: str, folder: Path, flags: Sequence[str] = ()) -> ctypes.CDLL:
    text = folder / "kernel.cpp"
    text.write_text(source)
    library = folder / "kernel.so"
    subprocess.run(["g++", *FLAGS, *flags, str(text), "-o", str(library)], check=True, timeout=60)
    return ctypes.CDLL(str(library))


def call(
    library: ctypes.CDLL,
    contraction: Contraction,
    arrays: Mapping[str, np.ndarray],
    sizes: Sequence[int],
    ahead: bool = False,
) -> None:
    """Run the emitted function on arrays by buffer name; the written ones are filled."""
    pointers = [ctypes.c_void_p(arrays[b.name].ctypes.data) for b in buffers_of(contraction)]
    numbers = [ctypes.c_int64(s) for s in sizes]
    ready = np.zeros(0, np.float32)
    if ahead:
        count = getattr(library, f"{contraction.name}_packed")
        count.restype = ctypes.c_int64
        double = any(x.dtype == np.float64 for x in arrays.values())
        ready = np.zeros(count(*numbers), np.float64 if double else np.float32)
        pack = getattr(library, f"{contraction.name}_pack")
        pack(*pointers, ctypes.c_void_p(ready.ctypes.data), *numbers)
    prepared = ctypes.c_void_p(ready.ctypes.data if ahead else None)
    getattr(library, contraction.name)(*pointers, prepared, *numbers)
