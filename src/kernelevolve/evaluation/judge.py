"""The judge of one device lane: `python -m kernelevolve.evaluation.judge --fd N`.

Trusted. It runs no code of a task or a candidate, takes nothing but JSON and raw bytes from what
does, and holds what they must not know: seeds, expected outputs, clocks, the verdict. It ends,
with everything that it started, when the process that started it is gone.
"""

import argparse
import os
import queue
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from kernelevolve import registry
from kernelevolve.core.candidate import Candidate
from kernelevolve.core.detector import Detector
from kernelevolve.core.evaluation import Build, Evaluation, Stage, Status
from kernelevolve.core.job import Admission, Finding, Job, Limits
from kernelevolve.core.record import Record
from kernelevolve.core.target import TargetSpec
from kernelevolve.core.task import Task
from kernelevolve.evaluation import admission, cgroup, device_checks, heap, lease, sanitize
from kernelevolve.evaluation.ahead import Ahead
from kernelevolve.evaluation.context import Context, confirmed_against, reference_limits
from kernelevolve.evaluation.device import Device, device_files
from kernelevolve.evaluation.parent import WarmParent
from kernelevolve.evaluation.processes import Ended, Failed, Late, Lost, Runner
from kernelevolve.evaluation.sandbox import Walls
from kernelevolve.evaluation.sanitize import Checked
from kernelevolve.evaluation.trial import Trial
from kernelevolve.evaluation.wire import Channel, Closed, Malformed

KEPT_CONTEXTS = 2
COMPILER = ("torch._dynamo", "torch._inductor.compile_fx")
COMPILING = {
    "TORCHINDUCTOR_COMPILE_THREADS": "1",
    "TORCHINDUCTOR_CPP_CACHE_PRECOMPILE_HEADERS": "0",
    "TORCHINDUCTOR_VEC_ISA_OK": "1",
}
"""For whoever calls `torch.compile`: one compiler at a time, nothing that outlives it, and no
trial builds of vector instructions (a quarter of a second each): the processor's flags say them."""
PRELOAD = ("torch", "kernelevolve.registry", "kernelevolve.evaluation.reference")


class LaneSetup(Record):
    """What a judge is told once, by the process that starts it."""

    spec: TargetSpec
    """The device."""
    language: str
    """Registry name; its module is imported before runners are forked."""
    environment: dict[str, str]
    """Of every runner of this lane."""
    builds: str
    """Folder of all builds."""
    compiled: str
    """Folder that keeps the baselines' compiled code between runs."""
    baselines: tuple[str, ...]
    """Which are measured: `eager`, and `compile` unless left out."""
    limits: Limits
    """Default limits, for the reference's runners too."""


