"""From what `capture` answered and a plan to the files of a candidate."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any

from kernelevolve.programmers.builtin.ahead import Known, Parts, split
from kernelevolve.programmers.builtin.emit.engine_module import engine_backend, engine_source
from kernelevolve.programmers.builtin.emit.engine_values import Unwritten
from kernelevolve.programmers.builtin.emit.kernel import Segment, Setting, kernel_source, segments
from kernelevolve.programmers.builtin.emit.module import (
    Backend,
    NoClass,
    cpp_backend,
    fallback_module,
    module_source,
)
from kernelevolve.programmers.builtin.emit.simt_module import simt_backend, simt_source
from kernelevolve.programmers.builtin.emit.spelling import CUDA, HIP
from kernelevolve.programmers.builtin.emit.tiles_module import triton_backend, triton_source
from kernelevolve.programmers.builtin.ir import Contraction, MapReduce, Opaque
from kernelevolve.programmers.builtin.lower import lower
from kernelevolve.programmers.builtin.prims import Builder
from kernelevolve.programmers.builtin.regions import NotPartitioned, Partition, partition
from kernelevolve.programmers.builtin.rewrite import (
    rewrite,
    with_convolutions,
    with_library,
)
from kernelevolve.programmers.builtin.rules import NoRule
from kernelevolve.programmers.builtin.schedule import Loops, Plan
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
    threads: int = 1
    """How many the target has for a kernel."""
    language: str = "cpp"
    """What its kernels are written in."""


Part = Segment | Opaque


@dataclass(frozen=True)
class Written:
    """What a language makes of a plan's regions."""

    file: str
    """Beside `model.py`; empty where that holds the kernels too."""
    source: Callable[[Setting, Sequence[Part]], str]
    """The text of the kernels; empty where nothing is native."""
    backend: Callable[[Setting, Sequence[Part]], Backend]
    fixed: Mapping[str, bool]
    """Decisions of a plan that are none in this language."""
    packs: bool
    """`prepare()` may pack the weights of products."""


LANGUAGES = {
    "cpp": Written("kernel.cpp", kernel_source, cpp_backend, {"convolve": False}, True),
    "cuda": Written(
        CUDA.file,
        partial(simt_source, CUDA),
        partial(simt_backend, CUDA),
        {"chains": False, "parallel": False},
        False,
    ),
    "hip": Written(
        HIP.file,
        partial(simt_source, HIP),
        partial(simt_backend, HIP),
        {"chains": False, "parallel": False, "graph": False},
        False,
    ),
    "triton": Written("", triton_source, triton_backend, {"parallel": False}, False),
    "mtia_cpp": Written(
        "kernel.cpp",
        engine_source,
        engine_backend,
        {"chains": False, "parallel": False, "prologues": False, "convolve": False},
        False,
    ),
}


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


def model_of(source: str, answer: Mapping[str, Any], threads: int = 1) -> Model:
    """The task from what `capture` answered; never raises for what it cannot express."""
    try:
        return Model(source, unify(answer), threads=threads)
    except NotUnified as reason:
        return Model(source, None, str(reason))
    except Exception as error:  # noqa: BLE001  what is not understood is left to the library
        return Model(source, None, said(error))


@dataclass(frozen=True)
class Programs(Parts):
    """A model in primitives: what runs in forward, and what `prepare()` holds for it."""

    algebraic: bool
    """Algebra changed the arithmetic."""


@lru_cache(maxsize=64)
def program_of(model: Model, algebra: bool, library: bool, convolve: bool) -> Programs:
    """The model in primitives; products that `prepare()` needs are always the library's."""
    traced, build = model.traced, Builder()
    assert traced is not None
    sizes = frozenset(s.name for s in traced.symbols if s.of_weights)
    known = Known(traced.constants, sizes)
    program, algebraic = lower(traced, build), False
    if algebra:
        program, algebraic = rewrite(program, build, known)
    if library:
        program = with_library(program, build)
    if convolve:
        program = with_convolutions(program, build)
    lifted = frozenset(p.name for p in traced.placeholders if p.lifted)
    parts = split(program, build, known, lifted)
    return Programs(parts.forward, with_library(parts.held, build), algebraic)


@lru_cache(maxsize=64)
def partition_of(
    model: Model,
    cuts: tuple[int, ...],
    prologues: bool,
    algebra: bool,
    library: bool,
    convolve: bool,
) -> Partition:
    """The regions of forward under a plan, without its cuts where those are not possible."""
    program = program_of(model, algebra, library, convolve).forward
    try:
        return partition(program, cuts, prologues)
    except NotPartitioned:
        if not cuts and not prologues:
            raise
        return partition(program)


def setting_of(model: Model, plan: Plan) -> tuple[Setting, bool]:
    """Everything that emission needs, and whether algebra changed the arithmetic."""
    plan = plan.model_copy(update=dict(LANGUAGES[model.language].fixed))
    arithmetic = (plan.algebra, plan.library, plan.convolve)
    programs = program_of(model, *arithmetic)
    regions = partition_of(model, plan.cuts, plan.prologues, *arithmetic)
    forward = _setting(model, plan, regions)
    if programs.held.outputs:
        loops = Loops(width=plan.loops.width)
        plain = Plan(loops=loops, fast_math=plan.fast_math, chains=False, huge_pages=False)
        ahead = _setting(model, plain, partition(programs.held, prefix="h"))
        forward = replace(forward, ahead=replace(ahead, label="ahead"))
    return forward, programs.algebraic


def _setting(model: Model, plan: Plan, regions: Partition) -> Setting:
    assert model.traced is not None
    dtypes = {b.name: b.dtype for b in regions.buffers.values()}
    dtypes |= {n.attr[0]: n.dtype for n in regions.inputs}
    changing = {p.name for p in model.traced.placeholders} - model.traced.constants
    weights = frozenset(n.attr[0] for n in regions.inputs) - changing
    count = model.traced.workloads
    symbols = {s.name: s.size.values[:count] for s in model.traced.symbols}
    packs = LANGUAGES[model.language].packs
    return Setting(regions, plan, symbols, dtypes, weights, packs=packs)


def render(model: Model, plan: Plan) -> Rendered:
    """The candidate that `plan` describes; the reference's own forward where nothing else works."""
    if model.traced is None:
        return _fallback(model, model.message)
    written = LANGUAGES[model.language]
    try:
        setting, algebraic = setting_of(model, plan)
        parts = segments(setting)
        backend = written.backend(setting, parts)
        text = module_source(model.source, model.traced, setting, parts, backend)
        kernel = written.source(setting, parts)
    except Unwritten as reason:
        return _fallback(model, f"left to PyTorch, because {reason}")
    except (NotPartitioned, NoRule, NoClass) as reason:
        return _fallback(model, str(reason))
    except Exception as error:  # noqa: BLE001  what is not understood is left to the library
        return _fallback(model, said(error))
    if not kernel:
        return _fallback(model, "every operator is left to the library")
    left = [p.code for p in parts if isinstance(p, Opaque) and p.writes]
    files = {"model.py": text} | ({written.file: kernel} if written.file else {})
    return Rendered(files, False, algebraic, "; ".join(left)[:400])


def said(error: Exception) -> str:
    """One line about something that this programmer did not foresee."""
    first = (str(error).strip().splitlines() or [""])[0]
    return f"not understood: {type(error).__name__}: {first}"[:300]


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
