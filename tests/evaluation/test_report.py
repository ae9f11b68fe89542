from types import SimpleNamespace

from kernelevolve.evaluation import report
from kernelevolve.evaluation.benchmark import Samples


def remarks(samples, faults=(), *, singly=False):
    small = SimpleNamespace(workload=SimpleNamespace(name="small"))
    candidate = SimpleNamespace(prepared=small, singly=singly)
    rivals = {"compile": SimpleNamespace(faults=set(faults))}
    return list(report.timed(samples, candidate, rivals))


def test_what_makes_figures_doubtful_is_said():
    us = {"candidate": [900.0, 900.0], "compile": [900.0, 900.0]}
    assert remarks(Samples(us, us)) == []
    (alone,) = remarks(Samples(us, us), singly=True)
    assert alone.startswith("small: threads or processes were started in timed windows")
    busy = Samples(us, {"candidate": [100.0, 100.0]}, busy=3)
    clock, core, fault = remarks(busy, ["output 0 differs"])
    assert clock == "small: the runner's clock disagrees with the judge's"
    assert core == "small: other processes had the core in 3 of 4 windows"
    assert fault == "small: the baseline compile was wrong in a timed window: output 0 differs"
