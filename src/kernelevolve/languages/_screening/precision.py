"""Tripwires for cheaper arithmetic, where a task asks for that of its reference."""

import ast
import re
from collections.abc import Iterator

from kernelevolve.core.task import Task
from kernelevolve.languages._screening.found import Found, Names

REASON = "less precision than the reference, in a task that forbids it"
NAMES = re.compile(
    r"torch\.(float16|half|bfloat16|float8_\w+|autocast|amp\b.*|cpu\.amp.*|cuda\.amp.*"
    r"|HalfTensor|BFloat16Tensor|quantiz\w+.*|ao\..*|quantize_per_\w+)"
    r"|numpy\.(float16|half)"
)
METHODS = ("half", "bfloat16")
TEXTS = ("float16", "bfloat16", "half")
NATIVE = re.compile(
    r"\b(_Float16|__fp16|__bf16|c10::Half|at::Half|c10::BFloat16|at::BFloat16|at::kHalf|at::kBFloat16"
    r"|torch::kFloat16|torch::kBFloat16|torch::kHalf|std::float16_t|std::bfloat16_t"
    r"|_mm\d*_\w*(cvtps_ph|cvtph_ps|cvtneps_?\w*bh|cvtne2ps\w*|dpbf16\w*|\w+_ph|rcp14\w*|rsqrt14\w*"
    r"|rcp_ps|rsqrt_ps)|__builtin_ia32_(rcp|rsqrt|vcvtps2ph|cvtneps2bf16|dpbf16)\w*)\b"
)
TYPES = re.compile(r"\s*(typedef|using)\b")
LOWER = re.compile(r"float16|half|quant|float8|autocast")


def in_python(tree: ast.Module, task: Task) -> Iterator[Found]:
    """Casts, dtypes and autocast."""
    if not _applies(task):
        return
    names = Names(tree)
    for node in ast.walk(tree):
        name = names.dotted(node) if isinstance(node, ast.Attribute | ast.Name) else None
        if name and NAMES.fullmatch(name):
            yield Found("precision", f"{name}: {REASON}", node.lineno)  # type: ignore[attr-defined]
        match node:
            case ast.Call(func=ast.Attribute(attr=method), args=[]) if method in METHODS:
                yield Found("precision", f".{method}(): {REASON}", node.lineno)
            case ast.Constant(value=text) if text in TEXTS:
                yield Found("precision", f"{text!r}: {REASON}", node.lineno)


def in_native(text: str, task: Task) -> Iterator[Found]:
    """Types and instructions of 16 bits and less, and approximate ones."""
    if not _applies(task):
        return
    for number, line in enumerate(text.splitlines(), 1):
        if TYPES.match(line):
            continue
        if match := NATIVE.search(line.partition("//")[0]):
            yield Found("precision", f"{match[0]}: {REASON}", number)


def _applies(task: Task) -> bool:
    """A reference that itself computes in less precision may be followed."""
    return task.precision == "strict" and not LOWER.search(task.source)
