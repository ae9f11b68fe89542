"""A task on a device lane: its reference runner, pools, baselines. In the judge."""

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from statistics import median

from kernelevolve.core.job import Finding, Limits
from kernelevolve.core.target import TargetSpec
from kernelevolve.core.task import Task, Workload
from kernelevolve.evaluation import benchmark
from kernelevolve.evaluation.answers import REFERENCE_SECONDS
from kernelevolve.evaluation.bench import Bench
from kernelevolve.evaluation.benchmark import Plan
from kernelevolve.evaluation.device import Device
from kernelevolve.evaluation.device_session import session_for
from kernelevolve.evaluation.device_slots import DeviceRing
from kernelevolve.evaluation.physics import Work
from kernelevolve.evaluation.pool import SEEDS, Place, Preparation, Prepared, Refused
from kernelevolve.evaluation.probes import KEPT_BYTES, Suite
from kernelevolve.evaluation.processes import Ended, Failed, Late, Runner
from kernelevolve.evaluation.session import Session
from kernelevolve.evaluation.verify import Broken, Wrong

Fork = Callable[[], Runner]
RING_BYTES = 256 << 20
MAX_SLOTS = 8
MEMORY_SHARE = 0.8
COMPILE_SECONDS = 240.0
AUTOTUNED = "max-autotune"
GRAPHED = "reduce-overhead"
"""Where kernels are launched on a device: those of a call as one CUDA graph."""
COMPILE_MODES = {
    "compile": "default",
    AUTOTUNED: "max-autotune-no-cudagraphs",
    GRAPHED: "reduce-overhead",
}
Failure = (Failed, Ended, Late, Wrong, Broken)


def confirmed_against(standard: tuple[str, ...], *, on_device: bool) -> tuple[str, ...]:
    """A search is not slowed by the compiler's longer modes; what is announced faces them."""
    if "compile" not in standard:
        return standard
    return (*standard, AUTOTUNED, *((GRAPHED,) if on_device else ()))


@dataclass(frozen=True)
class Room:
    """How much of the machine's memory judging takes, and what follows from it."""

    slots: int
    float64: bool
    needed: int


