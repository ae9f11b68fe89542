"""The programmer that needs no model and no key: rules, schedules and measurements."""

from __future__ import annotations

import asyncio
import json
import sys
from base64 import b64encode
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from kernelevolve.core.candidate import Attempt, Brief, Proposal, SourceFile, Usage
from kernelevolve.core.errors import ProgrammerError
from kernelevolve.core.protocols import Workbench
from kernelevolve.core.target import TargetSpec
from kernelevolve.core.task import Task
from kernelevolve.programmers.builtin.effects import told
from kernelevolve.programmers.builtin.moves import (
    Result,
    Step,
    draw,
    fingerprint,
    initial_plans,
    merge,
    mutate,
)
from kernelevolve.programmers.builtin.render import (
    LANGUAGES,
    Model,
    model_of,
    render,
    said,
)
from kernelevolve.programmers.builtin.schedule import Plan

CAPTURE = "kernelevolve.programmers.builtin.capture"
KEPT = 16
GRADIENTS = "gradients are left to autograd"


@dataclass
class Builtin:
    """Captures a task once, then answers briefs with plans and their source."""

    guided: bool = True
    """Use parents' measurements and diagnosis; False draws plans at random, for comparison."""
    models: dict[str, Model] = field(default_factory=dict, init=False, repr=False)
    capturing: asyncio.Lock = field(default_factory=asyncio.Lock, init=False, repr=False)

    async def study(self, task: Task, target: TargetSpec, bench: Workbench) -> None:
        """Capture the task.

        Raises:
            ProgrammerError: a live module cannot be captured.
        """
        await self._model(task, target, bench)

    def forecast(self, task: Task, target: TargetSpec, nodes: int) -> Usage:
        """See `Programmer`."""
        return Usage()

    async def propose(self, brief: Brief, bench: Workbench) -> Proposal:
        """Answer a brief.

        Raises:
            ProgrammerError: it does not write this language, or a live module cannot be captured.
        """
        if brief.language not in LANGUAGES:
            known = ", ".join(LANGUAGES)
            raise ProgrammerError(f"the built-in programmer writes {known}, not {brief.language}")
        model = await self._model(brief.task, brief.target, bench)
        model = replace(model, language=brief.language)
        if model.traced is None:
            step = Step(Plan(), f"left to the library: {model.message}")
        else:
            rng = Random(brief.seed)
            step = self._step(model, brief, rng)
        made = render(model, step.plan)
        said = f"{step.reason}; {made.message}" if made.message else step.reason
        return Proposal(
            files=tuple(SourceFile(path=p, text=t) for p, t in made.files.items()),
            summary=said[:600],
            plan=step.plan.model_dump_json(),
            algebraic=made.algebraic,
            fallback=made.fallback,
        )

    def _step(self, model: Model, brief: Brief, rng: Random) -> Step:
        try:
            return next_step(model, brief, rng) if self.guided else draw(model, _plans(brief), rng)
        except Exception as error:  # noqa: BLE001  a gap of the search costs no attempt
            return Step(Plan(), f"the default plan: {said(error)}")

    async def _model(self, task: Task, target: TargetSpec, bench: Workbench) -> Model:
        """The task as captured; kept by the task's content, and captured by one at a time."""
        key = f"{task.id}/{target.threads}"
        async with self.capturing:
            if key not in self.models:
                model = await _modelled(task, target.threads, bench)
                if len(self.models) >= KEPT:
                    self.models.pop(next(iter(self.models)))
                self.models[key] = model
            return self.models[key]


async def _modelled(task: Task, threads: int, bench: Workbench) -> Model:
    answer: dict[str, Any] = {"captures": [], "messages": [GRADIENTS]}
    if not task.backward:
        answer = await _captured(task, bench)
    model = model_of(answer.get("source", task.source), answer, threads)
    if model.traced is None and not task.source:
        raise ProgrammerError(f"this live module cannot be captured: {model.message}")
    return model


async def _captured(task: Task, bench: Workbench) -> dict[str, Any]:
    """What `capture` answers; no captures where the task's code ends it."""
    command, request = [sys.executable, "-P", "-m", CAPTURE], _request(task, bench)
    try:
        found: dict[str, Any] = json.loads(await bench.run(command, json.dumps(request).encode()))
    except (ProgrammerError, ValueError) as error:
        return {
            "captures": [],
            "messages": [f"not captured: {' '.join(str(error).split())[-300:]}"],
        }
    return found


def _request(task: Task, bench: Workbench) -> dict[str, object]:
    """What `capture` is asked."""
    if task.program is not None:
        return {"program": b64encode(bench.blob(task.program)).decode()}
    workloads = [{"sizes": w.sizes} for w in task.shown]
    return {"source": task.source, "workloads": workloads, "mode": task.mode}


def next_step(model: Model, brief: Brief, rng: Random) -> Step:
    """The plan for a brief: a start, a crossing of parents, or a change of one."""
    parents = [r for r in map(result_of, brief.parents) if r is not None]
    if not parents:
        return _start(model, brief, rng)
    if len(parents) > 1:
        crossed = merge(parents[0].plan, parents[1].plan, rng)
        if fingerprint(model, crossed.model_dump_json()) not in _known(model, brief):
            return Step(crossed, "decisions of two parents together")
    best = max(parents, key=lambda r: r.score or 0.0)
    return mutate(model, best, _measured(brief), _plans(brief), rng)


def _start(model: Model, brief: Brief, rng: Random) -> Step:
    known = _known(model, brief)
    plans = initial_plans(model)
    first = (brief.number - 1) % len(plans)
    for plan in (*plans[first:], *plans[:first]):
        if fingerprint(model, plan.model_dump_json()) not in known:
            return Step(plan, f"a first guess: {told(plan, Plan()) or 'the default'}")
    return mutate(model, Result(plans[0], None), (), _plans(brief), rng)


def _known(model: Model, brief: Brief) -> set[str]:
    return {fingerprint(model, plan) for plan in _plans(brief)}


def _plans(brief: Brief) -> list[str]:
    return [tried.plan for tried in brief.tried]


def _measured(brief: Brief) -> list[tuple[Plan, float]]:
    """Plans of this programmer that have a score."""
    read = ((plan_of(tried.plan), tried.score) for tried in brief.tried)
    return [(plan, score) for plan, score in read if plan is not None and score]


def result_of(attempt: Attempt) -> Result | None:
    """What an earlier attempt of this programmer was and how it did; None for others'."""
    plan = plan_of(attempt.plan)
    if plan is None:
        return None
    diagnosis = attempt.evaluation.diagnosis
    return Result(plan, attempt.evaluation.score, diagnosis.limit if diagnosis else "unknown")


def plan_of(text: str | None) -> Plan | None:
    """A plan of this programmer; None for others' notes."""
    try:
        return None if text is None else Plan.model_validate_json(text)
    except ValueError:
        return None
