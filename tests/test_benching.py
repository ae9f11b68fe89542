"""A suite as `app.bench` runs it, with a scripted harness and programmer: nothing is timed."""

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from kernelevolve import app, registry
from kernelevolve.benching import Row, Standing
from kernelevolve.config import RunConfig
from kernelevolve.core.errors import UnknownName, UsageError
from kernelevolve.core.evaluation import Evaluation, Stage, Status
from kernelevolve.core.job import Admission, Finding, Job
from kernelevolve.testing.journals import TASK, passed, refused
from tests.search.search_kit import Device, Writer

NAMES = ("first", "second", "third")


class Hall:
    """What the harness of every run says, by the name of the task; and what it was asked."""

    def __init__(self) -> None:
        self.admits: dict[str, Callable[[], bool]] = {}
        self.judges: dict[str, Callable[[Job], Evaluation]] = {}
        self.interrupted: tuple[str, str] | None = None
        """A task, and what of it a person does not wait for."""
        self.admitted: list[str] = []
        self.judged: list[str] = []

    async def pass_by(self, task: str, moment: str) -> None:
        """Where the person interrupts, nothing comes of it."""
        if self.interrupted == (task, moment):
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            await asyncio.sleep(3600)


@pytest.fixture
def hall(monkeypatch: pytest.MonkeyPatch) -> Hall:
    """A suite `tiny` of three tasks, and a harness that says of each kernel what the hall says."""
    real, hall = registry.load, Hall()

    class Tiny:
        def tasks(self, vendor: str) -> Any:
            return [TASK.model_copy(update={"name": name}) for name in NAMES]

    class Harness(Device):
        def __init__(self, **given: Any) -> None:
            super().__init__()

        async def admit(self, task: Any, spec: Any, baseline: Any) -> Admission:
            hall.admitted.append(task.name)
            await hall.pass_by(task.name, "admit")
            if hall.admits.get(task.name, lambda: True)():
                return Admission(admitted=True)
            finding = Finding(code="reference-raises", message="it raised", fatal=True)
            return Admission(admitted=False, findings=(finding,))

        async def evaluate(self, job: Job) -> Evaluation:
            hall.judged.append(job.task.name)
            await hall.pass_by(job.task.name, "evaluate")
            judge = hall.judges.get(job.task.name)
            return judge(job) if judge else passed(2.0, job.stage, fraction=0.5)

    fakes = {
        ("suite", "tiny"): Tiny,
        ("harness", "local"): Harness,
        ("programmer", "builtin"): Writer,
    }
    monkeypatch.setattr(
        registry, "load", lambda family, name: fakes.get((family, name)) or real(family, name)
    )
    return hall


@pytest.fixture
def bench(hall: Hall, tmp_path: Any) -> Callable[..., Standing]:
    """Benches `tiny` in one store."""

    def run(only: tuple[str, ...] = (), again: bool = False, **settings: Any) -> Standing:
        config = RunConfig.model_validate({"nodes": 2, "store": str(tmp_path), **settings})
        return app.bench("tiny", config, only, again)

    return run


def test_every_task_gets_a_run_and_a_row(bench: Any, tmp_path: Any) -> None:
    found = bench()
    assert [row.task for row in found.rows] == list(NAMES)
    assert [row.run for row in found.rows] == [r["run"] for r in app.runs(str(tmp_path))]
    for row in found.rows:
        assert row.correct
        assert (row.speedup, row.roofline_fraction, row.reason) == (2.0, 0.5, "")
        assert row.speedup_over.keys() == {"eager", "compile"}
        assert row.interval == pytest.approx((1.96, 2.04))


def test_a_task_that_fails_does_not_stop_the_others(bench: Any, hall: Hall) -> None:
    hall.admits["first"] = lambda: False
    hall.judges["second"] = lambda job: refused(Status.WRONG)
    hall.judges["third"] = lambda job: (
        refused(Status.WRONG, job.stage) if job.stage is Stage.CONFIRM else passed(2.0, job.stage)
    )
    first, second, third = bench().rows
    assert not first.correct
    assert "it raised" in first.reason
    assert second.reason == "no correct kernel in 2 attempts (2 wrong)"
    assert third.reason.endswith("was not confirmed: wrong, wrong: made up")


def test_what_was_finished_is_not_repeated(bench: Any, hall: Hall) -> None:
    hall.judges["second"] = lambda job: refused(Status.WRONG)
    before = bench()
    asked = len(hall.judged)
    after = bench()
    assert len(hall.judged) == asked
    assert [row.kept for row in after.rows] == [True] * 3
    assert [r.model_copy(update={"kept": False}) for r in after.rows] == list(before.rows)