class Lane:
    """Warm parents and the contexts of the tasks that were judged last."""

    def __init__(self, setup: LaneSetup) -> None:
        self.setup = setup
        self.device = Device(setup.spec.index or 0) if setup.spec.accelerated else None
        self._files = device_files() if self.device else ()
        self.group = cgroup.Group(setup.limits.processes, setup.limits.memory_bytes)
        self._parents = {name: self._start(name) for name in ("reference", "candidate")}
        self._contexts: dict[str, Context] = {}
        self.ahead = Ahead(self._fork_candidate)

    def turn(self) -> AbstractContextManager[None]:
        """While it lasts no other judge works on the same GPU."""
        return lease.device(self.device.index) if self.device else nullcontext()

    def _start(self, name: str) -> WarmParent:
        language = f"kernelevolve.languages.{self.setup.language}"
        environment = self.setup.environment | COMPILING
        bindings = ["cuda.bindings.driver"] if self.device else []
        if name != "reference":
            checks, prefix = self._checks(name)
            readable = [Path(self.setup.builds)]
            walls = Walls(readable=readable, ends_itself=True, devices=self._files)
            wanted = registry.load("language", self.setup.language).preload
            preload = [*PRELOAD, *bindings, language, *filter(registry.installed, wanted)]
            return WarmParent(
                "candidate", walls, environment | checks, preload, self.device, prefix
            )
        writable = [Path(self.setup.compiled)]
        walls = Walls(writable=writable, everything=True, ends_itself=True, devices=self._files)
        cache = {"TORCHINDUCTOR_CACHE_DIR": self.setup.compiled}
        compiler = COMPILER if "compile" in self.setup.baselines else ()
        preload = [*PRELOAD, *bindings, *compiler]
        return WarmParent("reference", walls, environment | cache, preload, self.device)

    def fork_reference(self) -> Runner:
        """A runner for the task's own code, or for a baseline."""
        return self._parents["reference"].fork(reference_limits(self.setup.limits))

    def _fork_candidate(self, limits: Limits) -> Runner:
        cpu = int(40 * limits.run_seconds) * self.setup.spec.threads
        self.group.limit(limits.processes, limits.memory_bytes)
        hidden, doors = self.setup.builds, self.group.doors
        return self._parents["candidate"].fork(limits, hidden, cpu, doors, watched=self._watches)

    @property
    def _watches(self) -> bool:
        return not self.group.bounds >= {"pids", "memory"}

    @staticmethod
    def _checks(name: str) -> tuple[dict[str, str], Sequence[str]]:
        """Environment of a warm parent whose runners are looked at, and before its command."""
        if name in device_checks.TOOLS:
            return device_checks.ENVIRONMENT, device_checks.prefix(name)
        return (sanitize.environment() if name == "sanitizing" else {}), ()

    @property
    def _checked(self) -> Sequence[str]:
        return device_checks.TOOLS if self.device else ("sanitizing",)

    def sanitizing(self) -> None:
        """Start them when they are first wanted; they take seconds to be ready."""
        for name in self._checked:
            if name not in self._parents:
                self._parents[name] = self._start(name)

    def sanitized(self, build: Build, limits: Limits, candidate: Candidate) -> Iterator[Checked]:
        """A runner for each tool that looks on; or one whose native code has sanitizers in it."""
        cpu = int(400 * limits.run_seconds) * self.setup.spec.threads
        self.sanitizing()
        for name in self._checked:
            hidden, parent = self.setup.builds, self._parents[name]
            doors, watched = self.group.doors, self._watches
            runner = parent.fork(limits, hidden, cpu, doors, watched=watched, space=False)
            runner.show(build.folder)
            since = parent.said()[1]
            told = partial(self._told, name, parent, since, candidate)
            yield Checked(runner, told, name if self.device else "")

    def _told(self, name: str, parent: WarmParent, since: int, candidate: Candidate) -> str:
        """What a tool has printed of a candidate."""
        return device_checks.summary(name, parent.said(since)[0], candidate) if self.device else ""

    def context(
        self, job: "Asked", *, seed: str, perturb: bool = True, keep: bool = True
    ) -> Context:
        """The task's context, made at first use; the least recently used one is dropped.

        Args:
            job: names the task.
            seed: of the pool.
            perturb: other parameters than those that the task was made with.
            keep: for the search, whose pool is renewed; else for the final checks on one pool.
        """
        key = f"{job.task.id}/{job.baseline or ''}/{perturb}/{'' if keep else seed}"
        standard, on_device = self.setup.baselines, self.device is not None
        context = self._contexts.pop(key, None) or Context(
            task=job.task,
            spec=self.setup.spec,
            standard=standard if keep else confirmed_against(standard, on_device=on_device),
            baseline=job.baseline,
            fork=self.fork_reference,
            seed=seed,
            perturb=perturb,
            blobs=job.blobs,
            device=self.device,
        )
        context.renew(seed)
        self._contexts[key] = context
        while len(self._contexts) > KEPT_CONTEXTS:
            self.drop(next(iter(self._contexts.values())))
        return context

    def leave_final_checks(self, but: str) -> None:
        """Drop their contexts, except those of the pool that the next one shares."""
        for key, context in list(self._contexts.items()):
            if key.rpartition("/")[2] not in ("", but):
                self.drop(context)

    def drop(self, context: Context) -> None:
        """Kill its runners."""
        context.close()
        self._contexts = {k: c for k, c in self._contexts.items() if c is not context}

    def end(self) -> None:
        """Kill every process; may be called from another thread."""
        parents = list(self._parents.values())
        for parent in parents:
            parent.leave()
        for parent in parents:
            parent.end()
        self.group.close()


