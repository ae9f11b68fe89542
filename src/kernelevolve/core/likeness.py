"""How alike two tasks are: by the operators that their references name, and by their sizes."""

import ast
import math
import re
from collections.abc import Iterator
from functools import cache
from statistics import median

from kernelevolve.core.task import Task

OPERATORS = 0.75
"""Share of the likeness that shared operators make."""
SIZES = 0.25
"""Share that the closeness of sizes makes."""
UNKNOWN = 0.5
"""Closeness where a task does not say its sizes."""
FADING = 4.0
"""Two tasks whose numbers of elements differ by 2 to this power are half as close."""

SAME = {
    **dict.fromkeys(("addmm", "baddbmm", "bmm", "linear", "mm", "mv"), "matmul"),
    "multiheadattention": "scaleddotproductattention",
    "rsqrt": "sqrt",
    "square": "pow",
}
"""Names of what a kernel does in the same way."""
_HOUSEKEEPING = (
    "arange bool clone contiguous dict device double empty eval expand fill flatten float forward"
    " full get getattr half init int isinstance item len linspace list long module modulelist new"
    " numel ones oneslike parameter permute print rand randint randn range registerbuffer repeat"
    " reshape reversed sequential shape size split squeeze stack stride super t tensor to train"
    " transpose tuple type typeas unsqueeze view zeros zeroslike zip"
)
NO_OPERATOR = frozenset(_HOUSEKEEPING.split())
"""What makes, moves or names tensors, and Python itself."""
MADE_BY = ("get_inputs", "get_init_inputs")


def likeness(one: Task, other: Task) -> float:
    """From 0 to 1: shared operators (Jaccard's index) and close sizes, weighed."""
    mine, theirs = operators(one), operators(other)
    shared = len(mine & theirs) / max(1, len(mine | theirs))
    return OPERATORS * shared + SIZES * _closeness(one, other)


def operators(task: Task) -> frozenset[str]:
    """What its reference calls; of a program without source, the words that describe it."""
    if not task.source:
        words = re.findall(r"[a-z]{3,}", f"{task.name} {task.statement}".lower())
        return frozenset(_named(words))
    return _operators(task.source)


@cache
def _operators(source: str) -> frozenset[str]:
    try:
        body = ast.parse(source).body
    except (SyntaxError, ValueError):
        return frozenset()
    used = [s for s in body if getattr(s, "name", None) not in MADE_BY]
    nodes = [node for statement in used for node in ast.walk(statement)]
    own = {n.name for n in nodes if isinstance(n, ast.FunctionDef | ast.ClassDef)}
    return frozenset(_named(name for node in nodes for name in _called(node) if name not in own))


def _called(node: ast.AST) -> Iterator[str]:
    """A module that the task made is called by a name of its own, which says nothing."""
    match node:
        case ast.Call(func=ast.Attribute(value=ast.Name(id="self"))):
            return
        case ast.Call(func=ast.Attribute(attr=name)) | ast.Call(func=ast.Name(id=name)):
            yield name
        case ast.BinOp(op=ast.MatMult()):
            yield "matmul"
        case _:
            return


def _named(words: Iterator[str] | list[str]) -> Iterator[str]:
    for word in words:
        name = word.lower().replace("_", "")
        if name and name not in NO_OPERATOR:
            yield SAME.get(name, name)


def _closeness(one: Task, other: Task) -> float:
    mine, theirs = _magnitude(one), _magnitude(other)
    if mine is None or theirs is None:
        return UNKNOWN
    return float(2.0 ** (-abs(mine - theirs) / FADING))


def _magnitude(task: Task) -> float | None:
    """Logarithm of the product of a usual workload's sizes; None where none is given."""
    found = []
    for workload in task.shown:
        sizes = [s for s in workload.sizes.values() if type(s) is int and s > 0]
        if sizes:
            found.append(math.log2(math.prod(sizes)))
    return median(found) if found else None
