"""From what `capture` answered and a plan to the files of a candidate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from kernelevolve.programmers.builtin.emit.kernel import Segment, Setting, kernel_source, segments
from kernelevolve.programmers.builtin.emit.module import NoClass, fallback_module, module_source
from kernelevolve.programmers.builtin.ir import Contraction, MapReduce
from kernelevolve.programmers.builtin.lower import lower
from kernelevolve.programmers.builtin.prims import Builder, Program
from kernelevolve.programmers.builtin.regions import NotPartitioned, Partition, partition
from kernelevolve.programmers.builtin.rewrite import rewrite
from kernelevolve.programmers.builtin.rules import NoRule
from kernelevolve.programmers.builtin.schedule import Plan
from kernelevolve.programmers.builtin.unify import NotUnified, Traced, unify


@dataclass(frozen=True, eq=False)
class Model:
    """A task as the built-in programmer sees it."""

    source: str
    """The task's text, whose constructor the candidate keeps."""
    traced: Traced | None
    """None where it could not be captured."""
    message: str = ""
    """Why not."""


@dataclass(frozen=True)
class Rendered:
    """A candidate's files and what they are."""

    files: Mapping[str, str]
    fallback: bool
    """The whole task is left to library calls."""
    algebraic: bool
    """A rewrite changed the arithmetic itself."""
    message: str = ""
    """What was left to the library, and why."""


def model_of(source: str, answer: Mapping[str, Any]) -> Model:
    """The task from what `capture` answered; never raises for what it cannot express."""
    try:
        return Model(source, unify(answer))
    except NotUnified as reason:
        return Model(source, None, str(reason))


@lru_cache(maxsize=64)
def program_of(model: Model, algebra: bool, library: bool) -> tuple[Program, bool]:
    """The model in primitives, and whether algebra changed it."""
    assert model.traced is not None
    build = Builder()
    return rewrite(lower(model.traced, build), build, algebra, library)


@lru_cache(maxsize=64)
def partition_of(
    model: Model, cuts: tuple[int, ...], prologues: bool, algebra: bool, library: bool
) -> tuple[Partition, bool]:
    """The regions under a plan, without its cuts where those are not possible."""
    program, algebraic = program_of(model, algebra, library)
    try:
        return partition(program, cuts, prologues), algebraic
    except NotPartitioned:
        if not cuts and not prologues:
            raise
        return partition(program), algebraic


def setting_of(model: Model, plan: Plan) -> tuple[Setting, bool]:
    """Everything that emission needs."""
    assert model.traced is not None
    regions, algebraic = partition_of(model, plan.cuts, plan.prologues, plan.algebra, plan.library)
    dtypes = {b.name: b.dtype for b in regions.buffers.values()}
    dtypes |= {n.attr[0]: n.dtype for n in regions.inputs}
    weights = {p.name for p in model.traced.placeholders if p.kind != "user_input"}
    count = model.traced.workloads
    symbols = {s.name: s.size.values[:count] for s in model.traced.symbols}
    return Setting(regions, plan, symbols, dtypes, frozenset(weights)), algebraic


def render(model: Model, plan: Plan) -> Rendered:
    """The candidate that `plan` describes; the reference's own forward where nothing else works."""
    if model.traced is None:
        return _fallback(model, model.message)
    try:
        setting, algebraic = setting_of(model, plan)
        parts = segments(setting)
        text = module_source(model.source, model.traced, setting, parts)
    except (NotPartitioned, NoRule, NoClass) as reason:
        return _fallback(model, str(reason))
    kernel = kernel_source(setting, parts)
    if not kernel:
        return _fallback(model, "every operator is left to the library")
    left = [p.code for p in parts if not isinstance(p, Segment)]
    files = {"model.py": text, "kernel.cpp": kernel}
    return Rendered(files, False, algebraic, "; ".join(left)[:400])


def _fallback(model: Model, reason: str) -> Rendered:
    return Rendered({"model.py": fallback_module(model.source)}, True, False, reason)


def contractions_of(model: Model, plan: Plan) -> tuple[Setting, list[Contraction]]:
    """The products in a plan's partition."""
    setting, _ = setting_of(model, plan)
    return setting, [r for r in setting.partition.regions if isinstance(r, Contraction)]


def sweeps_of(model: Model, plan: Plan) -> list[MapReduce]:
    """The map/reduce regions in a plan's partition."""
    setting, _ = setting_of(model, plan)
    return [r for r in setting.partition.regions if isinstance(r, MapReduce)]