class Asked:
    """What a request says of the task."""

    def __init__(self, task: Task, baseline: str | None, blobs: dict[str, bytes]) -> None:
        self.task = task
        self.baseline = baseline
        self.blobs = blobs


def measure(lane: Lane, body: dict[str, Any], fds: Sequence[int]) -> Evaluation:
    """The evaluation of a built candidate."""
    job = Job.model_validate(body["job"])
    build = Build.model_validate(body["build"])
    asked = Asked(job.task, job.baseline, _blobs(body, fds))
    confirming = job.stage is Stage.CONFIRM
    seed = job.pool or (job.seed if confirming else body["pool_seed"])
    lane.leave_final_checks(but=seed if confirming else "")
    contexts: list[Context] = []
    sanitized = Build.model_validate(body["sanitized"]) if body["sanitized"] else None
    if sanitized and sanitized.ok:
        lane.sanitizing()

    def context(*, perturb: bool) -> Context:
        made = lane.context(asked, seed=seed, perturb=perturb, keep=not confirming)
        contexts.append(made)
        return made

    trial = Trial(
        job=job,
        build=build,
        context=context(perturb=Detector.PARAMETERS not in job.without),
        pristine=lambda: context(perturb=False),
        ahead=lane.ahead,
        sanitized=sanitized,
        checked=lambda built: lane.sanitized(built, job.limits, job.candidate),
    )
    try:
        return trial.run()
    except (Lost, Failed, Ended, Late, Closed) as error:
        for one in contexts:
            lane.drop(one)
        return Evaluation(status=Status.LOST, stage=trial.stage, message=f"harness: {error}")


def admit(lane: Lane, body: dict[str, Any], fds: Sequence[int]) -> Admission:
    """Whether the task can be searched."""
    task = Task.model_validate(body["task"])
    asked = Asked(task, body["baseline"], _blobs(body, fds))
    context = lane.context(asked, seed=body["pool_seed"])
    try:
        return admission.admit(context, body["pool_seed"])
    except Lost as error:
        lane.drop(context)
        finding = Finding(code="harness", message=f"harness: {error}", fatal=True)
        return Admission(admitted=False, findings=(finding,))


def _blobs(body: dict[str, Any], fds: Sequence[int]) -> dict[str, bytes]:
    return {
        name: os.pread(fd, os.fstat(fd).st_size, 0)
        for name, fd in zip(body["blobs"], fds, strict=True)
    }


REQUESTS = {"measure": measure, "admit": admit}


def main() -> None:
    """Serve until the other side is gone."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--fd", type=int, required=True)
    channel = Channel(socket.socket(fileno=parser.parse_args().fd), takes_fds=True)
    requests: queue.SimpleQueue[tuple[dict[str, Any], list[int]]] = queue.SimpleQueue()
    heap.keep_freed()
    setup = LaneSetup.model_validate(channel.receive().body)
    _step_aside(setup.spec.cores)
    lane = Lane(setup)
    threading.Thread(target=_listen, args=(channel, requests, lane), daemon=True).start()
    while True:
        body, fds = requests.get()
        with lane.turn():
            answer = REQUESTS[body["op"]](lane, body, fds)
        for fd in fds:
            os.close(fd)
        with suppress(Closed):
            channel.send({"id": body["id"], "answer": answer.model_dump_json()})


def _listen(
    channel: Channel, requests: "queue.SimpleQueue[tuple[dict[str, Any], list[int]]]", lane: Lane
) -> NoReturn:
    """Pass requests on; at end of file end everything at once, whatever is going on."""
    with suppress(Closed, Malformed):
        while True:
            requests.put(tuple(channel.receive()))  # type: ignore[arg-type]
    lane.end()
    os._exit(0)


def _step_aside(cores: Sequence[int]) -> None:
    """Keep off the cores that are timed, where there are others."""
    others = os.sched_getaffinity(0) - set(cores)
    if others and cores:
        os.sched_setaffinity(0, others)


if __name__ == "__main__":
    main()