@dataclass
class Context:
    """Everything about one task that outlives one candidate."""

    task: Task
    spec: TargetSpec
    standard: tuple[str, ...]
    baseline: str | None
    fork: Fork
    seed: str
    """Secret; inputs, parameters and probes follow from it."""
    perturb: bool = True
    device: Device | None = None
    """What the task's kernels run on, if that is not a processor."""
    memory: int = 0
    """Bytes of the device that may be judged with; 0 until they are known."""
    findings: list[Finding] = field(default_factory=list)
    works: dict[str, Work] = field(default_factory=dict)
    rooms: dict[str, Room] = field(default_factory=dict)
    prepared: dict[str, Prepared] = field(default_factory=dict)
    suites: dict[str, Suite] = field(default_factory=dict)
    baselines: dict[str, dict[str, tuple[float, ...]]] = field(default_factory=dict)
    noise: dict[str, float] = field(default_factory=dict)
    """Workload to what its eager baseline differs from itself by, measured twice."""
    runners: dict[str, Runner] = field(default_factory=dict)
    sessions: dict[tuple[str, str], Session] = field(default_factory=dict)

    def close(self) -> None:
        """Kill its runners and free its memory."""
        for runner in self.runners.values():
            runner.close()
        self._forget()

    def renew(self, seed: str) -> None:
        """Other inputs, parameters and probes from now on; measured baselines stay."""
        if seed != self.seed:
            self._forget()
            self.seed = seed

    def _forget(self) -> None:
        for session in self.sessions.values():
            session.close()
        for suite in self.suites.values():
            suite.close()
        for prepared in self.prepared.values():
            prepared.close()
        self.sessions.clear()
        self.suites.clear()
        self.prepared.clear()

    def runner(self, kind: str) -> Runner:
        """One with the task loaded: `reference` for the pool, a baseline's for timing."""
        runner = self.runners.get(kind)
        if runner is None or runner.closed:
            runner = self.fork()
            self.runners[kind] = runner
            self._load(runner, report=kind == "reference")
        return runner

    def _load(self, runner: Runner, *, report: bool) -> None:
        threads = self.spec.threads
        runner.set_up(self.spec.cores, threads, REFERENCE_SECONDS)
        blobs = self.blobs
        fds = [_memory_file(data) for data in blobs.values()]
        task = self.task.model_dump(mode="json")
        try:
            reply = runner.ask(
                "source", REFERENCE_SECONDS, fds, task=task, threads=threads, blobs=list(blobs)
            )
        finally:
            for fd in fds:
                os.close(fd)
        if report:
            for effect in reply["effects"]:
                self.find("side-effects", f"importing the task changed {effect[:300]}")
            if printed := runner.log():
                self.find("prints", f"importing the task printed: {printed[:200]}")

    blobs: Mapping[str, bytes] = field(default_factory=dict)
    """Contents of the task's captured inputs and program."""

    def find(self, code: str, message: str) -> None:
        """Add a warning once."""
        finding = Finding(code=code, message=message)
        if finding not in self.findings:
            self.findings.append(finding)

    def ready(self, workload: Workload) -> Prepared:
        """The workload's pool, made at first use.

        Raises:
            Refused: it cannot be judged.
        """
        name = workload.name
        if name not in self.prepared:
            runner = self.runner("reference")
            self.work(workload)
            room = self.rooms[name] = self._room(workload)
            random = Random(f"{self.seed}/{self.perturb}/{name}")
            made = Preparation(
                runner, self.task, workload, random, room.slots, self.perturb, room.float64,
                self._place(),
            ).run()  # fmt: skip
            self.prepared[name] = made
            bench = Bench(
                made,
                self.task,
                self.seed,
                lambda: self.runner("reference"),
                self.perturb,
            )
            self.suites[name] = Suite(bench)
            for finding in made.findings:
                self.find(finding.code, finding.message)
        return self.prepared[name]

    def _place(self) -> Place:
        """Where the task's kernels read and write.

        Every workload has a session for each baseline and one for candidates, all at once; they
        share what was free on the device when the first one was made.
        """
        if self.device is None:
            return Place()
        sessions = len(self.task.workloads) * (len(self.kinds) + 1)
        device = self.device
        self.memory = self.memory or min(self.spec.memory, device.free)
        memory = self.memory // sessions
        return Place(
            device="cuda",
            room=device.block,
            ring=lambda made: DeviceRing(device, made.contents, made.inputs.nbytes, memory),
            cache=self.spec.last_level_cache,
            memory=memory,
        )

    def fixed_parameters(self, workload: Workload) -> list[str]:
        """Float parameters of the reference that are made the same whatever the seed."""
        random = Random(f"{self.seed}/fixed/{workload.name}")
        seeds = [random.randrange(SEEDS) for _ in range(2)]
        runner = self.runner("reference")
        reply = runner.ask("fixed", REFERENCE_SECONDS, workload=workload.name, seeds=seeds)
        return list(reply["names"])

    def work(self, workload: Workload) -> Work:
        """What a call moves and computes, estimated once."""
        if workload.name not in self.works:
            self._estimate(self.runner("reference"), workload)
        return self.works[workload.name]

    def _estimate(self, runner: Runner, workload: Workload) -> None:
        try:
            reply = runner.ask("estimate", REFERENCE_SECONDS, workload=workload.name)
            self.works[workload.name] = Work.parse(reply)
        except Failed as error:
            text = str(error.error.get("text", "")).split("\n")[0][:200]
            self.find(
                "estimate",
                f"{workload.name}: memory and operations could not be estimated ({text})",
            )
            self.works[workload.name] = Work()

    def _room(self, workload: Workload) -> Room:
        """Shrink the ring, then drop the oracle, then refuse."""
        work = self.works[workload.name]
        inputs = max(1, work.held)
        ring = min(2 * (self.spec.last_level_cache or RING_BYTES), RING_BYTES)
        slots = max(2, min(MAX_SLOTS, ring // inputs))
        outputs = 2 * work.outputs + 16 * work.output_elements
        probes = min(KEPT_BYTES, 8 * (inputs + outputs))
        once = 4 * work.held + 2 * work.peak + outputs + probes
        oracle = 2 * work.peak + 2 * work.held
        per_slot = 5 * inputs + outputs
        available = int(MEMORY_SHARE * available_memory())
        for count, float64 in ((slots, True), (2, True), (1, True), (1, False)):
            needed = once + count * per_slot + (oracle if float64 else 0)
            if needed <= available:
                if (count, float64) != (slots, True):
                    self.find(
                        "memory",
                        f"{workload.name}: {available >> 20} MB are free: the ring holds {count} "
                        f"input sets{'' if float64 else ' and the oracle is float32'}",
                    )
                return Room(count, float64, needed)
        raise Refused(
            "memory",
            f"{workload.name}: judging it needs about {needed / 1e9:.1f} GB of memory and "
            f"{available / 1e9:.1f} GB are free; use smaller sizes",
        )

    def session(self, kind: str, workload: Workload) -> Session:
        """A baseline on a workload, verified once.

        Raises:
            Failed, Ended, Late, Wrong, Broken: that baseline cannot be measured.
        """
        key = (kind, workload.name)
        known = self.sessions.get(key)
        if known is not None and not known.runner.closed:
            return known
        prepared = self.ready(workload)
        runner = self.runner(kind)
        self._install(kind, runner, prepared)
        random = Random(f"{self.seed}/{kind}/{workload.name}")
        fresh = self.suites[workload.name].fresh
        session = session_for(runner)(
            runner, self.task, prepared, random, COMPILE_SECONDS, *prepared.blocks(), fresh=fresh
        )
        session.attach()
        session.verify(1)
        session.lenient = True
        self.sessions[key] = session
        return session

    def _install(self, kind: str, runner: Runner, prepared: Prepared) -> None:
        name = prepared.workload.name
        if kind != "user":
            seed = prepared.state_seed
            runner.ask(
                "reference",
                REFERENCE_SECONDS,
                workload=name,
                seed=seed,
                perturb=self.perturb,
                mutated=list(prepared.mutated),
            )
            if kind in COMPILE_MODES:
                mode, stepwise = COMPILE_MODES[kind], kind == GRAPHED
                runner.ask(
                    "compile", REFERENCE_SECONDS, workload=name, mode=mode, stepwise=stepwise
                )
            return
        runner.ask(
            "baseline",
            REFERENCE_SECONDS,
            [prepared.state_fd],
            workload=name,
            source=self.baseline,
            **prepared.loading(),
        )

    @property
    def kinds(self) -> tuple[str, ...]:
        """Baselines to measure."""
        return (*self.standard, "user") if self.baseline else self.standard

    def all_sessions(self, workload: Workload) -> dict[str, Session]:
        """Those baselines that work; a remark for each that does not."""
        found: dict[str, Session] = {"eager": self.session("eager", workload)}
        for kind in self.kinds[1:]:
            try:
                found[kind] = self._working(kind, workload)
            except Failure as error:
                text = str(error).split("\n")[0][:300]
                self.find(f"baseline-{kind}", f"{workload.name}: no {kind} baseline: {text}")
        return found

    def _working(self, kind: str, workload: Workload) -> Session:
        """A baseline that works; where code that was kept from an earlier run is broken, anew."""
        try:
            return self.session(kind, workload)
        except Failure:
            if kind not in COMPILE_MODES:
                raise
        self.runners.pop(kind).close()
        self.runner(kind).ask("apart", REFERENCE_SECONDS)
        session = self.session(kind, workload)
        session.runner.ask("forget", REFERENCE_SECONDS)
        return session

    def measure_baselines(self, workload: Workload, plan: Plan) -> dict[str, tuple[float, ...]]:
        """Cached samples by baseline."""
        if workload.name not in self.baselines:
            sessions = self.all_sessions(workload)
            samples = benchmark.measure({**sessions, benchmark.AGAIN: sessions["eager"]}, plan)
            self.noise[workload.name] = benchmark.noise(samples.us)
            self.baselines[workload.name] = {k: tuple(samples.us[k]) for k in sessions}
        return self.baselines[workload.name]

    def best_baseline(self, workload: Workload) -> float:
        """Median of the fastest cached baseline, microseconds."""
        return min(median(v) for v in self.baselines[workload.name].values())


def available_memory() -> int:
    """Bytes that can be allocated without swapping."""
    with suppress(OSError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable"):
                return int(line.split()[1]) << 10
    return 8 << 30


def _memory_file(data: bytes) -> int:
    fd = os.memfd_create("blob")
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def reference_limits(limits: Limits) -> Limits:
    """The task is its user's own code: it may use more."""
    wide = {"memory_bytes": 1 << 40, "processes": 1024, "file_bytes": 4 << 30}
    return limits.model_copy(update=wide)
