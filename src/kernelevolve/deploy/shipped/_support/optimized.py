"""`Optimized`: the reference's class whose forward runs the kernel wherever that was verified."""

import importlib.util
import inspect
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import forward_ad


def _beside(file: str) -> ModuleType:
    name = f"{__name__}_{file}"
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{file}.py"))
    assert spec is not None  # noqa: S101  the file is part of the export
    assert spec.loader is not None  # noqa: S101
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


files = _beside("files")
guards = _beside("guard")
kernels = _beside("kernel")
MANIFEST: dict[str, Any] = files.MANIFEST
Model: type[nn.Module] = files.module("reference.py").Model


class _Place:
    """Where a tensor stands among the arguments of `forward`."""


class Facts:
    """What the verified workloads look like, found by running `get_inputs` on fake tensors."""

    def __init__(self) -> None:
        samples = [self._sample(w) for w in MANIFEST["workloads"]]
        self.template = samples[0][0]
        """The arguments of `forward`, a `_Place` for each tensor."""
        self.structure, self.why_no_op = samples[0][2], samples[0][3]
        if any(template != self.template for template, *_ in samples):
            raise kernels.NotCallable("its workloads differ in arguments that are not tensors")
        general = MANIFEST["general"] and self.structure is not None
        seen = tuple(leaves for _, leaves, *_ in samples)
        self.guard = guards.Guard(seen, MANIFEST["device"], general)
        self.machine = guards.machine_refuses(MANIFEST["machine"], MANIFEST["features"])

    def _sample(self, workload: dict[str, Any]) -> Any:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            args, kwargs = files.workload_arguments(workload)
            try:
                with FakeTensorMode():
                    return self._look(Model(*args, **kwargs), files.workload_inputs(workload))
            except Exception:  # noqa: BLE001  whatever fake tensors cannot do, real ones can
                return self._look(Model(*args, **kwargs), files.workload_inputs(workload))

    def _look(self, model: nn.Module, inputs: list[Any]) -> Any:
        model.train(model.training if MANIFEST["mode"] is None else MANIFEST["mode"] == "train")
        template = [_Place if isinstance(value, Tensor) else value for value in inputs]
        tensors = [value for value in inputs if isinstance(value, Tensor)]
        if any(isinstance(value, list | tuple | dict) for value in template):
            raise kernels.NotCallable("it takes lists of tensors")
        leaves = [guards.Leaf.of(t) for t in (*tensors, *model.parameters(), *model.buffers())]
        output = model(*inputs)
        try:
            if any(isinstance(v, Tensor) for m in model.modules() for v in vars(m).values()):
                raise kernels.NotCallable("it keeps tensors that are not registered")
            structure, why = kernels.Structure.of(output), ""
        except kernels.NotCallable as error:
            structure, why = None, str(error)
        return template, tuple(leaves), structure, why

    def fill(self, tensors: Sequence[Tensor]) -> list[Any]:
        """All arguments of `forward`, from its tensors."""
        left = iter(tensors)
        return [next(left) if value is _Place else value for value in self.template]


FACTS: Any
"""A `Facts`; None where the module cannot be dispatched, which `WHY_NOT` then explains."""
try:
    FACTS = Facts()
    WHY_NOT = FACTS.machine
except kernels.NotCallable as error:
    FACTS, WHY_NOT = None, str(error)
OP: Any = kernels.define(MANIFEST["op"], FACTS.fill) if FACTS else None


