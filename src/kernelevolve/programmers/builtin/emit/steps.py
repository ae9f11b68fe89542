"""What a segment runs one after the other: regions, and chains of regions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from kernelevolve.programmers.builtin.emit.contraction import buffers_of
from kernelevolve.programmers.builtin.emit.contraction_chain import ChainSchedule, chain_buffers
from kernelevolve.programmers.builtin.emit.contraction_schedule import accumulator
from kernelevolve.programmers.builtin.emit.contraction_stages import Stage
from kernelevolve.programmers.builtin.ir import Contraction, DType, MapReduce, Opaque, Region
from kernelevolve.programmers.builtin.regions import reads as region_reads


@dataclass(frozen=True)
class Chained:
    """Neighbouring regions that run row block by row block as one function."""

    name: str
    stages: tuple[Stage, ...]
    local: tuple[str, ...]
    """Intermediates that have room for one block of rows only."""
    schedule: ChainSchedule

    @property
    def packs(self) -> bool:
        """Whether weights of it are packed ahead."""
        return any(s.ahead for s in self.schedule.stages)

    @property
    def accumulator(self) -> DType:
        """What its products add up in."""
        return accumulator(next(s for s in self.stages if isinstance(s, Contraction)))


Step: TypeAlias = Region | Chained


def reads(step: Step) -> tuple[str, ...]:
    """Names of the buffers that a step reads."""
    if isinstance(step, Chained):
        made = set(writes(step))
        return tuple(b.name for b in chain_buffers(step.stages, step.local) if b.name not in made)
    return tuple(region_reads(step))


def writes(step: Step) -> tuple[str, ...]:
    """Names of the buffers that a step writes."""
    if isinstance(step, Chained):
        return tuple(b.name for b in chain_buffers(step.stages, step.local) if b.written)
    if isinstance(step, Opaque):
        return step.writes
    if isinstance(step, MapReduce):
        return tuple(dict.fromkeys(s.buffer for p in step.passes for s in p.stores))
    if isinstance(step, Contraction):
        return tuple(dict.fromkeys(s.buffer for s in step.stores))
    return (step.store.buffer,)


def pointers(step: Contraction | Chained) -> list[str]:
    """Buffers in the order of the emitted function's arguments."""
    if isinstance(step, Chained):
        return [b.name for b in chain_buffers(step.stages, step.local)]
    return [b.name for b in buffers_of(step)]