@pytest.mark.parametrize(
    "other", [{"nodes": 3}, {"seed": 1}, {"policy": "greedy"}, {"minutes": 5}, {"eager_only": True}]
)
def test_other_settings_are_another_question(bench: Any, other: Any) -> None:
    (before,) = bench(only=("first",)).rows
    (after,) = bench(only=("first",), **other).rows
    assert not after.kept
    assert after.run != before.run


def test_fresh_repeats_and_is_what_later_calls_find(bench: Any) -> None:
    runs = [bench(only=("first",), again=again).rows[0].run for again in (False, True, True)]
    assert len(set(runs)) == 3
    (row,) = bench(only=("first",)).rows
    assert (row.run, row.kept) == (runs[-1], True)


def test_a_task_that_was_not_admitted_is_tried_again_in_its_run(bench: Any, hall: Hall) -> None:
    hall.admits["first"] = lambda: False
    (before,) = bench(only=("first",)).rows
    del hall.admits["first"]
    (after,) = bench(only=("first",)).rows
    assert (after.run, after.correct, after.kept) == (before.run, True, False)


@pytest.fixture
def listening() -> Iterator[None]:
    """Interrupts arrive, also where the tests run in a background that ignores them."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("listening")
@pytest.mark.parametrize("moment", ["admit", "evaluate"])
def test_an_interrupt_ends_with_what_is_there_and_the_next_call_goes_on(
    bench: Any, hall: Hall, moment: str
) -> None:
    hall.interrupted = ("second", moment)
    before = bench()
    assert before.interrupted
    assert [row.correct for row in before.rows] == [True, False, False]
    assert before.rows[1].reason.startswith("interrupted")
    assert before.rows[2].reason == "not reached"
    hall.interrupted = None
    after = bench()
    assert not after.interrupted
    assert [(row.correct, row.kept) for row in after.rows] == [
        (True, True),
        (True, False),
        (True, False),
    ]
    assert after.rows[1].run == before.rows[1].run


def test_tasks_are_chosen_by_name_in_the_order_of_the_suite(bench: Any) -> None:
    assert [row.task for row in bench(only=("third", "first")).rows] == ["first", "third"]
    with pytest.raises(UnknownName, match=r"unknown case 'secnod' of suite tiny; near: second"):
        bench(only=("secnod",))
    with pytest.raises(UnknownName, match=r"known: first, second, third"):
        bench(only=("zzz",))


def test_where_nothing_can_be_timed_nothing_begins(bench: Any, hall: Hall, tmp_path: Any) -> None:
    with pytest.raises(UsageError, match="not timed"):
        bench(target="nvidia:sm_90", language="cuda")
    assert not hall.admitted
    assert not app.runs(str(tmp_path))


def test_figures_are_over_all_tasks_and_an_uncertain_gain_is_not_counted() -> None:
    def row(name: str, speedup: float, low: float, eager: float) -> Row:
        over = {"eager": eager, "compile": None}
        return Row(task=name, correct=True, speedup=speedup, interval=(low, 9.0), speedup_over=over)

    left = row("d", 2.0, 1.9, 4.0).model_copy(update={"fallback": True})
    assert not left.faster_than(1)
    rows = (row("a", 4.0, 3.0, 8.0), row("b", 1.0, 0.9, 2.0), Row(task="c", reason="none"))
    found = Standing(suite="tiny", target="cpu:x86_64", rows=rows).dump()
    assert (found["correct"], found["total"]) == (2, 3)
    assert found["geomean"] == {"eager": pytest.approx(4.0), "best": pytest.approx(2.0)}
    third = pytest.approx(1 / 3)
    assert found["fast_p"] == {"1": third, "1.5": third, "2": third}


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.needs_gxx
@pytest.mark.needs_sandbox
@pytest.mark.timeout(300)
def test_a_case_of_dlrm_is_benched_on_this_processor(tmp_path: Any) -> None:
    config = RunConfig(nodes=2, confirm=1, eager_only=True, store=str(tmp_path))
    (row,) = app.bench("dlrm", config, ["rmsnorm_backward"]).rows
    assert row.correct, row.reason
    assert row.run is not None
    assert row.run.startswith("dlrm-rmsnorm_backward-")
    assert row.speedup_over.keys() == {"eager"}
    assert app.bench("dlrm", config, ["rmsnorm_backward"]).rows[0].kept
