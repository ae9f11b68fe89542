"""The kernel behind a functional `torch.library` op, with the reference as meta and gradient."""

import itertools
import threading
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

_KERNELS: "weakref.WeakValueDictionary[int, Kernel]" = weakref.WeakValueDictionary()
_NUMBERS = itertools.count(1)


Slot = tuple[dict[str, Any], str]


class NotCallable(Exception):
    """The module cannot be expressed as an op; the message says why."""


@dataclass(frozen=True)
class Structure:
    """How a flat list of tensors becomes what `forward` returns."""

    kind: type
    """Tensor, tuple, list or dict."""
    keys: tuple[str, ...] = ()
    """Of a dict."""

    @classmethod
    def of(cls, output: Any) -> "Structure":
        """Read it off an output.

        Raises:
            NotCallable: outputs other than tensors, or deeper than one level.
        """
        kind = Tensor if isinstance(output, Tensor) else type(output)
        keys = tuple(output) if kind is dict else ()
        structure = cls(kind, keys)
        if kind not in (Tensor, tuple, list, dict):
            raise NotCallable(f"it returns a {kind.__name__}")
        if not all(isinstance(part, Tensor) for part in structure.flat(output)):
            raise NotCallable("it returns more than one level of tensors")
        return structure

    def flat(self, output: Any) -> list[Tensor]:
        """The tensors of an output."""
        if self.kind is Tensor:
            return [output]
        return [output[key] for key in self.keys] if self.kind is dict else list(output)

    def tree(self, tensors: Sequence[Tensor]) -> Any:
        """The output that holds these tensors."""
        if self.kind is Tensor:
            return tensors[0]
        if self.kind is dict:
            return dict(zip(self.keys, tensors, strict=True))
        return tuple(tensors) if self.kind is tuple else list(tensors)


class Kernel:
    """One `ModelNew` and one bare reference, fed with the state that each call brings."""

    def __init__(self, kernel: nn.Module, reference: nn.Module, shell: Structure | None) -> None:
        self.number = next(_NUMBERS)
        self.structure = shell
        self.names = [n for n, _ in reference.named_parameters()]
        self.names += [n for n, _ in reference.named_buffers()]
        self._tied = _canonical(reference)
        found = _correspond(kernel, reference)
        self._slots = [found[name] for name in self.names]
        self._kernel = kernel
        self._reference = reference.to("meta")
        self._prepare: Callable[[], object] | None = getattr(kernel, "prepare", None)
        self._bound: list[tuple[int, int]] | None = None
        self._lock = threading.Lock()
        _KERNELS[self.number] = self

    def call(self, arguments: Sequence[Any], state: Sequence[Tensor]) -> Any:
        """What `ModelNew` returns with this state, which is shared, not copied."""
        versions = [(t.data_ptr(), 0 if t.is_inference() else t._version) for t in state]
        if versions != self._bound:
            self._bind(state, versions)
        return self._kernel(*arguments)

    def reference(self, arguments: Sequence[Any], state: Sequence[Tensor]) -> Any:
        """What the reference returns with this state."""
        known = dict(zip(self.names, state, strict=True))
        named = {name: known[first] for name, first in self._tied.items()}
        return functional_call(self._reference, named, tuple(arguments), tie_weights=False)

    def forget(self) -> None:
        """Bind and prepare again at the next call."""
        self._bound = None

    def _bind(self, state: Sequence[Tensor], versions: list[tuple[int, int]]) -> None:
        with self._lock, torch.no_grad():
            for slots, tensor in zip(self._slots, state, strict=True):
                for holder, name in slots:
                    holder[name] = tensor
            if self._prepare is not None:
                self._prepare()
            self._bound = versions


def _correspond(kernel: nn.Module, reference: nn.Module) -> dict[str, list[Slot]]:
    """Where the kernel keeps each tensor of the reference's state: by name, else by order."""
    own, theirs = kernel.state_dict(), reference.state_dict()
    if {k: t.shape for k, t in own.items()} == {k: t.shape for k, t in theirs.items()}:
        pairs = {name: name for name in theirs}
    elif [t.shape for t in own.values()] == [t.shape for t in theirs.values()]:
        pairs = dict(zip(own, theirs, strict=True))
    elif theirs:
        raise NotCallable(
            f"the kernel's state {list(own)} does not correspond to the reference's {list(theirs)}"
        )
    else:
        pairs = {}
    where = _canonical(reference)
    slots: dict[str, list[Slot]] = {name: [] for name in where.values()}
    for mine, other in pairs.items():
        slots[where[other]].append(slot(kernel, mine))
    unsaved = {k: t for k, t in _named(kernel).items() if k not in own and k not in theirs}
    for name, tensor in unsaved.items():
        if name in where and _named(reference)[name].shape == tensor.shape:
            slots[where[name]].append(slot(kernel, name))
    return slots


