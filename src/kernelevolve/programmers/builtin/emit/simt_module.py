"""What `model.py` and the file beside it hold where regions run as CUDA or HIP kernels."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from kernelevolve.programmers.builtin.emit.kernel import (
    Segment,
    Setting,
    arguments_of,
    parameters_of,
    segments,
)
from kernelevolve.programmers.builtin.emit.module import Backend, allocated, python
from kernelevolve.programmers.builtin.emit.replayed import graphed, together
from kernelevolve.programmers.builtin.emit.replayed import loaded as replayed
from kernelevolve.programmers.builtin.emit.simt import emit, prelude
from kernelevolve.programmers.builtin.emit.simt_kernel import Kernel
from kernelevolve.programmers.builtin.emit.simt_product import emit_product, product_prelude
from kernelevolve.programmers.builtin.emit.spelling import Spelling
from kernelevolve.programmers.builtin.emit.steps import Step, writes
from kernelevolve.programmers.builtin.ir import Contraction, MapReduce, Opaque, Scan

NARROW = 1 << 30
"""Elements of a buffer for which indices are 32-bit numbers, some of them outside of it."""


def simt_source(spelling: Spelling, setting: Setting, parts: Sequence[Segment | Opaque]) -> str:
    """The text of the kernels; empty where nothing is native."""
    settings = [(setting, p) for p in parts]
    if setting.ahead is not None:
        settings += [(setting.ahead, p) for p in segments(setting.ahead)]
    native = [(own, p) for own, p in settings if isinstance(p, Segment)]
    kernels = [k for own, p in native for k in _kernels(spelling, own, p)]
    if not kernels:
        return ""
    dtypes = frozenset(d for own, _ in settings for d in own.dtypes.values())
    text = [prelude(spelling, dtypes, setting.plan.fast_math)]
    steps = [s for _, p in native for s in p.steps]
    products = [s for s in steps if isinstance(s, Contraction)]
    text.append(product_prelude(products, spelling.tensor))
    text += [k.text for k in kernels]
    return "\n".join(text)


def simt_backend(
    spelling: Spelling, setting: Setting, parts: Sequence[Segment | Opaque]
) -> Backend:
    """How `model.py` loads and launches them."""
    every = list(parts) + ([] if setting.ahead is None else segments(setting.ahead))
    steps = [s for p in every if isinstance(p, Segment) for s in p.steps]
    names = [n for s in steps for n in (s.name, *_wide(s))]
    file, flags = repr(spelling.file), list(spelling.flags)
    load = f"from kernelevolve.runtime import {spelling.name}\n" + "".join(
        f"{_loaded(n)} = {spelling.name}.load({file}, {n!r}, flags={flags!r})\n" for n in names
    )
    several = [p for p in parts if isinstance(p, Segment) and graphed(setting, len(p.steps))]
    return Backend(load + replayed(several), partial(_launches, spelling))


def _loaded(name: str) -> str:
    return f"kernel_{name}"


def _wide(step: Step) -> list[str]:
    """Its function for long buffers."""
    return [f"{step.name}_wide"] if isinstance(step, Contraction) else []


def _kernels(spelling: Spelling, setting: Setting, segment: Segment) -> list[Kernel]:
    sizes = [f"int64_t {s}" for s in setting.symbols]
    found, blocks = [], setting.plan.blocks
    blocks = blocks.model_copy(update={"tree": min(blocks.tree, spelling.tree)})
    workloads = max((len(values) for values in setting.symbols.values()), default=1)
    for step in segment.steps:
        assert isinstance(step, MapReduce | Scan | Contraction)
        parameters = parameters_of(setting, step) + sizes
        if isinstance(step, Contraction):
            found.append(emit_product(step, parameters, blocks, workloads, spelling.tensor))
        else:
            found.append(emit(step, parameters, blocks))
    return found


def _launches(spelling: Spelling, setting: Setting, segment: Segment) -> list[str]:
    """Room for what the segment writes, and a launch for each of its regions."""
    near = segment.pointers[0]
    written = list(dict.fromkeys(b for s in segment.steps for b in writes(s)))
    rooms = [allocated(setting, b, near=near) for b in written if b not in segment.internal]
    lines = [allocated(setting, b, near=near) for b in written if b in segment.internal]
    kernels = _kernels(spelling, setting, segment)
    lines += _states(kernels, near)
    for step, kernel in zip(segment.steps, kernels, strict=True):
        assert isinstance(step, MapReduce | Scan | Contraction)
        blocks = f"-(-({python(kernel.points)}) // {kernel.each})"
        grid = f"max(1, min({blocks}, {kernel.most}))"
        given = ", ".join([*arguments_of(step), *setting.symbols])
        given += f", {_state(kernel)}" if kernel.state else ""
        called = _loaded(kernel.name)
        for wide in _wide(step):
            longest = ", ".join(f"{b}.numel()" for b in arguments_of(step))
            called = f"({called} if max({longest}) < {NARROW} else {_loaded(wide)})"
        shared = f", {kernel.shared}" if kernel.shared else ""
        lines.append(f"{called}[{grid}, {kernel.block}{shared}]({given})")
    if graphed(setting, len(segment.steps)) and not any(k.state for k in kernels):
        return together(setting, segment, rooms, lines)
    return [*rooms, *lines]


def _state(kernel: Kernel) -> str:
    return f"state_{kernel.name}"


def _states(kernels: Sequence[Kernel], near: str) -> list[str]:
    """One statement that makes the zeros of all kernels that begin with some."""
    names = "".join(f"{_state(k)}, " for k in kernels if k.state)
    counts = [f"1 + {k.state} * {python(k.points)}" for k in kernels if k.state]
    zeros = f"torch.zeros({' + '.join(counts)}, dtype=torch.int64, device={near}.device)"
    return [f"{names}= {zeros}.split([{', '.join(counts)}])"] if names else []
