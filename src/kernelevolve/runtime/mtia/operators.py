"""Prices PyTorch operators as launches of their own, each at the machine's roofline.

That is what a reference costs on the simulator, and what a candidate pays for operators that it
calls beside its kernels, so that neither is favoured.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch._dynamo  # a dispatch mode's first operator would, and change the environment then
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from kernelevolve.runtime.mtia import ledger
from kernelevolve.runtime.mtia.ledger import Ledger
from kernelevolve.runtime.mtia.machine import Machine

MAKERS = ("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided")
"""Give memory and move nothing."""
NARROW = {torch.float16: "float16", torch.bfloat16: "bfloat16", torch.int8: "int8"}


class Priced(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Writes each operator into a ledger."""

    def __init__(self, machine: Machine, found: Ledger) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.machine, self.found = machine, found

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """One operator."""
        result = func(*args, **(kwargs or {}))
        given = _tensors((args, kwargs))
        made = _tensors(result)
        for tensor in made:
            self.found.keep(tensor)
        if func.overloadpacket.__name__ not in MAKERS and not _is_view(func, given, made):
            us = self._us(func, args, kwargs or {}, result, given, made)
            self.found.operators.append((str(func), us))
        return result

    def _us(
        self,
        func: Any,
        args: Any,
        kwargs: Any,
        result: Any,
        given: list[Tensor],
        made: list[Tensor],
    ) -> float:
        machine = self.machine
        once = {t.untyped_storage().data_ptr(): t for t in given}.values()
        moved = [(t.numel() * t.element_size(), self.found.in_dram(t)) for t in (*once, *made)]
        total = sum(size for size, _ in moved)
        dram = sum(size for size, far in moved if far)
        counts = flop_registry.get(func.overloadpacket)
        dtype = made[0].dtype if made else torch.float32
        if counts is not None:
            work = counts(*args, **kwargs, out_val=result)
            seconds = work / machine.flops(NARROW.get(dtype, str(dtype).removeprefix("torch.")))
        else:
            most = max((t.numel() for t in (*given, *made)), default=0)
            seconds = most / machine.elements
        near, far = machine["sram_tb_s"] * 1e12, machine["dram_gb_s"] * 1e9
        seconds = max(float(seconds), total / near, dram / far)
        return machine.launch_us(self.found.first()) + seconds * 1e6


def _tensors(nest: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(nest) if isinstance(leaf, Tensor)]


def _is_view(func: Any, given: list[Tensor], made: list[Tensor]) -> bool:
    """Whether the results are others' memory, and nothing was written into it."""
    there = {t.untyped_storage().data_ptr() for t in given}
    return not func._schema.is_mutable and all(
        t.untyped_storage().data_ptr() in there for t in made
    )


@contextmanager
def priced(machine: Machine, inputs: list[Tensor], *, tracing: bool = False) -> Iterator[Ledger]:
    """A ledger of kernels and operators inside; what lies in memory already is in DRAM.

    Args:
        machine: whose prices.
        inputs: activations, which are kept in SRAM beside what is made inside.
        tracing: with every engine's work, for a timeline.
    """
    room = machine.sram_bytes - machine.partition
    with ledger.recording(tracing=tracing, room=room) as found:
        for tensor in inputs:
            found.keep(tensor)
        with Priced(machine, found):
            yield found