def _named(module: nn.Module) -> dict[str, Tensor]:
    """Parameters, then buffers; tied ones under each of their names."""
    parameters = module.named_parameters(remove_duplicate=False)
    return {**dict(parameters), **dict(module.named_buffers(remove_duplicate=False))}


def _canonical(module: nn.Module) -> dict[str, str]:
    """The first name of each tensor for each of its names."""
    named = _named(module)
    first = {id(tensor): name for name, tensor in reversed(named.items())}
    return {name: first[id(tensor)] for name, tensor in named.items()}


def slot(module: nn.Module, name: str) -> Slot:
    """The dictionary in which a module keeps a parameter or buffer, and its key there."""
    path, _, leaf = name.rpartition(".")
    owner = module.get_submodule(path)
    return (owner._parameters if leaf in owner._parameters else owner._buffers), leaf


def _kernel(number: int) -> Kernel:
    found = _KERNELS.get(number)
    if found is None:
        raise RuntimeError("this op belongs to an Optimized module that no longer exists")
    return found


def _fresh(outputs: Sequence[Tensor], inputs: Sequence[Tensor]) -> list[Tensor]:
    """Contiguous outputs that share no memory with an input or with one another."""
    taken = {t.untyped_storage().data_ptr() for t in inputs}
    result = []
    for output in outputs:
        output = output.detach().contiguous()
        if output.untyped_storage().data_ptr() in taken:
            output = output.clone()
        taken.add(output.untyped_storage().data_ptr())
        result.append(output)
    return result


def define(name: str, fill: Callable[[Sequence[Tensor]], list[Any]]) -> Callable[..., list[Tensor]]:
    """Register `kernelevolve::name(inputs, state, kernel)` with the reference's gradient.

    Args:
        name: the op's name in the namespace `kernelevolve`.
        fill: all of `forward`'s arguments, from its tensors.
    """

    def flat(kernel: Kernel, output: Any) -> list[Tensor]:
        if kernel.structure is None:
            raise RuntimeError("this module cannot be called as an op")
        return kernel.structure.flat(output)

    @torch.library.custom_op(
        f"kernelevolve::{name}",
        mutates_args=(),
        schema="(Tensor[] inputs, Tensor[] state, int kernel) -> Tensor[]",
    )
    def op(inputs: Sequence[Tensor], state: Sequence[Tensor], kernel: int) -> list[Tensor]:
        found = _kernel(kernel)
        output = found.call(fill(inputs), state)
        return _fresh(flat(found, output), [*inputs, *state])

    @op.register_fake
    def _(inputs: Sequence[Tensor], state: Sequence[Tensor], kernel: int) -> list[Tensor]:
        found = _kernel(kernel)
        output = flat(found, found.reference(fill(inputs), state))
        return [t.new_empty(t.shape) for t in output]

    def setup(ctx: Any, inputs: Any, output: Any) -> None:
        tensors, state, ctx.kernel = inputs
        ctx.count = len(tensors)
        ctx.wanted = [t.requires_grad for t in (*tensors, *state)]
        ctx.save_for_backward(*tensors, *state)

    def backward(ctx: Any, grads: Sequence[Tensor | None]) -> Any:
        found = _kernel(ctx.kernel)
        pairs = zip(ctx.saved_tensors, ctx.wanted, strict=True)
        leaves = [t.detach().requires_grad_(want) for t, want in pairs]
        with torch.enable_grad():
            output = found.reference(fill(leaves[: ctx.count]), leaves[ctx.count :])
        wanted = [x for x in leaves if x.requires_grad]
        results = iter(_gradients(flat(found, output), grads, wanted))
        each = [next(results) if want else None for want in ctx.wanted]
        return each[: ctx.count], each[ctx.count :], None

    op.register_autograd(backward, setup_context=setup)
    return getattr(torch.ops.kernelevolve, name).default  # type: ignore[no-any-return]


def _gradients(
    outputs: list[Tensor], grads: Sequence[Tensor | None], leaves: list[Tensor]
) -> list[Tensor]:
    """The reference's gradients, zero where an output does not depend on a tensor."""
    used = [
        (o, g) for o, g in zip(outputs, grads, strict=True) if g is not None and o.requires_grad
    ]
    if not used:
        return [torch.zeros_like(x) for x in leaves]
    found = torch.autograd.grad(
        [o for o, _ in used], leaves, [g for _, g in used], allow_unused=True
    )
    return [torch.zeros_like(x) if g is None else g for g, x in zip(found, leaves, strict=True)]
