"""The driver in every forked runner: loads a module, calls it, leaves raw buffers.

It answers the judge's requests one after the other. Whatever the module does here is only data
to the judge: nothing in this process knows a seed, an expected output or a verdict.
"""

import gc
import os
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kernelevolve import registry
from kernelevolve.core.evaluation import Build
from kernelevolve.core.target import TargetSpec
from kernelevolve.core.task import Task
from kernelevolve.evaluation import heap, modules, state
from kernelevolve.evaluation.addresses import address
from kernelevolve.evaluation.layout import Layout
from kernelevolve.evaluation.modules import Subject
from kernelevolve.evaluation.simulator import Simulator
from kernelevolve.evaluation.tensors import (
    Memory,
    Unsupported,
    alone,
    flatten,
    layout_of,
    require_gradients,
    tree_map,
)
from kernelevolve.evaluation.wire import Channel, Closed
from kernelevolve.runtime import launched

Request = dict[str, Any]
Reply = dict[str, Any]
LAST_LINES = 30
MOST_CAUSES = 8
PENDING = "a pending conjugation or sign (resolve_conj, resolve_neg)"
OWN_FRAMES = (str(Path(__file__).parents[1]), "-packages/")
"""Of ours and of installed libraries, which are not the module's."""


class Runner:
    """Subjects by workload, and the requests about them."""

    def __init__(self, channel: Channel, device: str = "cpu") -> None:
        self.channel = channel
        self.device = torch.device(device)
        if device != "cpu":
            self.touched = torch.zeros(1, device=self.device)
            make: Any = torch.cuda.Event
            self.events = [make(enable_timing=True) for _ in range(2)]
        self.mapped: dict[str, list[tuple[int, Any]]] = {}
        """Of each workload: memory on the device, and how many slots lie in it."""
        self.subjects: dict[str, Subject] = {}
        self.aside: dict[str, Subject] = {}
        self.makers: dict[str, Callable[[Request, Sequence[int]], Reply]] = {}
        self.memories: list[Memory] = []
        self.outboxes: dict[str, tuple[int, Memory]] = {}
        self.scratch: list[Tensor] = []
        self.recorder: Any = None
        self.simulator: Simulator | None = None

    def serve(self) -> None:
        """Answer until the judge closes."""
        with suppress(Closed):
            while True:
                body, fds = self.channel.receive()
                try:
                    reply = getattr(self, f"do_{body['op']}")(body, fds)
                except BaseException as error:  # noqa: BLE001 - the module's failure is the answer
                    reply = {"error": failure(error)}
                for fd in fds:
                    os.close(fd)
                self.channel.send(reply)

    def do_setup(self, body: Request, fds: Sequence[int]) -> Reply:
        """Affinity and threads, equal for every runner of a lane."""
        if body["cores"]:
            os.sched_setaffinity(0, body["cores"])
        torch.set_num_threads(body["threads"])
        gc.disable()
        heap.keep_freed()
        return {}

    def do_state(self, body: Request, fds: Sequence[int]) -> Reply:
        """Flags and settings of this process, for the judge to compare."""
        return {"state": state.snapshot()}

    def do_kernels(self, body: Request, fds: Sequence[int]) -> Reply:
        """What those need that were compiled when they were launched."""
        if self.device.type != "cpu" and "model" in sys.modules:
            launched.collect(sys.modules["model"])
        return {"kernels": list(launched.kernels.values())}

    def do_load(self, body: Request, fds: Sequence[int]) -> Reply:
        """A candidate: build folder, language, and the reference's state in shared memory."""
        task = Task.model_validate(body["task"])
        build = Build.model_validate(body["build"])
        try:
            model = registry.load("language", body["language"])().load(build, task)
        except (AttributeError, SyntaxError) as error:
            return {"error": failure(error) | {"kind": "invalid"}}
        self.makers[body["workload"]] = partial(self.adopt, model, task)
        return self.adopt(model, task, body, fds)

    def adopt(
        self, model: Callable[..., nn.Module], task: Task, body: Request, fds: Sequence[int]
    ) -> Reply:
        """Construct, load state by the ladder, prepare; timed as setup."""
        layout = Layout.parse(body["state"])
        given = Memory.map(fds[0], layout.nbytes, private=True).read(layout)
        torch.manual_seed(body["seed"])
        made = modules.construct(model, given["init"])
        modules.set_mode(made, task.mode)
        made = made.to(self.device)
        begun = time.perf_counter()
        loading, names = modules.load_state(made, given["state"])
        modules.prepare(made)
        self.sync()
        setup = time.perf_counter() - begun
        subject = Subject(made, made, task.backward, names, tuple(body["mutated"]))
        subject.sync, subject.wake = self.sync, self.wake
        subject.remember()
        self.subjects[body["workload"]] = subject
        own = {name: list(v.shape) for name, v in modules.state_of(made).items()}
        return {"loading": loading, "setup": setup, "own": own}

    def do_renew(self, body: Request, fds: Sequence[int]) -> Reply:
        """Other values in the parameters and buffers of a module that may have been called."""
        layout = Layout.parse(body["state"])
        given = Memory.map(fds[0], layout.nbytes, private=True).read(layout)
        subject = self.subjects[body["workload"]]
        if not modules.overwrite(subject.model, given["state"], subject.names):
            return {"renewed": False}
        modules.prepare(subject.model)
        subject.remember()
        return {"renewed": True}

    def do_second(self, body: Request, fds: Sequence[int]) -> Reply:
        """Put the module aside and make another one of its class."""
        name = body["workload"]
        self.aside[name] = self.subjects[name]
        return self.makers[name](body, fds)

    def do_first(self, body: Request, fds: Sequence[int]) -> Reply:
        """Take the module that was put aside."""
        self.subjects[body["workload"]] = self.aside.pop(body["workload"])
        return {}

    def do_belongings(self, body: Request, fds: Sequence[int]) -> Reply:
        """Bytes of a module's parameters and buffers, of large ones every n-th element."""
        tensors = self.subjects[body["workload"]].belongings()
        memory = Memory.map(fds[0], body["nbytes"])
        room, end, sizes = body["nbytes"] // max(1, len(tensors)), 0, {}
        for name, tensor in tensors.items():
            every = max(1, -(-tensor.numel() * tensor.element_size() // room))
            chosen = tensor.reshape(-1)[body["first"] % every :: every]
            data = chosen.contiguous().view(torch.uint8).cpu().numpy().tobytes()[:room]
            memory.buffer[end : end + len(data)] = data
            sizes[name] = len(data)
            end += len(data)
        return {"sizes": sizes}

    def do_attach(self, body: Request, fds: Sequence[int]) -> Reply:
        """Input slots in shared memory, behind those that are kept, and a mailbox."""
        layout = Layout.parse(body["layout"])
        subject = self.subjects[body["workload"]]
        kept = subject.slots[: body.get("keep", 0)]
        subject.slots = kept
        self._unmap(body["workload"], len(kept))
        if not body["count"]:
            return {}
        memory = self._memory(body, fds[0])
        slots = [memory.read(layout, layout.nbytes * i) for i in range(body["count"])]
        if body.get("guards") and not body["device_bytes"]:
            places = range(0, layout.nbytes * body["count"], layout.nbytes)
            leaves = layout.leaves
            memory.guard([replace(x, offset=x.offset + p) for p in places for x in leaves])
        for slot in slots:
            if subject.backward:
                require_gradients(slot["args"])
        subject.slots = [*kept, *slots]
        if not body["device_bytes"]:
            self.memories.append(memory)
        if "mailbox" in body:
            words = memoryview(Memory.map(fds[1], body["mailbox"]).buffer).cast("Q")
            subject.banks = body["banks"]
            subject.mailbox = words[: 1 + subject.banks * body["outputs"]]
        return {}

    def _memory(self, body: Request, fd: int) -> Memory:
        """Of slots, where kernels read them."""
        if not body["device_bytes"]:
            return Memory.map(fd, os.fstat(fd).st_size)
        from kernelevolve.evaluation.on_device import DeviceMemory

        memory = DeviceMemory.open(fd, body["device_bytes"])
        self.mapped.setdefault(body["workload"], []).append((body["count"], memory))
        return memory

    def _unmap(self, workload: str, keep: int) -> None:
        """Give up memory on the device that lies behind the first slots."""
        mapped = self.mapped.get(workload, [])
        while sum(count for count, _ in mapped) > keep:
            mapped.pop()[1].close()

    def wake(self) -> None:
        """Have the device change over to this process."""
        if self.device.type != "cpu":
            self.touched.zero_()
            self.events[0].record()

    def sync(self) -> None:
        """Wait until the device has done what it was given."""
        if self.device.type != "cpu":
            self.events[1].record()
            torch.cuda.synchronize()

    def do_handles(self, body: Request, fds: Sequence[int]) -> Reply:
        """Allocations on the device that addresses lie in, for the judge to read them."""
        from kernelevolve.evaluation.on_device import handles

        return {"handles": handles(body["addresses"])}

    def do_own(self, body: Request, fds: Sequence[int]) -> Reply:
        """Move the inputs to heap memory that ends where they end, for sanitizers to watch."""
        subject = self.subjects[body["workload"]]

        def moved(tensor: Tensor) -> Tensor:
            there = alone(tensor).to(self.device)
            return there.detach().requires_grad_(tensor.requires_grad)

        subject.slots = [{**s, "args": tree_map(moved, s["args"])} for s in subject.slots]
        return {}

    def do_record(self, body: Request, fds: Sequence[int]) -> Reply:
        """From now on, write down the calls of native functions."""
        from kernelevolve.evaluation.recording import Recorder

        self.recorder = Recorder()
        return {}

    def do_repeat(self, body: Request, fds: Sequence[int]) -> Reply:
        """Have the calls written down so far made again elsewhere, and forget them."""
        said = self.recorder.repeat(body["program"], body["patience"])
        return {"said": said, "missed": self.recorder.missed}

    def do_calls(self, body: Request, fds: Sequence[int]) -> Reply:
        """A window: `count` calls over the slots from `start`; also what verification uses."""
        subject = self.subjects[body["workload"]]
        if self.simulator is not None:
            return {"took": self.simulator.calls(subject, body["start"], body["count"])}
        took = subject.calls(body["start"], body["count"])
        if self.device.type == "cpu":
            return {"took": took}
        freed = torch.cuda.memory_stats().get("num_device_free", 0)
        return {"took": self.events[0].elapsed_time(self.events[1]) * 1e-3, "freed": freed}

    def do_simulate(self, body: Request, fds: Sequence[int]) -> Reply:
        """From now on the target's simulator says what windows cost."""
        self.simulator = Simulator(TargetSpec.model_validate(body["target"]))
        return {}

    def do_simulated(self, body: Request, fds: Sequence[int]) -> Reply:
        """What the last window cost; windows are windows again."""
        found = self.simulator.counters if self.simulator else {}
        self.simulator = None
        return {"counters": dict(found)}

    def do_held(self, body: Request, fds: Sequence[int]) -> Reply:
        """Calls over the slots in turn whose results are all kept until the next request."""
        subject = self.subjects[body["workload"]]
        held: list[Any] = []
        if body.get("apart"):
            held = subject.apart(body["start"], body["count"])
        else:
            subject.calls(body["start"], body["count"], held)
        subject.result = held
        tree, tensors = flatten(subject.result)
        return layout_of(tree, tensors, keep_strides=False).dump()

    def do_restore(self, body: Request, fds: Sequence[int]) -> Reply:
        """Put buffers back, collect garbage, and leave freed memory that holds no useful value."""
        subject = self.subjects[body["workload"]]
        subject.before = subject.result = None
        subject.others.clear()
        subject.restore()
        gc.collect(0)
        there = self.device
        self.scratch = [
            torch.full((n,), 0xFF, dtype=torch.uint8, device=there) for n in body["poison"]
        ]
        self.scratch = []
        self.sync()
        return {}

    def do_outcome(self, body: Request, fds: Sequence[int]) -> Reply:
        """Describe the last result and, where memory is given, copy its `first` leaves there.

        Memory that comes for `once` is given up again within this request; what serves a workload
        again and again stays mapped, as giving it up takes time that a later request would show.
        """
        subject = self.subjects[body["workload"]]
        tree, tensors = flatten(subject.outcome(buffers=body["buffers"]))
        layout = layout_of(tree, tensors, keep_strides=False)
        reply = layout.dump() | {
            "strides": [list(t.stride()) for t in tensors],
            "types": [self.kind(t) for t in tensors],
            "devices": [t.device.type for t in tensors],
            "pointers": [address(t) for t in tensors],
            "aliases": [self._is_given(t) or subject.owns(t) for t in tensors],
        }
        first = body.get("first", len(tensors))
        part = Layout(layout.tree, layout.leaves[:first])
        if fds and part.nbytes <= body["nbytes"]:
            once = body.get("once")
            memory = Memory.map(fds[0], body["nbytes"]) if once else self._outbox(body, fds[0])
            memory.write(part, tensors[:first])
        return reply

    def _is_given(self, tensor: Tensor) -> bool:
        mapped = [memory for some in self.mapped.values() for _, memory in some]
        return any(memory.holds(tensor) for memory in (*self.memories, *mapped))

    def kind(self, tensor: Tensor) -> str:
        """`Tensor` for what a candidate may return, else what it is."""
        pending = tensor.is_conj() or tensor.is_neg()
        return f"view with {PENDING}" if pending else type_name(tensor)

    def _outbox(self, body: Request, fd: int) -> Memory:
        """The judge's memory for one workload's outputs, mapped once."""
        workload, inode = body["workload"], os.fstat(fd).st_ino
        if workload not in self.outboxes or self.outboxes[workload][0] != inode:
            self.outboxes[workload] = inode, Memory.map(fd, body["nbytes"])
        return self.outboxes[workload][1]


def type_name(tensor: Tensor) -> str:
    """`Tensor` for plain tensors and parameters, else the name of the subclass."""
    plain = type(tensor) in (Tensor, nn.Parameter)
    return "Tensor" if plain else type(tensor).__name__


def causes(error: BaseException) -> list[str]:
    """What an exception says that it was raised from, the nearest first."""
    found: list[str] = []
    while (cause := error.__cause__) is not None and len(found) < MOST_CAUSES:
        found.append(f"because of {type(cause).__name__}: {cause}")
        error = cause
    return found


def failure(error: BaseException) -> dict[str, Any]:
    """What went wrong, for a person: the exception and the frames that are the module's own."""
    text = "\n".join([str(error), *causes(error)])
    kind = "unsupported" if isinstance(error, Unsupported) else "exception"
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in text:
        kind = "memory"
    if isinstance(error, TimeoutError):
        kind = "timeout"
    frames = [
        f"  {Path(f.filename).name}:{f.lineno} in {f.name}: {f.line}"
        for f in traceback.extract_tb(error.__traceback__)
        if not f.filename.startswith("<frozen") and not any(own in f.filename for own in OWN_FRAMES)
    ]
    return {
        "kind": kind,
        "type": type(error).__name__,
        "text": text[:4000],
        "trace": "\n".join(frames[-LAST_LINES:])[-4000:],
    }
