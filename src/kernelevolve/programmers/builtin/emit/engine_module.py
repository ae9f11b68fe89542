"""What `model.py` and `kernel.cpp` hold where regions run on MTIA's processing elements."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files

from kernelevolve.programmers.builtin.emit.engine_product import ProductKernel, emit_product
from kernelevolve.programmers.builtin.emit.engine_rows import EngineKernel, emit_rows
from kernelevolve.programmers.builtin.emit.engine_values import STORED, Unwritten
from kernelevolve.programmers.builtin.emit.kernel import Segment, Setting, arguments_of, segments
from kernelevolve.programmers.builtin.emit.module import Backend, allocated, python
from kernelevolve.programmers.builtin.emit.steps import reads, writes
from kernelevolve.programmers.builtin.ir import Contraction, MapReduce, Opaque
from kernelevolve.programmers.builtin.schedule import Engines

HEAD = """#include <mtia.h>
using namespace mtia;

// Elements of a block: blocks are multiples of 32 bytes, of any type.
inline int64_t room(int64_t elements) { return (std::max<int64_t>(elements, 1) + 31) / 32 * 32; }
"""


def engine_source(setting: Setting, parts: Sequence[Segment | Opaque]) -> str:
    """The text of `kernel.cpp`; empty where nothing is native.

    Raises:
        Unwritten: the engines have no commands for a region.
    """
    kernels = [k for own, p in _native(setting, parts) for k in _kernels(own, p)]
    return "\n".join([HEAD, *(k.text for k in kernels)]) if kernels else ""


def engine_backend(setting: Setting, parts: Sequence[Segment | Opaque]) -> Backend:
    """How `model.py` loads and launches them."""
    names = [s.name for _, p in _native(setting, parts) for s in p.steps]
    loads = [f"{_loaded(n)} = mtia.load('kernel.cpp', {n!r})" for n in names]
    folder = files("kernelevolve.programmers.builtin.emit")
    tiles = folder.joinpath("engines.txt").read_text()
    head = "import math\nfrom kernelevolve.runtime import mtia"
    return Backend("\n".join([head, *loads, tiles]) if names else "", _launches)


def _native(setting: Setting, parts: Sequence[Segment | Opaque]) -> list[tuple[Setting, Segment]]:
    found = [(setting, p) for p in parts if isinstance(p, Segment)]
    if setting.ahead is not None:
        ahead = setting.ahead
        found += [(ahead, p) for p in segments(ahead) if isinstance(p, Segment)]
    return found


def _loaded(name: str) -> str:
    return f"kernel_{name}"


def _kernels(setting: Setting, segment: Segment) -> list[EngineKernel | ProductKernel]:
    made: list[EngineKernel | ProductKernel] = []
    workloads = max((len(values) for values in setting.symbols.values()), default=1)
    for step in segment.steps:
        if not isinstance(step, MapReduce | Contraction):
            kind = type(step).__name__.lower()
            raise Unwritten(f"it needs a {kind}, which no emitter writes for this chip")
        written = writes(step)
        parameters = [
            f"Global<const {_type(setting, b)}> {b}" for b in reads(step) if b not in written
        ]
        parameters += [f"Global<{_type(setting, b)}> {b}" for b in written]
        parameters += [f"int64_t {s}" for s in setting.symbols]
        plan = setting.plan
        if isinstance(step, Contraction):
            made.append(emit_product(step, parameters, plan.engines, plan.fast_math))
        else:
            made.append(emit_rows(step, parameters, plan.engines, plan.fast_math, workloads))
    return made


def _type(setting: Setting, buffer: str) -> str:
    dtype = setting.dtypes[buffer]
    if dtype not in STORED:
        raise Unwritten(f"it has tensors of {dtype}, which float32 does not hold exactly")
    return STORED[dtype]


def _launches(setting: Setting, segment: Segment) -> list[str]:
    """Room for what the segment writes, and a launch for each of its regions."""
    engines = setting.plan.engines
    made = dict.fromkeys(b for s in segment.steps for b in writes(s))
    lines = [allocated(setting, b) for b in made]
    for step, kernel in zip(segment.steps, _kernels(setting, segment), strict=True):
        assert isinstance(step, MapReduce | Contraction)
        lines.append(f"tile = {_tile(kernel, engines)}")
        arguments = ", ".join([*arguments_of(step), *setting.symbols, "*tile"])
        lines.append(f"{_loaded(kernel.name)}({arguments})")
    return lines


def _tile(kernel: EngineKernel | ProductKernel, engines: Engines) -> str:
    """The call that chooses a kernel's tiles."""
    extents = ", ".join(python(e) for e in kernel.extents)
    loaded = _loaded(kernel.name)
    if isinstance(kernel, ProductKernel):
        fixed = (kernel.flips, kernel.each, kernel.aside)
        decided = (engines.side, engines.terms, engines.buffers)
        return f"product_tile({loaded}, {extents}, {', '.join(map(str, (*fixed, *decided)))})"
    kinds = (kernel.cores, kernel.whole, kernel.smallest, kernel.by_rows, kernel.each, kernel.aside)
    given = ", ".join(map(str, (*kinds, engines.tile, engines.buffers)))
    return f"tile_of({loaded}, {extents}, {given})"
