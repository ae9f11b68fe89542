"""What only the reference runner does: secret inputs, the oracle, baselines, estimates."""

import copy
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from kernelevolve.core.task import Task, Workload
from kernelevolve.evaluation import modules, watching
from kernelevolve.evaluation.estimate import estimate
from kernelevolve.evaluation.modules import Source, Subject
from kernelevolve.evaluation.runner import Reply, Request, Runner, type_name
from kernelevolve.evaluation.tensors import Memory, flatten, layout_of, require_gradients, tree_map
from kernelevolve.evaluation.wire import Channel

NARROW = (torch.float32, torch.float16, torch.bfloat16)
FOLDER = Path("/tmp")  # noqa: S108 - private to this runner
COMPILED = "TORCHINDUCTOR_CACHE_DIR"


class Lift(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Asks for float64 wherever an operation is told a narrower float dtype."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """One operation."""
        if func is torch.ops.aten.view.dtype:
            raise NotImplementedError("the bits of a tensor are reinterpreted")
        lifted = {k: lift(v) for k, v in (kwargs or {}).items()}
        return func(*[lift(a) for a in args], **lifted)


def lift(value: Any) -> Any:
    """The wider dtype, or the value as it is."""
    if isinstance(value, torch.dtype):
        return {torch.complex64: torch.complex128}.get(
            value, torch.float64 if value in NARROW else value
        )
    return value


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Factories make this dtype inside."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def cast(value: Any, dtype: torch.dtype) -> Any:
    """Floats of a nest as another dtype, detached and in memory of their own."""

    def convert(tensor: Tensor) -> Tensor:
        wanted = dtype if tensor.is_floating_point() else tensor.dtype
        made = tensor.detach().to(wanted, copy=True)
        return made.requires_grad_(tensor.requires_grad)

    return tree_map(convert, value)


class ReferenceRunner(Runner):
    """Runs the task's own code; its outputs go to the judge only."""

    def __init__(self, channel: Channel, device: str = "cpu") -> None:
        super().__init__(channel, device)
        self.source: Source | None = None
        self.task: Task | None = None
        self.workloads: dict[str, Workload] = {}
        self.init_inputs: dict[str, Any] = {}
        self.kept: dict[str, list[Tensor]] = {}
        self.before: dict[str, dict[str, Tensor]] = {}
        self.lifted: Any = None
        self.drawn: tuple[tuple[str, int], dict[str, Any]] = ("", 0), {}
        self.kept_code = Path()

    def kind(self, tensor: Tensor) -> str:
        """What a reference returns is taken as it is."""
        return type_name(tensor)

    def do_source(self, body: Request, fds: Sequence[int]) -> Reply:
        """Import the task; report what its import did beside defining things."""
        self.task = Task.model_validate(body["task"])
        self.workloads = {w.name: w for w in self.task.workloads}
        blobs = {name: os.read(fd, 1 << 31) for name, fd in zip(body["blobs"], fds, strict=True)}
        before = _surroundings()
        text = self.task.source
        self.source = Source.load(text, blobs.get("captured"), blobs.get("program"), FOLDER)
        after = _surroundings()
        changed = [f"{k}: {before[k]} -> {after[k]}" for k in before if before[k] != after[k]]
        torch.set_default_dtype(torch.float32)
        torch.set_num_threads(body["threads"])
        return {"effects": changed}

    def do_reference(self, body: Request, fds: Sequence[int]) -> Reply:
        """Make one workload's reference."""
        assert self.source is not None and self.task is not None
        name = body["workload"]
        init = self.source.init_inputs(self.workloads[name])
        torch.manual_seed(body["seed"])
        model = self.source.model(init)
        modules.set_mode(model, self.task.mode)
        if body["perturb"]:
            modules.perturb(model, body["seed"], self.task.randomise)
        model = model.to(self.device)
        subject = Subject(model, model, self.task.backward, mutated=tuple(body["mutated"]))
        subject.sync, subject.wake = self.sync, self.wake
        subject.names = {k: k for k in modules.state_of(model)}
        subject.remember()
        self.subjects[name] = subject
        self.init_inputs[name] = init
        size = sum(t.numel() * t.element_size() for t in modules.state_of(model).values())
        return {"training": model.training, "state_bytes": size}

    def do_integers(self, body: Request, fds: Sequence[int]) -> Reply:
        """Float parameters become small integers from a seed; without one, what they were."""
        name = body["workload"]
        model = self.subjects[name].model
        if body["seed"] is None:
            modules.refill(model, self.kept.pop(name))
        else:
            self.kept[name] = modules.small_integers(model, body["seed"])
        return {"changed": bool(modules.real_parameters(model))}

    def do_moved(self, body: Request, fds: Sequence[int]) -> Reply:
        """Float parameters move from a seed; without one, all is what it was."""
        name = body["workload"]
        subject = self.subjects[name]
        subject.restore()
        if body["seed"] is None:
            modules.overwrite(subject.model, self.before.pop(name), {})
        elif modules.real_parameters(subject.model):
            assert self.task is not None
            before = {k: v.clone() for k, v in modules.state_of(subject.model).items()}
            self.before[name] = before
            modules.perturb(subject.model, body["seed"], self.task.randomise)
            if body.get("far"):
                modules.train(subject.model, body["seed"], body["far"])
        subject.remember()
        return {"changed": name in self.before}

    def do_parameters(self, body: Request, fds: Sequence[int]) -> Reply:
        """Names of float parameters."""
        model = self.subjects[body["workload"]].model
        return {"names": [n for n, p in model.named_parameters() if p.is_floating_point()]}

    def do_fixed(self, body: Request, fds: Sequence[int]) -> Reply:
        """Names of float parameters that are the same in models made under two seeds."""
        assert self.source is not None
        made = []
        for seed in body["seeds"]:
            torch.manual_seed(seed)
            model = self.source.model(self.init_inputs[body["workload"]])
            made.append({n: p for n, p in model.named_parameters() if p.is_floating_point()})
        first, second = made
        return {"names": [n for n, p in first.items() if torch.equal(p, second[n])]}

    def do_zeroed(self, body: Request, fds: Sequence[int]) -> Reply:
        """One float parameter becomes zero; without a name, what all of them were."""
        workload, name = body["workload"], body["name"]
        model = self.subjects[workload].model
        if name is None:
            modules.refill(model, self.kept.pop(workload))
        else:
            self.kept[workload] = modules.values_of(model)
            with torch.no_grad():
                dict(model.named_parameters())[name].zero_()
        return {}

    def do_compile(self, body: Request, fds: Sequence[int]) -> Reply:
        """From now on this workload goes through `torch.compile`."""
        subject = self.subjects[body["workload"]]
        compiled = torch.compile(subject.model, dynamic=False, mode=body["mode"])
        subject.run = stepwise(compiled) if body["stepwise"] else compiled
        return {}

    def do_apart(self, body: Request, fds: Sequence[int]) -> Reply:
        """Compile without the code that was kept: a compiler that was killed leaves pieces."""
        self.kept_code = Path(os.environ[COMPILED])  # noqa: TID251 - PyTorch reads it there
        os.environ[COMPILED] = tempfile.mkdtemp()  # noqa: TID251
        return {}

    def do_forget(self, body: Request, fds: Sequence[int]) -> Reply:
        """Remove the code that was kept, and keep code again."""
        for entry in self.kept_code.iterdir():
            shutil.rmtree(entry, ignore_errors=True)
        os.environ[COMPILED] = str(self.kept_code)  # noqa: TID251
        return {}

    def do_baseline(self, body: Request, fds: Sequence[int]) -> Reply:
        """A user's own baseline, loaded as a candidate is."""
        assert self.task is not None
        module = modules.import_text("baseline", body["source"], FOLDER)
        model = getattr(module, "ModelNew", None) or getattr(module, "Model", None)
        if model is None:
            raise AttributeError("the baseline defines neither ModelNew nor Model")
        return self.adopt(model, self.task, body, fds)

    def do_state(self, body: Request, fds: Sequence[int]) -> Reply:
        """Constructor arguments and state, for the candidates."""
        name = body["workload"]
        state = modules.state_of(self.subjects[name].model)
        tree, tensors = flatten({"init": self.init_inputs[name], "state": state})
        layout = layout_of(tree, tensors, keep_strides=False)
        if fds:
            Memory.map(fds[0], layout.nbytes).write(layout, tensors)
        return layout.dump()

    def do_inputs(self, body: Request, fds: Sequence[int]) -> Reply:
        """Inputs from a seed; copied into the memory that comes along, if any."""
        name = body["workload"]
        value = self._inputs(name, body["seed"])
        tree, tensors = flatten(value)
        layout = layout_of(tree, tensors, keep_strides=True, sides=body["sides"])
        if fds and layout.nbytes <= body["nbytes"]:
            Memory.map(fds[0], body["nbytes"]).write(layout, tensors)
        devices = sorted({t.device.type for t in tensors})
        empty = [i for i, t in enumerate(tensors) if t.numel() == 0]
        return layout.dump() | {"devices": devices, "empty": empty}

    def _inputs(self, name: str, seed: int) -> dict[str, Any]:
        """Those of the last seed are kept: they are described before there is memory for them."""
        if self.drawn[0] != (name, seed):
            self.drawn = (name, seed), self._draw(name, seed)
        return self.drawn[1]

    def _draw(self, name: str, seed: int) -> dict[str, Any]:
        assert self.source is not None
        random.seed(seed)
        np.random.seed(seed % (1 << 32))
        args = self.source.inputs(self.workloads[name], seed)
        args = tree_map(lambda t: t.detach(), args)
        subject = self.subjects[name]
        if not subject.backward:
            return {"args": args, "cotangents": []}
        there = tree_map(lambda t: t.to(self.device, copy=True), args)
        require_gradients(there)
        outputs = modules.differentiable(subject.run(*there))
        subject.restore()
        torch.manual_seed(seed + 1)
        cotangents = [torch.randn(o.shape).to(o.dtype) for o in outputs]
        return {"args": tree_map(lambda t: t.detach(), args), "cotangents": cotangents}

    def do_mutated(self, body: Request, fds: Sequence[int]) -> Reply:
        """Which buffers the calls since the last restore changed."""
        subject = self.subjects[body["workload"]]
        subject.mutated = subject.changed_buffers()
        return {"mutated": list(subject.mutated)}

    def do_answer(self, body: Request, fds: Sequence[int]) -> Reply:
        """Call from one slot on with buffers as they were; describe and copy the last result."""
        self.do_restore({**body, "poison": []}, ())
        self.subjects[body["workload"]].calls(body["slot"], body["count"])
        return self.do_outcome(body, fds)

    def do_leave(self, body: Request, fds: Sequence[int]) -> Reply:
        """Describe the last result and copy it to memory of the judge's on the device."""
        from kernelevolve.evaluation.on_device import DeviceMemory

        tree, tensors = flatten(self.subjects[body["workload"]].outcome(buffers=True))
        layout = layout_of(tree, tensors, keep_strides=False)
        if layout.nbytes <= body["nbytes"]:
            memory = DeviceMemory.open(fds[0], body["nbytes"])
            memory.write(layout, tensors)
            memory.close()
        return layout.dump()

    def do_oracle(self, body: Request, fds: Sequence[int]) -> Reply:
        """Call slots in another precision, and describe and copy the last result."""
        name, kind = body["workload"], body["dtype"]
        subject = self.subjects[name]
        subject.restore()
        dtype: torch.dtype = getattr(torch, kind)
        model = copy.deepcopy(subject.model).to(dtype)
        twin = Subject(model, model, subject.backward, mutated=subject.mutated)
        twin.names = subject.names
        for number in body["slots"]:
            self.lifted = cast(subject.slots[number], dtype)
            self._in_precision(twin, self.lifted, dtype)
        subject.result = twin.outcome(buffers=True)
        return self.do_last(body, fds)

    def _in_precision(self, twin: Subject, slot: Any, dtype: torch.dtype) -> None:
        with torch.set_grad_enabled(twin.backward), default_dtype(dtype):
            if dtype is torch.float64:
                with Lift():  # type: ignore[no-untyped-call]
                    twin.result = twin.call(slot)
            else:
                twin.result = twin.call(slot)

    def do_last(self, body: Request, fds: Sequence[int]) -> Reply:
        """Describe and copy what `oracle` returned."""
        subject = self.subjects[body["workload"]]
        mutated, subject.mutated = subject.mutated, ()
        try:
            return self.do_outcome(body, fds)
        finally:
            subject.mutated = mutated
            if self.device.type == "cuda":  # others need what float64 took
                torch.cuda.empty_cache()

    def do_left(self, body: Request, fds: Sequence[int]) -> Reply:
        """Describe and copy what `oracle` left in its inputs."""
        tree, tensors = flatten(tree_map(lambda t: t.detach(), self.lifted))
        layout = layout_of(tree, tensors, keep_strides=False)
        if fds and layout.nbytes <= body["nbytes"]:
            self._outbox(body, fds[0]).write(layout, tensors)
        return layout.dump()

    def do_traits(self, body: Request, fds: Sequence[int]) -> Reply:
        """What the operations of a call on the first slot promise."""
        subject = self.subjects[body["workload"]]
        subject.restore()
        return watching.traits(subject, subject.slots[0])

    def do_estimate(self, body: Request, fds: Sequence[int]) -> Reply:
        """Bytes and operations of one call, without allocating it."""
        assert self.source is not None and self.task is not None
        workload = self.workloads[body["workload"]]
        return estimate(self.source, workload, backward=self.task.backward)


def stepwise(compiled: Callable[..., Any]) -> Callable[..., Any]:
    """Calls of a graph, each of which may write where earlier ones left their results.

    Results of earlier calls are only held here, and not read: without this, each that is held
    would have a graph of its own.
    """

    def run(*args: Any) -> Any:
        torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        return compiled(*args)

    return run


def _surroundings() -> dict[str, str]:
    return {
        "default dtype": str(torch.get_default_dtype()),
        "gradients": str(torch.is_grad_enabled()),
        "default device": str(torch.get_default_device()),
        "matmul precision": torch.get_float32_matmul_precision(),
        "recursion limit": str(sys.getrecursionlimit()),
        "working folder": str(Path.cwd()),
        "files in the working folder": str(
            sorted(p.name for p in Path.cwd().iterdir() if p.name not in ("task.py", "__pycache__"))
        ),
    }


Make = Callable[[Channel, str], Runner]
MAKERS: dict[str, Make] = {"candidate": Runner, "reference": ReferenceRunner}