class Optimized(Model):  # type: ignore[misc, valid-type]
    """Drop-in for the reference's `Model`: same constructor, state and results.

    Where a call was not verified (dtype, shape, device, processor, mode), the reference runs.
    `why_not(*inputs)` says which of the two a call gets. After writing to weights through
    `.data`, which leaves no trace, call `prepare()`.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        chance = torch.get_rng_state()
        super().__init__(*args, **kwargs)
        self._arguments, self._chance = (args, kwargs), chance
        mode = MANIFEST["mode"]
        self._mode = self.training if mode is None else mode == "train"
        self._start()

    def _start(self) -> None:
        self._verified_mode = self._mode if _mode_matters(self) else None
        self._refused: str = WHY_NOT
        self._number = 0
        self._kernel: Any = None
        self._decisions: dict[Any, str] = {}
        names = [n for n, _ in self.named_parameters()] + [n for n, _ in self.named_buffers()]
        self._slots = [kernels.slot(self, name) for name in names]
        if self._verified_mode and any(True for _ in self.buffers()):
            self._refused = self._refused or "it updates buffers while training"
        if not self._refused:
            self._load()
        if self._refused:
            warnings.warn(
                f"{MANIFEST['op']}: the reference runs instead of the kernel: {self._refused}",
                stacklevel=3,
            )

    def _load(self) -> None:
        args, kwargs = self._arguments
        try:
            with torch.random.fork_rng(devices=[]):
                torch.set_rng_state(self._chance)
                kernel = files.model_new()(*args, **kwargs).train(self._mode)
                reference = Model(*args, **kwargs).train(self._mode)
            self._kernel = kernels.Kernel(kernel, reference, FACTS.structure)
            self._number = self._kernel.number
        except Exception as error:  # noqa: BLE001  no compiler, say: the reference still works
            self._refused = f"{type(error).__name__}: {error}"

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The kernel's result, or the reference's where the call was not verified."""
        arguments = _positional(args, kwargs) if kwargs else args
        if self._refusal(arguments):
            return super().forward(*args, **kwargs)
        inputs = [a for a in arguments if isinstance(a, Tensor)]
        state = self._state()
        if self._direct(inputs, state):
            return self._kernel.call(arguments, state)
        if FACTS.structure is None:
            return super().forward(*args, **kwargs)
        return FACTS.structure.tree(OP(inputs, state, self._number))

    def why_not(self, *args: Any, **kwargs: Any) -> str:
        """Why a call with these arguments goes to the reference; empty: the kernel runs."""
        return self._refusal(_positional(args, kwargs) if kwargs else args)

    def prepare(self) -> None:
        """Read the weights again at the next call."""
        if self._kernel is not None:
            self._kernel.forget()

    def _state(self) -> list[Tensor]:
        if torch.compiler.is_compiling():
            return [*self.parameters(), *self.buffers()]
        return [holder[name] for holder, name in self._slots]

    def _direct(self, inputs: list[Tensor], state: list[Tensor]) -> bool:
        """Whether nothing but the result matters: no graph is being recorded."""
        if torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack():
            return False
        if not torch.is_grad_enabled():
            return True
        return not any(t.requires_grad for t in (*inputs, *state))

    def _refusal(self, arguments: Sequence[Any]) -> str:
        if refused := self._refused or self._surroundings():
            return refused
        template = FACTS.template
        if len(arguments) != len(template):
            return f"{len(arguments)} arguments instead of {len(template)}"
        tensors = []
        for value, wanted in zip(arguments, template, strict=True):
            if wanted is _Place:
                if type(value) is not Tensor and type(value) is not nn.Parameter:
                    return f"a {type(value).__name__} where a tensor was verified"
                tensors.append(value)
            elif type(value) is not type(wanted) or value != wanted:
                return f"argument {value!r} instead of {wanted!r}"
        tensors = [*tensors, *self._state()]
        if torch.compiler.is_compiling():
            return FACTS.guard.refuses(tensors)  # type: ignore[no-any-return]
        return _transforms() or self._decided(arguments, tensors)

    def _surroundings(self) -> str:
        """Why the state of this module or of PyTorch forbids the kernel."""
        if self._verified_mode is not None and self.training != self._verified_mode:
            return f"verified in {'training' if self._verified_mode else 'evaluation'} mode only"
        if torch.compiler.is_exporting():
            return "an exported program outlives this process and its kernel"
        if torch.is_autocast_enabled(MANIFEST["device"]):
            return "autocast is on"
        return ""

    def _decided(self, arguments: Sequence[Any], tensors: list[Tensor]) -> str:
        key = tuple([(t.dtype, t.shape, t.device, t.is_contiguous()) for t in tensors])
        decision = self._decisions.get(key)
        if decision is None:
            decision = FACTS.guard.refuses(tensors) or self._reference_refuses(arguments)
            if len(self._decisions) > 10_000:
                self._decisions.clear()
            self._decisions[key] = decision
        return decision

    def _reference_refuses(self, arguments: Sequence[Any]) -> str:
        """Shapes that the reference itself rejects must not reach native code."""
        if FACTS.structure is None:
            return ""
        state = self._state()
        with FakeTensorMode() as mode, torch.no_grad():
            fakes = [mode.from_tensor(t) for t in state]
            inputs = [mode.from_tensor(a) if isinstance(a, Tensor) else a for a in arguments]
            try:
                self._kernel.reference(inputs, fakes)
            except Exception as error:  # noqa: BLE001  the reference repeats and raises it
                return f"the reference refuses: {error}"
        return ""

    def __getstate__(self) -> dict[str, Any]:
        """Copies and pickles carry the weights; each makes a kernel of its own."""
        dropped = ("_kernel", "_slots", "_decisions", "_number")
        return {key: value for key, value in self.__dict__.items() if key not in dropped}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Start again with the state that was saved."""
        super().__setstate__(state)
        self._start()


def from_reference(model: nn.Module, *args: Any, **kwargs: Any) -> Optimized:
    """An `Optimized` that shares parameters and buffers with a module that you already have.

    Args:
        model: an instance of the reference, or of any class with the same state.
        args: what its constructor was given.
        kwargs: likewise.
    """
    optimized = Optimized(*args, **kwargs)
    optimized.load_state_dict(model.state_dict(keep_vars=True), assign=True)
    optimized.train(model.training)
    return optimized


def load() -> Optimized:
    """An `Optimized` made as for the first workload, in the mode that was verified."""
    args, kwargs = files.workload_arguments(MANIFEST["workloads"][0])
    optimized = Optimized(*args, **kwargs)
    optimized.train(optimized._mode)
    return optimized


def _positional(args: Sequence[Any], kwargs: dict[str, Any]) -> list[Any]:
    names = PARAMETERS[len(args) :]
    if not set(kwargs) <= set(names):
        return []
    return [*args, *[kwargs[name] for name in names if name in kwargs]]


PARAMETERS = list(inspect.signature(Model.forward).parameters)[1:]


def _transforms() -> str:
    """What is being done to this call that only PyTorch's own operations can follow."""
    if torch._C._functorch.peek_interpreter_stack() is not None:
        return "inside a torch.func transform"
    if forward_ad._current_level >= 0:
        return "inside forward-mode differentiation"
    return "inside torch.jit.trace" if torch._C._is_tracing() else ""


def _mode_matters(model: nn.Module) -> bool:
    """Whether any module's code looks at `training`."""
    classes = {kind for m in model.modules() for kind in type(m).__mro__}
    ours = (k for k in classes if issubclass(k, nn.Module) and k not in (nn.Module, Optimized))
    functions = (f for k in ours for f in vars(k).values() if isinstance(f, FunctionType))
    return any(_mentions(f.__code__) for f in functions)


def _mentions(code: CodeType) -> bool:
    nested = (c for c in code.co_consts if isinstance(c, CodeType))
    return "training" in code.co_names or any(_mentions(c) for c in nested)
