"""How blocks of values are reduced: identities, steps, and what remains of a block."""

from __future__ import annotations

from collections.abc import Sequence

from kernelevolve.programmers.builtin.emit.expr import ARITHMETIC
from kernelevolve.programmers.builtin.emit.tiles import INTEGERS, points
from kernelevolve.programmers.builtin.emit.tiles_launch import indented
from kernelevolve.programmers.builtin.ir import DType, Pass, Reduction

LONG = 4096
"""What is reduced, from which on sharing a point is worth a second kernel."""
MANY = 64
"""Steps that one lane adds up in float32; more lose accuracy that the reference keeps."""
LIMITS = {"i64": 63, "i32": 31}
JOIN = {"sum": "{} + {}", "prod": "{} * {}", "max": "most_({}, {})", "min": "least_({}, {})"}
FOLD = {"prod": "times_", "max": "most_", "min": "least_"}
FIRST = {"argmax": "larger_first_", "argmin": "smaller_first_"}


def loop(stop: str, dim: int, inside: Sequence[str], first: str = "") -> list[str]:
    """A pass over all of an extent, or over the steps that begin at `first`."""
    shape = "[:, None]" if dim == 0 else "[None, :]"
    return [
        f"for start in range(0, {'STEPS * BLOCK' if first else stop}, BLOCK):",
        f"    at = ({first}start + tl.arange(0, BLOCK).to(INDEX)){shape}",
        f"    at_in = at < ({stop})",
        *indented(inside),
    ]


def summed(p: Pass, r: Reduction, single: bool) -> DType:
    """What is gathered; float64 for very long sums, and where that is for one number alone."""
    dtype = ARITHMETIC[r.value.dtype if r.kind.startswith("arg") else r.dtype]
    length = max(points(p.axes).values)
    many = r.kind == "sum" and (length > MANY * LONG or (single and length > MANY))
    return "f64" if many and dtype == "f32" else dtype


def folded(own: str, kind: str, dim: int, plain: bool = False) -> str:
    """A block reduced along a dimension; `plain` where NaN need not come through."""
    if kind == "sum":
        return f"tl.sum({own}, {dim}, keep_dims=True)"
    if plain:
        return f"tl.{kind}({own}, {dim}, keep_dims=True)"
    return f"tl.reduce({own}, {dim}, {FOLD[kind]}, keep_dims=True)"


def identity(kind: str, dtype: DType) -> float | int:
    """What a reduction begins with."""
    if kind in ("sum", "prod"):
        return 0 if kind == "sum" else 1
    least = kind.endswith("max")
    if dtype in INTEGERS:
        bits = LIMITS[dtype]
        return -(1 << bits) if least else (1 << bits) - 1
    return float("-inf") if least else float("inf")
