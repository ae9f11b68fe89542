"""One candidate before the judge: load, verify, time, diagnose. In the judge."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from functools import partial
from random import Random
from statistics import geometric_mean

from kernelevolve.core.detector import Detector
from kernelevolve.core.evaluation import (
    TIMED,
    Build,
    Diagnosis,
    Evaluation,
    Flag,
    Stage,
    Status,
    Timing,
)
from kernelevolve.core.job import Job, Seeds
from kernelevolve.core.task import Workload
from kernelevolve.evaluation import (
    benchmark,
    chosen,
    compiled,
    held,
    lease,
    physics,
    probing,
    replies,
    report,
    sandbox,
    sanitize,
    seeded,
    simulate,
)
from kernelevolve.evaluation.ahead import Ahead
from kernelevolve.evaluation.belongings import Belongings
from kernelevolve.evaluation.census import Watch
from kernelevolve.evaluation.context import Context
from kernelevolve.evaluation.device_session import session_for
from kernelevolve.evaluation.pool import Prepared, Refused
from kernelevolve.evaluation.probe import Probe
from kernelevolve.evaluation.probes import Suite
from kernelevolve.evaluation.processes import Ended, Failed, Runner
from kernelevolve.evaluation.replies import Loaded
from kernelevolve.evaluation.session import Session
from kernelevolve.evaluation.stopwatch import Stopwatch
from kernelevolve.evaluation.verdict import Verdict, ended, judged, on_probe, raised

SETS = 2
SETS_WHERE_LARGE = 1
CONFIRM_SETS = 8


@dataclass
class Trial:
    """What one job needs and what was found so far."""

    job: Job
    build: Build
    context: Context
    pristine: Callable[[], Context]
    """The same task with parameters as constructed, for candidates whose state is their own."""
    ahead: Ahead
    """Where its runner comes from."""
    checked: Callable[[Build], Iterator[sanitize.Checked]]
    """Runners that sanitizers look at."""
    sanitized: Build | None = None
    """With sanitizers in its native code, in confirm; not ok where it could not be made."""
    sessions: dict[str, Session] = field(default_factory=dict)
    suites: dict[str, Suite] = field(default_factory=dict)
    belongings: dict[str, Belongings] = field(default_factory=dict)
    probes: dict[str, list[str]] = field(default_factory=dict)
    """Workload to the probes that were passed."""
    setup_us: dict[str, float] = field(default_factory=dict)
    first_us: dict[str, float] = field(default_factory=dict)
    resident: int = 0
    stage: Stage = Stage.VERIFY
    clock: Stopwatch = field(default_factory=Stopwatch)
    flags: dict[str, str] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    incompatible: str = ""
    counters: dict[str, dict[str, float]] = field(default_factory=dict)
    device_seconds: float = 0.0

    def run(self) -> Evaluation:
        """The evaluation; never raises for a bad candidate.

        Raises:
            Lost: our own machinery failed.
        """
        with ExitStack() as stack:
            try:
                return self._judge(stack)
            except Verdict as verdict:
                return self._evaluation(verdict.status, str(verdict), verdict.detector)
            except Refused as error:
                text = f"the task cannot be judged: {error}"
                return self._evaluation(Status.INVALID, text)

    def _judge(self, stack: ExitStack) -> Evaluation:
        workloads, self.remarks = chosen.workloads(self.job, self.context)
        with self.clock("pool"):
            for workload in workloads:
                self.context.ready(workload)
        with self._judged():
            with self.clock("fork"):
                runner = self.ahead.take(self.job.limits, self.build.folder)
                stack.callback(self.ahead.see_off, runner)
                self._set_up(runner)
                self.remarks += report.blindness(runner)
            with self.clock("state"):
                watch = Watch(runner, self._seconds) if self._checks_state else None
            with self.clock("load"):
                prepared = [self._load(runner, w) for w in workloads]
                self.resident = runner.memory()[0]
            with self.clock("verify"):
                for one in prepared:
                    self._verify(runner, one, stack)
            self._note_state(watch, "verification")
            self.build = compiled.launched(self.build, self.job.target, runner, self._seconds)
        if self.job.stage not in TIMED:
            diagnosis = compiled.diagnose(self.build, self.job.target)
            return self._evaluation(Status.OK, diagnosis=diagnosis)
        with self.clock("sanitizers"), self._judged():
            self._sanitize(prepared)
        self.stage = self.job.stage
        with self.clock("settle"):
            self.ahead.settle()
        timings = self._time(runner, workloads)
        with self._judged():
            self._note_state(watch, "the timed calls")
        diagnosis = self._diagnosis(timings)
        return self._evaluation(Status.OK, timings=tuple(timings), diagnosis=diagnosis)

    def _sanitize(self, prepared: list[Prepared]) -> None:
        if self.sanitized is None or not self.sanitized.ok:
            said = self.sanitized.message if self.sanitized else ""
            self.remarks += [said] if said else []
            return
        load = partial(self._ask_load, build=self.sanitized)
        given = self.sanitized, self.job.candidate, prepared, self._set_up, load
        for checked in self.checked(self.sanitized):
            try:
                random = Random(f"{self.job.seed}/sanitizers")
                self.remarks += sanitize.look_on(checked, *given, random, self._seconds)
            except sanitize.Report as report:
                raise Verdict(report.status, report.detector, str(report)) from report
            finally:
                checked.runner.close()

    @property
    def _checks_state(self) -> bool:
        return Detector.STATE not in self.job.without

    def _note_state(self, watch: Watch | None, calls: str) -> None:
        with self.clock("state"):
            self.flags |= watch.notes(calls) if watch else {}

    def _set_up(self, runner: Runner) -> None:
        runner.set_up(self.job.target.cores, self.job.target.threads, self._seconds)

    @property
    def _seconds(self) -> float:
        return self.job.limits.run_seconds

    @property
    def _confirming(self) -> bool:
        return self.job.stage is Stage.CONFIRM

    @property
    def _thorough(self) -> bool:
        """Everything is verified that can be."""
        return self._confirming or self.job.audit == "high"

    def _judged(self) -> AbstractContextManager[None]:
        return judged(lambda: self.incompatible)

    def _load(self, runner: Runner, workload: Workload) -> Prepared:
        prepared = self.context.prepared[workload.name]
        context = self.context
        reply = self._ask_load(runner, prepared)
        if reply.loading == "seeded":
            self.incompatible = seeded.differences(prepared, reply.own)
            self.flags["seeded"] = seeded.FLAG
            context = self.pristine()
            prepared = context.ready(workload)
            fixed = context.fixed_parameters(workload)
            if fixed and Detector.STATE_LOADING not in self.job.without:
                text = f"{self.incompatible}\n{seeded.unseen(fixed)}"
                raise Verdict(Status.INCOMPATIBLE_STATE, Detector.STATE_LOADING, text)
            reply = self._ask_load(runner, prepared)
        self.suites[workload.name] = context.suites[workload.name]
        if reply.loading == "by_order":
            self.flags["state_by_order"] = "parameters were matched by order and shape, not by name"
        self.setup_us[workload.name] = reply.setup * 1e6
        return prepared

    def _ask_load(
        self,
        runner: Runner,
        prepared: Prepared,
        state_fd: int | None = None,
        build: Build | None = None,
    ) -> Loaded:
        task = self.job.task.model_copy(update={"source": "", "program": None, "captured": None})
        reply = runner.ask(
            "load",
            self._seconds,
            [prepared.state_fd if state_fd is None else state_fd],
            task=task.model_dump(mode="json"),
            build=(build or self.build).model_dump(mode="json"),
            language=self.job.candidate.language,
            workload=prepared.workload.name,
            **prepared.loading(),
        )
        return replies.loaded(reply)

    def _verify(self, runner: Runner, prepared: Prepared, stack: ExitStack) -> None:
        seed = f"{self.job.seed}/{self.job.candidate.id}/{prepared.workload.name}"
        suite = self.suites[prepared.workload.name]
        session = self.sessions[prepared.workload.name] = session_for(runner)(
            runner, self.job.task, prepared, Random(seed), self._seconds,
            *prepared.lend(), self.job.without, suite.fresh, clock=self.clock,
        )  # fmt: skip
        stack.callback(session.outputs.close)
        session.attach()
        own = self.belongings[prepared.workload.name] = Belongings(session)
        session.thorough = self._thorough
        chosen = suite.take(
            Random(f"{seed}/probes"),
            self.job.without,
            everything=self._thorough and not self._is_spared(suite),
            confirming=self._confirming,
        )
        first = next(chosen, None)
        sets = CONFIRM_SETS if self._thorough else SETS_WHERE_LARGE if suite.large else SETS
        with self.clock("sets"):
            base = first.base if first else None
            self.first_us[prepared.workload.name] = session.verify(sets, base)
        with self.clock("probes"):
            while first is not None:
                self._probe(runner, prepared, first)
                first = next(chosen, None)
        with self.clock("held"):
            held.verify(session, suite.bench.separates)
        own.check("verified calls")

    def _is_spared(self, suite: Suite) -> bool:
        """In confirm a huge workload meets some probes only where a smaller one meets all."""
        smaller = any(one.nbytes < suite.nbytes for one in self.suites.values())
        return self._confirming and suite.huge and smaller

    def _probe(self, runner: Runner, prepared: Prepared, probe: Probe) -> None:
        """One call on inputs made for a purpose, with state made for it where it has one."""
        name, what = prepared.workload.name, probe.plan.what
        session = self.sessions[name]
        if probe.state_fd is not None and "seeded" in self.flags:
            return
        try:
            with probing.parameters(session, probe, partial(self._ask_load, runner, prepared)):
                probing.verify(session, probe)
            self.probes.setdefault(name, []).append(probe.plan.name)
        except Failed as error:
            if not probe.may_refuse:
                raise on_probe(raised(error.error), probe, name) from error
            self.flags["refuses_views"] = f"raises on {what}"
        except Ended as error:
            raise on_probe(ended(error), probe, name) from error

    def _time(self, runner: Runner, workloads: tuple[Workload, ...]) -> list[Timing]:
        if self.job.target.simulated:
            return [self._simulate(workload) for workload in workloads]
        timings: list[Timing] = []
        for workload in workloads:
            with self.clock("baselines"):
                rivals = self._rivals(workload)
            with self.clock("lease"):
                held = lease.timing()
                held.__enter__()
            begun = time.monotonic()
            try:
                with self.clock("benchmark"), self._judged():
                    timings.append(self._measure(runner, workload, rivals))
            finally:
                held.__exit__(None, None, None)
                self.device_seconds += time.monotonic() - begun
            self._check_physics(workload, timings[-1].median_us)
        return timings

    def _simulate(self, workload: Workload) -> Timing:
        with self.clock("baselines"):
            reference_us = simulate.baseline(self.context, workload)
        with self.clock("benchmark"), self._judged():
            found = simulate.price(self.sessions[workload.name], self.job.target)
        us = found[simulate.TIME]
        self.counters[workload.name] = found
        self._check_physics(workload, us)
        return simulate.timing(workload, us, reference_us, self.setup_us[workload.name])

    def _rivals(self, workload: Workload) -> dict[str, Session]:
        if self._confirming:
            return self.context.all_sessions(workload)
        if workload.name not in self.context.baselines:
            with lease.timing():
                self.context.measure_baselines(workload, benchmark.BASELINE)
        return {"eager": self.context.session("eager", workload)}

    def _measure(self, runner: Runner, workload: Workload, rivals: dict[str, Session]) -> Timing:
        session = self.sessions[workload.name]
        subjects = {"candidate": session, **rivals}
        for one in subjects.values():
            one.clock = self.clock
        session.aside.clear()
        private = runner.private()
        if self._confirming:
            twice = {**subjects, benchmark.AGAIN: rivals["eager"]}
            samples = benchmark.measure_steadily(twice, benchmark.CONFIRM)
            noise = benchmark.noise(samples.us)
            baselines = {k: tuple(samples.us[k]) for k in rivals}
        else:
            best = self.context.best_baseline(workload)
            samples = benchmark.measure(subjects, benchmark.SEARCH, {"eager": 2}, best)
            noise = self.context.noise[workload.name]
            cached = self.context.baselines[workload.name]
            baselines = benchmark.drifted(cached, "eager", samples.us["eager"])
        self.flags |= report.growth(runner.private() - private, session)
        session.check_inputs()
        self.belongings[workload.name].check("timed calls")
        session.check_aside(rivals["eager"].aside, self.job.target.threads)
        health = session.health()
        self.remarks += report.timed(samples, session, rivals, health)
        grown = runner.memory()[1] - self.resident - session.slots.nbytes - session.outbox.nbytes
        return benchmark.timing(
            session,
            samples.us["candidate"],
            baselines,
            final=self._confirming,
            noise=noise,
            warm=session.slots.nbytes <= self.job.target.last_level_cache,
            setup_us=self.setup_us[workload.name],
            first_us=self.first_us[workload.name],
            memory=max(0, grown),
            device=samples.own["candidate"] if session.on_device else (),
            health=health,
        )

    def _check_physics(self, workload: Workload, us: float) -> None:
        reason = physics.impossible(self.context.works[workload.name], self.job.target, us)
        if reason and Detector.PHYSICS not in self.job.without:
            text = f"workload {workload.name!r}: {reason}"
            raise Verdict(Status.IMPOSSIBLE, Detector.PHYSICS, text)

    def _diagnosis(self, timings: list[Timing]) -> Diagnosis:
        """Of the shown workload that moves the most."""
        shown = [t for t in timings if not t.held_out]
        largest = max(shown, key=lambda t: self.context.works[t.workload].bytes_moved)
        work = self.context.works[largest.workload]
        counters = self.counters.get(largest.workload, {})
        build = simulate.with_counters(self.build, counters)
        found = physics.diagnose(work, self.job.target, largest.median_us, build)
        return simulate.explained(found, counters) if counters else found

    def _evaluation(
        self,
        status: Status,
        message: str = "",
        detector: Detector | None = None,
        timings: tuple[Timing, ...] = (),
        diagnosis: Diagnosis | None = None,
    ) -> Evaluation:
        self.flags |= report.flags(self.sessions)
        if self.job.task.tolerance.widened:
            self.flags["widened_tolerance"] = "the task's error budget is looser than the default"
        shown = [t.speedup for t in timings if not t.held_out]
        probed = report.probed(self.probes, self.suites)
        return Evaluation(
            status=status,
            stage=self.stage,
            message=message,
            detector=detector,
            score=geometric_mean(shown) if shown else None,
            timings=timings,
            errors=report.errors(self.sessions),
            diagnosis=diagnosis,
            flags=tuple(Flag(rule=k, reason=v) for k, v in self.flags.items()),
            remarks=(*sandbox.remark(), *self.remarks, *self._missing_baselines(), *probed),
            stages_ms={k: round(v, 3) for k, v in self.clock.ms.items()},
            seed=str(Seeds(self.context.seed, self.job.seed)),
            device_seconds=self.device_seconds,
        )

    def _missing_baselines(self) -> tuple[str, ...]:
        shown = tuple(f"{w.name}:" for w in chosen.workloads(self.job, self.context)[0])
        found = [f.message for f in self.context.findings if f.code.startswith("baseline-")]
        return tuple(message for message in found if message.startswith(shown))
