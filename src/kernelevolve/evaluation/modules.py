"""Reference and candidates as modules that the driver can call. Runs in runners only."""

import copy
import inspect
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import module_from_spec, spec_from_file_location
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import torch
from torch import Tensor, nn

from kernelevolve.core.task import Workload
from kernelevolve.evaluation.addresses import note, storage
from kernelevolve.evaluation.blocks import BANKS
from kernelevolve.evaluation.tensors import flatten, tree_map

Call = Callable[[Any], Any]
Loading = Literal["by_name", "by_order", "seeded", "none"]
EMPTY = memoryview(bytearray(8 * (1 + BANKS))).cast("Q")
NOISE = 0.1
LARGE = 4.0
ZEROS = 1 / 16
"""Share of the parameters that are zero when they are anything."""


def import_text(name: str, text: str, folder: Path) -> ModuleType:
    """Import a module from text; it lies in a file so that tracebacks and compilers find it."""
    path = folder / f"{name}.py"
    path.write_text(text)
    spec = spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def matching(function: Callable[..., Any], workload: Workload) -> Any:
    """Call with those sizes of the workload that the function has parameters for."""
    parameters = inspect.signature(function).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return function(**workload.sizes)
    return function(**{k: v for k, v in workload.sizes.items() if k in parameters})


@dataclass
class Source:
    """Where the reference's module and its inputs come from."""

    module: ModuleType | None
    captured: Sequence[Any] | None
    program: Any

    @classmethod
    def load(
        cls, text: str, captured: bytes | None, program: bytes | None, folder: Path
    ) -> "Source":
        """From a task's text or blobs."""
        tensors = torch.load(BytesIO(captured), weights_only=True) if captured else None
        exported = torch.export.load(BytesIO(program)) if program else None
        return cls(import_text("task", text, folder) if text else None, tensors, exported)

    def init_inputs(self, workload: Workload) -> Any:
        """Constructor arguments: a list or tuple of positional ones, or a dict of named ones."""
        function = getattr(self.module, "get_init_inputs", None)
        return matching(function, workload) if function else []

    def model(self, init_inputs: Any) -> nn.Module:
        """The reference, newly made."""
        if self.program is not None:
            made: nn.Module = copy.deepcopy(self.program.module())
            return made
        return construct(getattr(self.module, "Model"), init_inputs)  # noqa: B009

    def inputs(self, workload: Workload, seed: int) -> list[Any]:
        """Arguments of one call."""
        torch.manual_seed(seed)
        if self.program is not None and not workload.captured:
            return _varied(list(self.program.example_inputs[0]), seed)
        if workload.captured:
            return _varied(list(self.captured or []), seed)
        made = matching(getattr(self.module, "get_inputs"), workload)  # noqa: B009
        return [made] if isinstance(made, Tensor) else list(made)


def construct(model: Callable[..., nn.Module], init_inputs: Any) -> nn.Module:
    """Call the class with positional or named arguments."""
    if isinstance(init_inputs, Mapping):
        return model(**init_inputs)
    return model(*init_inputs)


def _varied(inputs: list[Any], seed: int) -> list[Any]:
    """Captured tensors with a little noise on the floats, so that no two calls are alike."""
    generator = torch.Generator().manual_seed(seed)

    def vary(tensor: Tensor) -> Tensor:
        if not tensor.is_floating_point():
            return tensor.detach().clone()
        noise = torch.randn(tensor.shape, generator=generator)
        return (tensor.detach().float() * (1 + 0.02 * noise)).to(tensor.dtype)

    varied: list[Any] = tree_map(vary, inputs)
    return varied


def set_mode(model: nn.Module, mode: str | None) -> None:
    """Train, eval, or as it was made."""
    if mode is not None:
        model.train(mode == "train")


