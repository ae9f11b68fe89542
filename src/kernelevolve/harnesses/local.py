"""Evaluates on this machine: builds side by side, one judge for the device lane."""

import asyncio
import os
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kernelevolve import registry
from kernelevolve.config import cache_folder
from kernelevolve.core.detector import Detector
from kernelevolve.core.errors import HarnessError
from kernelevolve.core.evaluation import TIMED, Build, Evaluation, Flag, Stage, Status
from kernelevolve.core.job import Admission, Finding, Finished, Job, Limits
from kernelevolve.core.protocols import Harness
from kernelevolve.core.record import digest
from kernelevolve.core.target import TargetSpec
from kernelevolve.core.task import Task
from kernelevolve.evaluation import compiled, device_checks, lease, sanitize
from kernelevolve.evaluation.client import Client, Gone

ATTEMPTS = 3
BUILT_AS = "2"
"""Changes with what a build record holds, so that older ones are not found."""
RENEWED_AFTER = 32
"""Judged candidates that share one pool of secret inputs."""


@dataclass
class Pool:
    """The seed of a task's secret inputs."""

    seed: str
    uses: int = 0


def _fresh_pool() -> Pool:
    return Pool(secrets.token_hex(8))


@dataclass
class LocalHarness:
    """Processes on this machine."""

    spec: TargetSpec
    """The device of its one lane."""
    language: str
    """Registry name."""
    workers: int
    """Jobs that it works on at once: builds overlap, judging is one at a time."""
    folder: Path
    """Builds and scratch lie below it."""
    blobs: Callable[[str], bytes]
    """Gets a task's captured inputs or program."""
    limits: Limits = field(default_factory=Limits)
    """For the lane; a job's own limits hold for its build and runs."""
    baselines: tuple[str, ...] = ("eager", "compile")
    """Measured beside a user's own; without `compile` nothing waits for a compiler."""

    def __post_init__(self) -> None:
        self.slots = self.workers
        self.folder = Path(self.folder).resolve()
        self._builds = self.folder / "builds"
        self._builds.mkdir(parents=True, exist_ok=True)
        _remove_stale(self.folder / "scratch")
        self._scratch = self.folder / "scratch" / str(os.getpid())
        self._language = registry.load("language", self.language)()
        self._environment = dict(registry.load("target", self.spec.vendor)().environment(self.spec))
        self._judge: Client | None = None
        self._builder: Client | None = None
        self._starting = threading.Lock()
        self._lane = asyncio.Lock()
        self._builds_open: dict[str, asyncio.Lock] = {}
        self._pools: dict[str, Pool] = {}

    async def admit(self, task: Task, spec: TargetSpec, baseline: str | None) -> Admission:
        """Load the task, run its reference and baselines, say whether it can be searched."""
        body = {"task": task.model_dump(mode="json"), "baseline": baseline}
        try:
            answer = await self._ask("admit", task, body)
        except Gone:
            message = "the judge died while it admitted the task; see its messages above"
            finding = Finding(code="harness", message=message, fatal=True)
            return Admission(admitted=False, findings=(finding,))
        return Admission.model_validate_json(answer)

    async def evaluate(self, job: Job) -> Evaluation:
        """Screen, build, and have the judge do the rest."""
        begun = time.perf_counter()
        try:
            flags = tuple(self._language.screen(job.candidate, job.task))
        except (SyntaxError, ValueError) as error:
            return Evaluation(
                status=Status.INVALID,
                stage=Stage.SCREEN,
                message=str(error),
                detector=Detector.SCREEN,
            )
        screened = (time.perf_counter() - begun) * 1e3
        if job.stage is Stage.SCREEN:
            return Evaluation(
                status=Status.OK, stage=Stage.SCREEN, flags=flags, fidelity="compiled"
            )
        if not self.spec.timed and job.stage in (Stage.TUNE, *TIMED):
            job = job.model_copy(update={"stage": Stage.VERIFY})
        build = await self._build(job)
        spent = {"screen": screened, "build": build.seconds * 1e3}
        if not build.ok or job.stage is Stage.BUILD:
            return _built(build, flags, spent)
        checked = await self._sanitized(job, build)
        waiting = time.perf_counter()
        if flags and Detector.SCREEN not in job.without:
            job = job.model_copy(update={"audit": "high"})
        verdict = await self._judged(job, build, checked)
        total = (time.perf_counter() - waiting) * 1e3
        stages = spent | verdict.stages_ms
        stages["wait"] = max(0.0, total - sum(verdict.stages_ms.values()))
        return verdict.model_copy(
            update={
                "fidelity": self.spec.fidelity,
                "diagnosis": verdict.diagnosis or compiled.diagnose(build, self.spec),
                "flags": (*flags, *verdict.flags),
                "stages_ms": {k: round(v, 3) for k, v in stages.items()},
            }
        )

    async def _build(self, job: Job) -> Build:
        """Each content is built once, whoever asks for it at the same time."""
        limits = job.limits
        key = digest(job.candidate.id, job.target.arch, BUILT_AS)[:32]
        async with self._builds_open.setdefault(key, asyncio.Lock()):
            return await asyncio.to_thread(self._build_now, job, self._builds / key, limits)

    async def _sanitized(self, job: Job, build: Build) -> Build | None:
        """With sanitizers in, where the job confirms; a simulator checks every access itself."""
        if self.spec.simulated:
            return None
        if job.stage is not Stage.CONFIRM or Detector.SANITIZERS in job.without:
            return None
        if self.spec.accelerated:
            here = device_checks.program() is not None
            return build if here else Build(ok=False, message=device_checks.INSTALL)
        place = Path(build.folder).with_name(f"{Path(build.folder).name}-sanitized")

        def run(command: Sequence[str], folder: Path, limits: Limits) -> Finished:
            return self._run(command, folder, job.limits)

        def rebuild() -> Build:
            with lease.building():
                return sanitize.rebuild(job.candidate, build, place, run)

        async with self._builds_open.setdefault(str(place), asyncio.Lock()):
            return await asyncio.to_thread(rebuild)

    def _build_now(self, job: Job, folder: Path, limits: Limits) -> Build:
        record = folder.with_suffix(".json")
        if record.exists() and folder.exists():
            kept = Build.model_validate_json(record.read_text())
            return kept.model_copy(update={"seconds": 0.0})
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)

        def run(command: Sequence[str], where: Path, asked: Limits) -> Finished:
            """A language may ask for more time than is usual."""
            usual = asked.build_seconds == Limits().build_seconds
            longer = max(limits.build_seconds, asked.build_seconds)
            seconds = limits.build_seconds if usual else longer
            within = limits.model_copy(update={"build_seconds": seconds})
            return self._run(command, where, within)

        with lease.building():
            build: Build = self._language.build(job.candidate, job.target, folder, run)
        if build.ok:
            record.write_text(build.model_dump_json())
        return build

    def _run(self, command: Sequence[str], folder: Path, limits: Limits) -> Finished:
        with self._starting:
            if self._builder is None or not self._builder.alive:
                self._builder = Client("kernelevolve.evaluation.builder")
            builder = self._builder
        body = {
            "command": list(command),
            "folder": str(folder),
            "limits": limits.model_dump(),
            "environment": {},
        }
        try:
            done = builder.request(body).result(limits.build_seconds + 30)
        except (Gone, TimeoutError) as error:
            raise HarnessError("the build supervisor died") from error
        return Finished(code=done["code"], output=done["output"])

    async def _judged(self, job: Job, build: Build, sanitized: Build | None) -> Evaluation:
        body = {
            "job": job.model_dump(mode="json"),
            "build": build.model_dump(mode="json"),
            "sanitized": sanitized and sanitized.model_dump(mode="json"),
        }
        verdict = None
        for _ in range(ATTEMPTS):
            try:
                verdict = Evaluation.model_validate_json(await self._ask("measure", job.task, body))
            except Gone:
                verdict = _lost("the judge died")
            if verdict.status is not Status.LOST:
                break
        assert verdict is not None
        return verdict

    async def _ask(self, op: str, task: Task, body: dict[str, Any]) -> str:
        """One request at a time: the lane is one device."""
        refs = {"captured": task.captured, "program": task.program}
        blobs = {name: self.blobs(ref) for name, ref in refs.items() if ref is not None}
        async with self._lane:
            if self._judge is None or not self._judge.alive:
                if self._judge is not None:
                    self._judge.close()
                self._judge = await asyncio.to_thread(self._start_judge)
            seed = self._pool(task, op).seed
            fds = [_memory_file(data) for data in blobs.values()]
            try:
                future = self._judge.request(
                    {"op": op, "pool_seed": seed, "blobs": list(blobs), **body}, fds
                )
            finally:
                for fd in fds:
                    os.close(fd)
            answer = await asyncio.wrap_future(future)
        return str(answer["answer"])

    def _pool(self, task: Task, op: str) -> Pool:
        """The task's pool, another one after enough candidates have seen it."""
        pool = self._pools.setdefault(task.id, _fresh_pool())
        if pool.uses >= RENEWED_AFTER:
            pool = self._pools[task.id] = _fresh_pool()
        pool.uses += op == "measure"
        return pool

    def _start_judge(self) -> Client:
        compiled = cache_folder() / "inductor"
        compiled.mkdir(parents=True, exist_ok=True)
        self._scratch.mkdir(parents=True, exist_ok=True)
        return Client(
            "kernelevolve.evaluation.judge",
            {
                "spec": self.spec.model_dump(mode="json"),
                "language": self.language,
                "environment": self._environment,
                "builds": str(self._builds),
                "compiled": str(compiled),
                "baselines": list(self.baselines),
                "limits": self.limits.model_dump(mode="json"),
            },
        )

    async def close(self) -> None:
        """Stop every process that it started."""
        for client in (self._judge, self._builder):
            if client is not None:
                await asyncio.to_thread(client.close)
        self._judge = self._builder = None
        shutil.rmtree(self._scratch, ignore_errors=True)


def _built(build: Build, flags: tuple[Flag, ...], spent: dict[str, float]) -> Evaluation:
    """Where a job ends with its build."""
    status = Status.OK if build.ok else Status.BUILD_FAILED
    detector = None if build.ok else Detector.BUILD
    if not build.ok and build.message.startswith("model.py"):
        status, detector = Status.INVALID, Detector.SCREEN
    return Evaluation(
        status=status,
        stage=Stage.BUILD,
        message=build.message,
        detector=detector,
        fidelity="compiled",
        flags=flags,
        stages_ms={k: round(v, 3) for k, v in spent.items()},
    )


def _lost(why: str) -> Evaluation:
    return Evaluation(status=Status.LOST, stage=Stage.VERIFY, message=f"harness: {why}")


def _remove_stale(scratch: Path) -> None:
    """What processes left that are no more."""
    if scratch.is_dir():
        for folder in scratch.iterdir():
            if folder.name.isdigit() and not Path(f"/proc/{folder.name}").exists():
                shutil.rmtree(folder, ignore_errors=True)


def _memory_file(data: bytes) -> int:
    fd = os.memfd_create("blob")
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
    return fd


plugin: type[Harness] = LocalHarness
