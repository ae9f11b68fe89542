"""What `model.py` holds where regions run as Triton kernels: the kernels, and their launches."""

from __future__ import annotations

from collections.abc import Sequence

from kernelevolve.programmers.builtin.emit.kernel import Segment, Setting, arguments_of, segments
from kernelevolve.programmers.builtin.emit.module import Backend, allocated
from kernelevolve.programmers.builtin.emit.steps import Step, writes
from kernelevolve.programmers.builtin.emit.tiles_launch import Launch, prelude
from kernelevolve.programmers.builtin.emit.tiles_loops import emit_loops
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
        for step in p.steps
        for launch in _emitted(own, step)
    ]
    before = [line for launch in found for line in (*launch.before, *launch.given)]
    texts = [launch.text for launch in found]
    return "\n".join([prelude("\n".join([*texts, *before])), *texts]) if found else ""


def triton_backend(setting: Setting, parts: Sequence[Segment | Opaque]) -> Backend:
    """The kernels as statements of the module."""
    return Backend(triton_source(setting, parts), _launches)


def _emitted(setting: Setting, step: Step) -> list[Launch]:
    assert isinstance(step, MapReduce | Scan | Contraction)
    buffers, symbols, tiles = arguments_of(step), list(setting.symbols), setting.plan.tiles
    if isinstance(step, Contraction):
        return [emit_product(step, buffers, symbols, tiles)]
    return emit_loops(step, buffers, symbols, tiles)


def _launches(setting: Setting, segment: Segment) -> list[str]:
    """Room for what the segment writes, and the launches of its regions."""
    written = list(dict.fromkeys(b for s in segment.steps for b in writes(s)))
    lines = [allocated(setting, name, near=segment.pointers[0]) for name in written]
    every = dict.fromkeys([*segment.pointers, *written])
    longest = ", ".join(f"{name}.numel()" for name in every)
    wide = f"max({longest})" if len(every) > 1 else longest
    lines.append(f"index = tl.int64 if {wide} > {FARTHEST} else tl.int32")
    for step in segment.steps:
        for launch in _emitted(setting, step):
            lines += launch.before
            lines.append(f"{launch.name}[{launch.grid}]({', '.join(launch.given)})")
    return lines