@torch.no_grad()
def perturb(model: nn.Module, seed: int, randomise: Mapping[str, Sequence[float]]) -> None:
    """Move float parameters a little from their initial values; fill the named buffers."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        if parameter.is_floating_point() and parameter.numel():
            values = parameter.detach().float()
            spread = float(values.std()) if values.numel() > 1 else 0.0
            scale = spread or float(values.abs().mean()) or 1.0
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.add_((NOISE * scale * noise).to(parameter))
    buffers = dict(model.named_buffers())
    for name, (low, high) in randomise.items():
        if name not in buffers:
            raise ValueError(f"RANDOMISE names {name!r}; the buffers are {sorted(buffers)}")
        fill = torch.rand(buffers[name].shape, generator=generator) * (high - low) + low
        buffers[name].copy_(fill)


@torch.no_grad()
def train(model: nn.Module, seed: int, far: str) -> None:
    """Make float parameters what training may make of them.

    Args:
        model: is changed.
        seed: of chance.
        far: `signs` for any sign and a quarter of the size to four times of it, `zeros` for some
            zeros among these, `large` for four times the size of all.
    """
    generator = torch.Generator().manual_seed(seed)
    for parameter in real_parameters(model):
        shape = parameter.shape
        factors = LARGE ** (2 * torch.rand(shape, generator=generator) - 1)
        factors *= torch.randint(0, 2, shape, generator=generator) * 2 - 1
        if far == "zeros":
            factors[torch.rand(shape, generator=generator) < ZEROS] = 0.0
        parameter.mul_(LARGE if far == "large" else factors.to(parameter))


def real_parameters(model: nn.Module) -> list[nn.Parameter]:
    """Those that hold floats."""
    return [p for p in model.parameters() if p.is_floating_point() and p.numel()]


def values_of(model: nn.Module) -> list[Tensor]:
    """Copies of what float parameters hold, for `refill`."""
    return [p.detach().clone() for p in real_parameters(model)]


@torch.no_grad()
def small_integers(model: nn.Module, seed: int) -> list[Tensor]:
    """Fill float parameters with -1, 0 and 1; what they held, for `refill`."""
    generator = torch.Generator().manual_seed(seed)
    before = values_of(model)
    made = [torch.randint(-1, 2, p.shape, generator=generator).to(p) for p in before]
    refill(model, made)
    return before


@torch.no_grad()
def refill(model: nn.Module, values: Sequence[Tensor]) -> None:
    """Set float parameters in their order."""
    for parameter, value in zip(real_parameters(model), values, strict=True):
        parameter.copy_(value)


def state_of(model: nn.Module) -> dict[str, Tensor]:
    """Its `state_dict`, tensors only."""
    return {k: v.detach() for k, v in model.state_dict().items() if isinstance(v, Tensor)}


@torch.no_grad()
def load_state(model: nn.Module, state: Mapping[str, Tensor]) -> tuple[Loading, dict[str, str]]:
    """Give the reference's state to a candidate: by name, by order and shape, or not at all.

    Returns:
        How it went, and the candidate's name for each of the reference's names.
    """
    own = state_of(model)
    if {k: v.shape for k, v in own.items()} == {k: v.shape for k, v in state.items()}:
        model.load_state_dict(dict(state), strict=True)
        return ("by_name" if state else "none"), {k: k for k in state}
    shapes = [tuple(v.shape) for v in state.values()]
    if state and [tuple(v.shape) for v in own.values()] == shapes:
        for mine, theirs in zip(own.values(), state.values(), strict=True):
            mine.copy_(theirs)
        return "by_order", dict(zip(state, own, strict=True))
    return "seeded", {}


@torch.no_grad()
def overwrite(model: nn.Module, state: Mapping[str, Tensor], names: Mapping[str, str]) -> bool:
    """Write other values into the tensors that a model has, as a training step does.

    Returns:
        Whether it still has them all.
    """
    own = state_of(model)
    mine = [own.get(names.get(name, name)) for name in state]
    if any(m is None or m.shape != v.shape for m, v in zip(mine, state.values(), strict=True)):
        return False
    for tensor, value in zip(mine, state.values(), strict=True):
        assert tensor is not None
        tensor.copy_(value)
    return True


def prepare(model: nn.Module) -> None:
    """Have it derive what it needs of its parameters, if it wants to."""
    method = getattr(model, "prepare", None)
    if callable(method):
        method()


@dataclass
class Subject:
    """A module ready to be called by the driver, with its state and its input slots."""

    model: nn.Module
    run: Callable[..., Any]
    backward: bool = False
    names: dict[str, str] = field(default_factory=dict)
    mutated: tuple[str, ...] = ()
    slots: list[Any] = field(default_factory=list)
    result: Any = None
    before: Any = None
    """Results of the last call and of the one before it, kept for the judge to look at."""
    others: deque[Any] = field(default_factory=deque)
    """Results of calls before these two, where there are banks for their addresses."""
    snapshot: dict[str, Tensor] = field(default_factory=dict)
    sync: Callable[[], object] = int
    """Waits until the device has done what it was given; there is nothing to wait for on none."""
    wake: Callable[[], object] = int
    """Gives the device the least of work: every window begins with it, empty ones too."""
    mailbox: memoryview = field(default_factory=lambda: EMPTY)
    """The judge's: the count of ended calls, and banks of their outputs' addresses."""
    banks: int = BANKS
    """How many; the last one may be half written, and the results of all others are kept."""

    def remember(self) -> None:
        """Keep the buffers, to be restored before verified calls."""
        self.snapshot = {k: v.detach().clone() for k, v in self.model.named_buffers()}

    @torch.no_grad()
    def restore(self) -> None:
        """Put the buffers back."""
        for name, buffer in self.model.named_buffers():
            if name in self.snapshot:
                buffer.copy_(self.snapshot[name])

    def changed_buffers(self) -> tuple[str, ...]:
        """Names of those that the last calls changed."""
        return tuple(
            name
            for name, buffer in self.model.named_buffers()
            if name in self.snapshot and not torch.equal(buffer, self.snapshot[name])
        )

    def belongings(self) -> dict[str, Tensor]:
        """Parameters and buffers that calls must not change, by the reference's names.

        A module that did not take the reference's state has parameters of its own only.
        """
        if not self.names:
            return {name: p.detach() for name, p in self.model.named_parameters()}
        own = state_of(self.model)
        kept = {name: own.get(mine) for name, mine in self.names.items()}
        return {n: t for n, t in kept.items() if t is not None and n not in self.mutated}

    def owns(self, tensor: Tensor) -> bool:
        """Whether a tensor lies in the module's parameters or buffers."""
        own = {storage(t) for t in (*self.model.parameters(), *self.model.buffers())} - {0}
        return tensor.numel() > 0 and storage(tensor) in own

    def call(self, slot: Any) -> Any:
        """One call on a slot's inputs: forward, and backward where the task asks for it."""
        if not self.backward:
            return self.run(*slot["args"])
        output = self.run(*slot["args"])
        theirs = {own: name for name, own in self.names.items()}
        return [output, gradients(output, slot, self.model, theirs)]

    def calls(self, start: int, count: int, held: list[Any] | None = None) -> float:
        """`count` calls over the slots in turn; the last result is kept. Own clock, seconds.

        All results are appended to `held`, if given.
        """
        self.before = self.result = None
        slots, call, ring = self.slots, self.call, len(self.slots)
        box, banks = self.mailbox, self.banks
        bank = len(box) // banks
        before = result = None
        self.others = others = deque[Any](maxlen=banks - BANKS)
        with torch.set_grad_enabled(self.backward):
            begun = time.perf_counter()
            self.wake()
            for number in range(count):
                latest = call(slots[(start + number) % ring])
                place = 1 + number % banks * bank
                if type(latest) is Tensor:
                    box[place] = latest.data_ptr()
                else:
                    note(box[place : place + bank], latest)
                box[0] = number + 1
                others.append(before)
                before, result = result, latest
                if held is not None:
                    held.append(latest)
            self.sync()
            took = time.perf_counter() - begun
        self.before, self.result = before, result
        return took

    def apart(self, start: int, count: int) -> list[Any]:
        """Results of `count` calls whose forward passes all come before their backward passes."""
        theirs = {own: name for name, own in self.names.items()}
        slots = [self.slots[(start + n) % len(self.slots)] for n in range(count)]
        with torch.enable_grad():
            outputs = [self.run(*slot["args"]) for slot in slots]
            both = zip(outputs, slots, strict=True)
            return [[o, gradients(o, slot, self.model, theirs)] for o, slot in both]

    def outcome(self, *, buffers: bool) -> Any:
        """What the verdict looks at: the last result, with mutated buffers where wanted."""
        if not (buffers and self.mutated):
            return self.result
        own = dict(self.model.named_buffers())
        changed = {name: own[self.names.get(name, name)] for name in self.mutated}
        return [self.result, changed]


def gradients(
    output: Any, slot: Any, model: nn.Module, names: Mapping[str, str]
) -> dict[str, Tensor]:
    """Gradients of float inputs, nested ones too, and parameters, for the secret cotangents."""
    outputs = differentiable(output)
    own = {names.get(name, name): p for name, p in model.named_parameters() if p.requires_grad}
    inputs = flatten(slot["args"])[1]
    wanted = {f"input[{i}]": t for i, t in enumerate(inputs) if t.requires_grad}
    wanted |= dict(sorted(own.items()))
    found = torch.autograd.grad(
        outputs, list(wanted.values()), slot["cotangents"], allow_unused=True
    )
    return {
        name: torch.zeros_like(tensor) if gradient is None else gradient
        for (name, tensor), gradient in zip(wanted.items(), found, strict=True)
    }


def differentiable(output: Any) -> list[Tensor]:
    """The output tensors that gradients flow through, in order."""
    found: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        if tensor.requires_grad:
            found.append(tensor)
        return tensor

    tree_map(keep, output)
    return found
