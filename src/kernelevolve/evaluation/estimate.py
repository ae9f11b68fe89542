"""Bytes and operations of one call of the reference, by running it on fake tensors."""

import weakref
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from kernelevolve.core.task import Workload
from kernelevolve.evaluation import modules
from kernelevolve.evaluation.modules import Source, Subject
from kernelevolve.evaluation.tensors import flatten, tree_map

PARTIAL = ("index", "gather", "embedding", "slice", "select", "take", "narrow", "masked_select")
REDUCING = ("sum", "mean", "max", "min", "prod", "norm", "softmax", "var", "arg", "logsumexp")


class Meter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Follows how many bytes are alive and how many elements operations write."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.alive = 0
        self.peak = 0
        self.elements = 0
        self.partial = False
        self.used: set[int] = set()
        self._known: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """One operation."""
        result = func(*args, **(kwargs or {}))
        made = [r for r in _tensors(result) if self._is_new(r)]
        taken = _tensors(args)
        self.used |= {t.untyped_storage()._cdata for t in taken}
        name = func.overloadpacket.__name__
        self.partial |= name.startswith(PARTIAL)
        read = sum(t.numel() for t in taken)
        if made:
            reducing = name.strip("_").startswith(REDUCING)
            self.elements += max([read if reducing else 0, *(t.numel() for t in made)])
        return result

    def _is_new(self, tensor: Tensor) -> bool:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._known:
            return False
        self._known.add(key)
        size = storage.nbytes()
        self.alive += size
        self.peak = max(self.peak, self.alive)
        weakref.finalize(storage, self._freed, key, size)
        return True

    def _freed(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.alive -= size


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, list | tuple):
        return [t for v in value for t in _tensors(v)]
    return []


def nbytes(value: Any) -> int:
    """Bytes of a nest of tensors, each once."""
    return sum(t.numel() * t.element_size() for t in flatten(value)[1])


def estimate(source: Source, workload: Workload, *, backward: bool) -> dict[str, Any]:
    """Bytes of inputs, parameters, outputs and peak, and the operation count.

    Data-dependent references cannot run on fake tensors and raise what torch raises.
    """
    meter = Meter()
    counter = FlopCounterMode(display=False)
    with FakeTensorMode(allow_non_fake_inputs=True) as fake:
        if source.program is not None or workload.captured:
            inputs = [_faked(fake, a) for a in source.inputs(workload, 0)]
        else:
            inputs = source.inputs(workload, 0)
        model = source.model(source.init_inputs(workload))
        state = modules.state_of(model)
        subject = Subject(model, model, backward)
        if backward:
            inputs = tree_map(_wants_gradient, inputs)
        with torch.set_grad_enabled(backward), counter, meter:
            result = subject.run(*inputs)
            if backward:
                outputs = modules.differentiable(result)
                slot = {"args": inputs, "cotangents": [torch.ones_like(o) for o in outputs]}
                result = [result, modules.gradients(result, slot, model, {})]
    return {
        "inputs": nbytes([t for t in _tensors(inputs) if _key(t) in meter.used]),
        "state": nbytes([t for t in state.values() if _key(t) in meter.used]),
        "held": nbytes(inputs) + nbytes(list(state.values())),
        "outputs": nbytes(result),
        "output_elements": sum(t.numel() for t in flatten(result)[1]),
        "peak": meter.peak,
        "flops": counter.get_total_flops(),
        "elements": meter.elements,
        "partial": meter.partial,
        "dtype": _main_dtype(inputs, state),
    }


def _wants_gradient(tensor: Tensor) -> Tensor:
    """Not a leaf of the graph: the counter's hooks refuse leaves that `autograd.grad` ends at."""
    if not tensor.is_floating_point():
        return tensor
    with torch.enable_grad():
        return tensor.requires_grad_().view_as(tensor)


def _key(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _main_dtype(inputs: Any, state: dict[str, Tensor]) -> str:
    floats = [t for t in [*_tensors(inputs), *state.values()] if t.is_floating_point()]
    largest = max(floats, key=Tensor.numel, default=torch.empty(0))
    return str(largest.dtype).removeprefix("torch.")


def _faked(mode: FakeTensorMode, value: Any) -> Any:
    return mode.from_tensor(value) if isinstance(value, Tensor) else value
