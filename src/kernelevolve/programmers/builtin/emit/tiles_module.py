"""What `model.py` holds where regions run as Triton kernels: the kernels, and their launches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from kernelevolve.programmers.builtin.emit.contraction_stages import Stage, apart, chainable
from kernelevolve.programmers.builtin.emit.kernel import Segment, Setting, arguments_of, segments
from kernelevolve.programmers.builtin.emit.module import Backend, allocated
from kernelevolve.programmers.builtin.emit.replayed import graphed, loaded, together
from kernelevolve.programmers.builtin.emit.steps import Chained, Step, reads, writes
from kernelevolve.programmers.builtin.emit.tiles_chain import emit_chain
from kernelevolve.programmers.builtin.emit.tiles_fused import Fused, fused
from kernelevolve.programmers.builtin.emit.tiles_launch import Launch, prelude
from kernelevolve.programmers.builtin.emit.tiles_loops import emit_loops
from kernelevolve.programmers.builtin.emit.tiles_passing import emit_fused
from kernelevolve.programmers.builtin.emit.tiles_product import emit_product
from kernelevolve.programmers.builtin.ir import Contraction, MapReduce, Opaque, Scan

FARTHEST = 2**31 - 1
"""The last element that a 32-bit index reaches."""


def triton_source(setting: Setting, parts: Sequence[Segment | Opaque]) -> str:
    """All kernels; empty where nothing is native."""
    settings = [(setting, p) for p in parts]
    if setting.ahead is not None:
        settings += [(setting.ahead, p) for p in segments(setting.ahead)]
    found = [
        launch
        for own, p in settings
        if isinstance(p, Segment)
        for step in _steps(own, p)
        for launch in _emitted(own, step)
    ]
    before = [line for launch in found for line in (*launch.before, *launch.given)]
    texts = [launch.text for launch in found]
    return "\n".join([prelude("\n".join([*texts, *before])), *texts]) if found else ""


def triton_backend(setting: Setting, parts: Sequence[Segment | Opaque]) -> Backend:
    """The kernels as statements of the module."""
    several = [p for p in parts if isinstance(p, Segment) and graphed(setting, _count(setting, p))]
    return Backend(f"{triton_source(setting, parts)}\n{loaded(several)}", _launches)


def _steps(setting: Setting, segment: Segment) -> list[Step | Fused]:
    """What a segment runs, with regions over the same rows taken together."""
    plan = setting.plan
    return fused(segment.steps, segment.internal) if plan.chains else list(segment.steps)


def _emitted(setting: Setting, step: Step | Fused, near: str = "") -> list[Launch]:
    """The kernels of a step, with a short polynomial for what is rounded to 16 bits anyway."""
    made = _kernels(setting, step, near)
    narrow = all(setting.dtypes[b] in ("f16", "bf16") for b in _writes(step))
    if not (narrow and setting.plan.fast_math):
        return made
    return [replace(k, text=k.text.replace("tl.erf(", "short_erf_(")) for k in made]


def _kernels(setting: Setting, step: Step | Fused, near: str) -> list[Launch]:
    if isinstance(step, Fused):
        return emit_fused(step, list(setting.symbols), setting.plan.tiles)
    if isinstance(step, Chained):
        return _chained(setting, step, near)
    assert isinstance(step, MapReduce | Scan | Contraction)
    buffers, symbols, tiles = arguments_of(step), list(setting.symbols), setting.plan.tiles
    if isinstance(step, Contraction):
        return [emit_product(step, buffers, symbols, tiles)]
    return emit_loops(step, buffers, symbols, tiles)


def _chained(setting: Setting, chain: Chained, near: str) -> list[Launch]:
    """One kernel for a chain, without what can only come before it; else one for each stage."""
    symbols, plan = list(setting.symbols), setting.plan
    for count in range(1, len(chain.stages)):
        if apart(chain.stages, count):
            return [
                launch
                for stages in (chain.stages[:count], chain.stages[count:])
                for launch in _part(setting, chain, stages, near)
            ]
    buffers = [b for b in (*reads(chain), *writes(chain)) if b not in chain.local]
    whole = emit_chain(chain, buffers, symbols, plan.tiles, plan.algebra)
    if whole is not None:
        return [whole]
    first, *rest = chain.stages
    own = [b for b in writes(first) if b in chain.local]
    made = _kernels(setting, first, near)
    room = [allocated(setting, b, near=near) for b in own]
    made[0] = replace(made[0], before=(*room, *made[0].before))
    left = tuple(b for b in chain.local if b not in own)
    if isinstance(first, MapReduce) and chainable(rest):
        return made + _part(setting, replace(chain, local=left), rest, near)
    for stage in rest:
        launches = _kernels(setting, stage, near)
        room = [allocated(setting, b, near=near) for b in writes(stage) if b in left]
        launches[0] = replace(launches[0], before=(*room, *launches[0].before))
        made += launches
    return made


def _part(setting: Setting, chain: Chained, stages: Sequence[Stage], near: str) -> list[Launch]:
    """The kernels of some stages of a chain."""
    if len(stages) == 1:
        return _kernels(setting, stages[0], near)
    first = next(s for s in stages if isinstance(s, Contraction))
    part = replace(chain, name=f"chain_{first.name}", stages=tuple(stages))
    return _chained(setting, part, near)


def _writes(step: Step | Fused) -> tuple[str, ...]:
    return step.writes if isinstance(step, Fused) else writes(step)


def _count(setting: Setting, segment: Segment) -> int:
    """Its kernels."""
    return sum(len(_emitted(setting, step)) for step in _steps(setting, segment))


def _launches(setting: Setting, segment: Segment) -> list[str]:
    """Room for what the segment writes, and the launches of its regions."""
    near = segment.pointers[0]
    steps = _steps(setting, segment)
    written = list(dict.fromkeys(b for s in steps for b in _writes(s)))
    rooms = [allocated(setting, b, near=near) for b in written if b not in segment.internal]
    lines = [allocated(setting, b, near=near) for b in written if b in segment.internal]
    every = dict.fromkeys([*segment.pointers, *written])
    longest = ", ".join(f"{name}.numel()" for name in every)
    wide = f"max({longest})" if len(every) > 1 else longest
    lines.append(f"index = tl.int64 if {wide} > {FARTHEST} else tl.int32")
    for step in steps:
        for launch in _emitted(setting, step, near):
            lines += launch.before
            lines.append(f"{launch.name}[{launch.grid}]({', '.join(launch.given)})")
    if graphed(setting, _count(setting, segment)):
        return together(setting, segment, rooms, lines)
    return [*rooms, *lines]
