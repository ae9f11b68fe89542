"""The composition root: wires the parts of one run, and offers the verbs that front ends share."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from secrets import token_hex

from pydantic import ValidationError

from kernelevolve import (
    benching,
    candidatefile,
    cleaning,
    registry,
    rerunning,
    steering,
    taskfile,
    trajectories,
    views,
)
from kernelevolve.benching import Bench, Row, Standing
from kernelevolve.cleaning import Cleaned
from kernelevolve.config import RunConfig, data_folder
from kernelevolve.core.candidate import Candidate
from kernelevolve.core.errors import StoreError, UsageError
from kernelevolve.core.evaluation import Evaluation, Stage
from kernelevolve.core.events import Admitted
from kernelevolve.core.graph import Graph
from kernelevolve.core.job import Admission, Job
from kernelevolve.core.protocols import Programmer, Reporter, SelectionPolicy, Store
from kernelevolve.core.task import Task
from kernelevolve.doctor import Doctor, examine
from kernelevolve.knowing import add_note as add_note
from kernelevolve.knowing import find_notes as find_notes
from kernelevolve.knowing import lint_notes as lint_notes
from kernelevolve.knowing import note_index as note_index
from kernelevolve.knowing import retire_note as retire_note
from kernelevolve.knowing import show_note as show_note
from kernelevolve.learning import learn
from kernelevolve.replaying import Recording
from kernelevolve.results import Best, Result
from kernelevolve.sametwice import same_twice
from kernelevolve.search.journal import Journal
from kernelevolve.search.loop import Search
from kernelevolve.search.study import study
from kernelevolve.steering import Verb as Verb
from kernelevolve.testing.redteam import suite
from kernelevolve.testing.redteam.suite import Case, Outcome, Scoreboard
from kernelevolve.timelines import can_trace as can_trace
from kernelevolve.timelines import write_timeline as write_timeline
from kernelevolve.wiring import Machine, Parts, policy_of, programmer_of, text_of, with_language

__all__ = ["Best", "Cleaned", "Doctor", "Result", "with_language"]


def open_store(store: str | None) -> Store:
    """The store of a folder, or of this user."""
    return registry.load("store", "sqlite")(data_folder(store))  # type: ignore[no-any-return]


def read_task(path: Path, inputs: Path | None = None) -> Task:
    """The task in a file, with captured inputs as a further workload.

    Raises:
        TaskError: it cannot be used; the message says what to change.
    """
    return taskfile.read(path, inputs)


def optimize(task: Task, config: RunConfig, reporters: Sequence[Reporter] = ()) -> Result:
    """Search for a faster kernel until the configuration says stop, and confirm the best.

    Raises:
        UsageError: the task or the configuration cannot be used.
        StoreError: the journal cannot be written.
    """
    store = open_store(config.store)
    parts, policy = Parts.of(config).timed, policy_of(config)
    programmer, config = programmer_of(config, store), parts.config
    for data in task.attachments.values():
        store.put_blob(data)
    journal = Journal(store, config.run or _fresh_name(task, store), reporters)
    forecast = programmer.forecast(task, parts.target, config.nodes)
    journal.start(task, parts.target, config.model_dump(mode="json"), forecast)
    return _search(journal, task, config, parts, policy, programmer)


def resume(run: str, config: RunConfig, reporters: Sequence[Reporter] = ()) -> Result:
    """Take up a run where its journal ends; what was evaluated is not evaluated again.

    Raises:
        UsageError: there is no such run.
        LeaseHeld: another process is writing it.
    """
    store = open_store(config.store)
    parts, minds = Parts.of(config).timed, (policy_of(config), programmer_of(config, store))
    config = parts.config
    journal = Journal(store, run, reporters)
    journal.resume(config.model_dump(mode="json"))
    if journal.graph.task is None:
        raise StoreError(f"run {run!r}: its journal does not begin with RunStarted")
    return _search(journal, journal.graph.task, config, parts, *minds)


def stored_config(run: str, store: str | None, flags: Mapping[str, object]) -> RunConfig:
    """The configuration that a run was last given, with what is set in `flags` instead.

    Raises:
        UsageError: there is no such run, or a flag has a wrong value.
    """
    kept = _graph(open_store(store), run).config
    given = {key: value for key, value in flags.items() if value is not None}
    try:
        return RunConfig.model_validate({**kept, **given, "store": store, "run": run})
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(f"{first['loc'][0]} = {first['input']!r}: {first['msg']}") from error


def evaluate(
    task: Task, candidate: Path, config: RunConfig, stage: Stage = Stage.BENCHMARK
) -> Evaluation:
    """Judge one candidate: a Python file with `ModelNew`, or the folder of its `model.py`.

    Raises:
        UsageError: the candidate or the task cannot be read, or the task is not admitted.
    """
    files = candidatefile.read(candidate)
    parts = Parts.of(config)
    config = parts.config
    job = Job(
        task=task,
        candidate=Candidate(language=config.language, files=files),
        target=parts.target,
        stage=stage,
        seed=token_hex(16),
        limits=config.limits,
        baseline=text_of(config.baseline),
    )
    with Machine(parts, config, task.attachments.__getitem__) as machine:
        machine.admit(task)
        return machine.evaluate(job)


def check(task: Task, config: RunConfig) -> Admission:
    """Say whether a task can be searched: it loads, its reference is sane and repeatable."""
    parts = Parts.of(config)
    with Machine(parts, parts.config, task.attachments.__getitem__) as machine:
        return machine.admission(task)


def runs(store: str | None) -> list[dict[str, object]]:
    """One row per run of a store, oldest first."""
    kept = open_store(store)
    return [views.row(name, Graph.fold(kept.read(name))) for name in kept.runs()]


def show(run: str, store: str | None) -> dict[str, object]:
    """Every node of a run.

    Raises:
        UsageError: there is no such run.
    """
    return views.show(run, _graph(open_store(store), run))


def show_node(run: str, number: int, store: str | None) -> dict[str, object]:
    """One node with its source, verdict, brief and proposal.

    Raises:
        UsageError: there is no such run or node.
    """
    kept = open_store(store)
    graph = _graph(kept, run)
    _require_node(graph, run, number)
    return views.show_node(graph, number, kept.get_blob)


def replay(run: str, number: int, store: str | None) -> dict[str, object]:
    """Judge a node again with its journaled seeds, and compare with what was recorded.

    Its speed is no part of that, and is measured against eager alone.

    Raises:
        UsageError: there is no such run or node, it was never judged, or its device or language
            is not to be had here.
    """
    kept = open_store(store)
    graph = _graph(kept, run)
    _require_node(graph, run, number)
    recording = Recording.of(run, graph, number, kept)
    update = {"baseline": None, "eager_only": True}
    config = stored_config(run, store, {}).model_copy(update=update)
    parts = Parts.of(config)
    with Machine(parts, parts.config, kept.get_blob) as machine:
        jobs = recording.jobs(parts.target, config.limits)
        again = {stage: machine.evaluate(job) for stage, job in jobs}
    return recording.compared(again)


def replay_run(run: str, store: str | None, check_prompts: bool) -> dict[str, object]:
    """Repeat a run from what was recorded, without model or device.

    Raises:
        UsageError: there is no such run, or its programmer is not to be had here.
    """
    kept = open_store(store)
    config = stored_config(run, store, {})
    graph = _graph(kept, run)
    language = registry.load("language", config.language)()
    again = rerunning.Rerun(
        kept,
        run,
        policy_of(config),
        language.guide(graph.target) if graph.target else "",
        lambda *recorded: programmer_of(config, kept, *recorded),
        check_prompts,
    )
    return again.compared()


def trajectory_lines(run: str, store: str | None) -> Iterator[dict[str, object]]:
    """A run's exchanges with their verdicts and rewards, one object per node.

    Raises:
        UsageError: there is no such run.
    """
    kept = open_store(store)
    return trajectories.lines(run, _graph(kept, run), kept.get_blob)


def say(
    run: str, verb: Verb, store: str | None, number: int | None = None, text: str = ""
) -> Graph:
    """Tell a run something while it goes on.

    Raises:
        UsageError: there is no such run or node, or nothing is said.
    """
    return steering.say(open_store(store), run, verb, number, text)


def export(run: str, folder: Path, store: str | None, number: int | None = None) -> list[Path]:
    """Write a run's best kernel, or another of its correct ones, as a drop-in operator.

    Raises:
        UsageError: there is no such run or node, or the node is not correct.
    """
    kept = open_store(store)
    graph = _graph(kept, run)
    if number is None:
        best = views.announced(graph)
        if best is None:
            raise UsageError(f"run {run}: no confirmed kernel; choose a node with --node")
        number = best.number
    _require_node(graph, run, number)
    return Best(run, graph, number, kept, folder.parent).export(folder)


def doctor(config: RunConfig) -> Doctor:
    """What this machine can do, what is missing, and how even its clock is."""
    return examine(config, lambda: same_twice(config))


def redteam(
    config: RunConfig,
    wanted: Sequence[Case],
    observe: Callable[[Outcome], object] = lambda outcome: None,
) -> Scoreboard:
    """Have the harness judge the suite of exploits and honest kernels.

    Args:
        config: target, language, threads and store are used.
        wanted: what `kernelevolve.testing.redteam.suite.cases` selected.
        observe: called with each outcome.

    Raises:
        UsageError: the configuration cannot be used.
    """
    config, blobs = config.model_copy(update={"eager_only": True}), dict[str, bytes]()
    parts = Parts.of(config).timed
    config = parts.config
    with Machine(parts, config, blobs.__getitem__) as machine:
        judged = suite.run(machine.harness, parts.target, config.language, wanted, observe)
        return machine.loop.run(judged)


def bench(
    suite: str,
    config: RunConfig,
    only: Collection[str] = (),
    again: bool = False,
    reporters: Sequence[Reporter] = (),
    observe: Callable[[Row], object] = lambda row: None,
) -> Standing:
    """Optimise every task of a suite in turn, each as a run of its own.

    Args:
        suite: registry name.
        config: of every run; inputs, baseline and the run's name belong to a task, not to a suite.
        only: names of tasks; all where it is empty.
        again: repeat what an earlier call with the same settings has finished.
        reporters: told of every event of every run.
        observe: called with each task's row.

    Raises:
        UsageError: suite, task or configuration cannot be used.
        StoreError: a journal cannot be written.
    """
    config = config.model_copy(update={"inputs": None, "baseline": None, "run": None})
    collection = registry.load("suite", suite)()
    parts = Parts.of(config).timed
    config, target = parts.config, parts.target
    return Bench(
        suite,
        target,
        open_store(config.store),
        config,
        again,
        lambda task, settings: optimize(task, settings, reporters),
        lambda run, settings: resume(run, settings, reporters),
    ).run(benching.chosen(suite, collection.tasks(target.vendor), only), observe)


def clean(store: str | None, older_than_days: float, everything: bool, dry_run: bool) -> Cleaned:
    """Remove old runs with their builds and caches, or say what would be removed."""
    return cleaning.clean(
        registry.load("store", "sqlite")(data_folder(store)),
        data_folder(store),
        0.0 if everything else older_than_days,
        dry_run,
    )


def _search(
    journal: Journal,
    task: Task,
    config: RunConfig,
    parts: Parts,
    policy: SelectionPolicy,
    programmer: Programmer,
) -> Result:
    """Admit the task, search, and write the best kernel's files; the run has begun.

    The programmer studies the task meanwhile: what it does with it ends with this.
    """
    with Machine(parts, config, journal.store.get_blob) as machine:
        try:
            studied = study(journal, programmer, config.language, machine.execute)
            admission = machine.admit(task, studied)
        except BaseException as error:
            journal.stopped("interrupted" if isinstance(error, KeyboardInterrupt) else "error")
            raise
        journal.record(Admitted(at=journal.now(), admission=admission))
        search = Search(
            journal,
            config,
            policy,
            programmer,
            machine.harness,
            parts.language.guide(parts.target),
            machine.baseline,
            machine.execute,
        )
        machine.loop.run(search.run(), search.stop)
    return _result(journal.run, journal.graph, journal.store, config)


def _result(run: str, graph: Graph, store: Store, config: RunConfig) -> Result:
    node = views.announced(graph)
    best = Best(run, graph, node.number, store, data_folder(config.store)) if node else None
    files = [str(path) for path in best.write()] if best else []
    learnt = learn(run, graph, store, config)
    return Result(run, views.summary(run, graph, files, learnt), graph, best)


def _graph(store: Store, run: str) -> Graph:
    graph = Graph.fold(store.read(run))
    if not graph.length:
        raise UsageError(f"unknown run {run!r}; known: {', '.join(store.runs()) or 'none'}")
    return graph


def _require_node(graph: Graph, run: str, number: int) -> None:
    if number not in graph.nodes:
        raise UsageError(f"run {run}: no node #{number}; there are {len(graph)} nodes")


def _fresh_name(task: Task, store: Store) -> str:
    """The task's name with date and time; a counter where that is taken."""
    stem = f"{task.name}-{datetime.now():%Y%m%d-%H%M%S}"
    taken = set(store.runs())
    return next(n for i in range(1, 1000) if (n := stem if i == 1 else f"{stem}-{i}") not in taken)
