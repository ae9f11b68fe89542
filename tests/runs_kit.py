"""Journals of small runs, for tests of everything that reads one."""

from kernelevolve.core.candidate import Move, Usage
from kernelevolve.core.evaluation import Diagnosis, Evaluation, Stage, Status, Timing
from kernelevolve.core.events import (
    Admitted,
    Confirmed,
    Evaluated,
    Event,
    Exchanged,
    Failed,
    Proposed,
    RunStarted,
    RunStopped,
    Selected,
    TriedOut,
)
from kernelevolve.core.job import Admission, Finding
from kernelevolve.core.target import TargetSpec
from kernelevolve.core.task import Task, Workload

TASK = Task(name="softmax", source="...", workloads=(Workload(name="small"),))
TARGET = TargetSpec(vendor="cpu", arch="x86_64", name="A processor", cores=(0, 1))


def timing(speedup: float, workload: str = "small", *, held_out: bool = False) -> Timing:
    return Timing(
        workload=workload,
        held_out=held_out,
        samples_us=(100.0 / speedup,),
        baselines_us={"eager": (100.0,), "compile": (120.0,)},
        speedup=speedup,
        low=speedup * 0.98,
        high=speedup * 1.02,
    )


def ok(speedup: float, stage: Stage = Stage.BENCHMARK) -> Evaluation:
    return Evaluation(
        status=Status.OK,
        stage=stage,
        score=speedup,
        timings=(timing(speedup),),
        diagnosis=Diagnosis(limit="memory", sentence="moves 3 GB/s [of 18]", fraction=0.61),
        device_seconds=0.5,
    )


def bad(status: Status = Status.WRONG, message: str = "output 0 differs\nin row 3") -> Evaluation:
    return Evaluation(status=status, stage=Stage.VERIFY, message=message)


def selected(number: int, *parents: int, at: float = 0.0) -> Selected:
    memory = "merge" if len(parents) > 1 else "lineage" if parents else "fresh"
    return Selected(at=at, number=number, move=Move(parents=parents, memory=memory))


def proposed(number: int, summary: str = "fused row, 512-bit", at: float = 0.0) -> Proposed:
    return Proposed(
        at=at, number=number, candidate=f"c{number}", language="cpp", files={}, summary=summary
    )


def started(**config: object) -> RunStarted:
    return RunStarted(at=0.0, task=TASK, target=TARGET, config={"nodes": 60} | config)


def admission(*, admitted: bool = True) -> Admission:
    finding = Finding(code="repeats", message="differs [between] calls", fatal=not admitted)
    return Admission(
        admitted=admitted,
        findings=(finding,),
        memory_bytes=64 << 20,
        baselines_us={"small": {"eager": 100.0, "compile": 120.0}},
        floor_us={"small": 50.0},
    )


def exchanged(number: int) -> Exchanged:
    return Exchanged(
        at=1.5,
        number=number,
        role="programmer",
        ordinal=0,
        model="openai:m",
        status=200,
        request="a",
        response="b",
        usage=Usage(tokens=5000, dollars=0.02, requests=1),
    )


def journal() -> list[Event]:
    """A run with nodes that end in several ways, one of them confirmed."""
    return [
        started(language="cpp", policy="mcts", minutes=2.0),
        Admitted(at=0.5, admission=admission()),
        selected(1),
        proposed(1, "plain loop"),
        Evaluated(at=1.0, number=1, evaluation=ok(1.2)),
        selected(2, 1),
        selected(3, 1),
        exchanged(2),
        TriedOut(at=1.6, number=2, stage=Stage.VERIFY, candidate="c", evaluation=bad()),
        proposed(2),
        Failed(at=2.0, number=3, message="no answer [in time]"),
        Evaluated(at=3.0, number=2, evaluation=ok(2.1)),
        selected(4, 2, 1),
        proposed(4),
        Evaluated(at=4.0, number=4, evaluation=bad()),
        selected(5, 2),
        proposed(5),
        Evaluated(
            at=5.0,
            number=5,
            evaluation=Evaluation(status=Status.DUPLICATE, stage=Stage.SCREEN),
            same_as=2,
        ),
        Confirmed(at=6.0, number=2, evaluation=ok(2.05, Stage.CONFIRM)),
        RunStopped(at=7.0, reason="nodes"),
    ]
