"""The verbs of the package for Python callers; settings are keywords instead of flags."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kernelevolve import app
from kernelevolve.config import RunConfig, layered
from kernelevolve.core.errors import UsageError
from kernelevolve.core.evaluation import Evaluation, Stage
from kernelevolve.core.job import Admission
from kernelevolve.core.protocols import Reporter
from kernelevolve.core.task import Task

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

    Problem = Task | Module | Path | str


def optimize(
    problem: "Problem",
    inputs: "Sequence[Tensor] | None" = None,
    *,
    reporters: Sequence[Reporter] = (),
    **settings: object,
) -> app.Result:
    """Search for a faster kernel, verify it and confirm it.

    Args:
        problem: a task, the path of a task file, or a live module.
        inputs: example inputs, which a live module needs.
        reporters: told of every event.
        settings: fields of `RunConfig`, for example `nodes=30, threads=2`.

    Raises:
        UsageError: the problem or a setting cannot be used; the message says what to change.
    """
    config = layered(settings)
    return app.optimize(_task(problem, inputs, config), config, reporters)


def resume(run: str, *, reporters: Sequence[Reporter] = (), **settings: object) -> app.Result:
    """Go on with a run; settings given here replace those that it was started with.

    Raises:
        UsageError: there is no such run, or a setting cannot be used.
    """
    store = layered({"store": settings.get("store")}).store
    return app.resume(run, app.stored_config(run, store, settings), reporters)


def evaluate(
    problem: "Problem",
    candidate: str | Path,
    inputs: "Sequence[Tensor] | None" = None,
    *,
    stage: Stage = Stage.BENCHMARK,
    **settings: object,
) -> Evaluation:
    """Build, verify and time one candidate: a file with `ModelNew`, or its folder."""
    config = layered(settings)
    return app.evaluate(_task(problem, inputs, config), Path(candidate), config, stage)


def check(
    problem: "Problem", inputs: "Sequence[Tensor] | None" = None, **settings: object
) -> Admission:
    """Say whether a task can be searched, and what was measured to find out."""
    config = layered(settings)
    return app.check(_task(problem, inputs, config), config)


def read_task(file: str | Path, captured: str | Path | None = None) -> Task:
    """The task in a file, with captured inputs as a workload.

    Raises:
        TaskError: it cannot be used; the message says what to change.
    """
    return app.read_task(Path(file), Path(captured) if captured else None)


def _task(problem: "Problem", inputs: "Sequence[Tensor] | None", config: RunConfig) -> Task:
    if isinstance(problem, Task):
        return problem
    if isinstance(problem, str | Path):
        return read_task(problem, config.inputs)
    if inputs is None:
        raise UsageError("a live module needs example inputs: optimize(module, [tensor, ...])")
    return Task.from_module(problem, inputs)
