from types import SimpleNamespace

from kernelevolve.evaluation import report
from kernelevolve.evaluation.benchmark import Samples


def remarks(samples, faults=()):
    rivals = {"compile": SimpleNamespace(faults=set(faults))}
    return list(report.timed("small", samples, rivals))


def test_what_makes_figures_doubtful_is_said():
    us = {"candidate": [900.0, 900.0], "compile": [900.0, 900.0]}
    assert remarks(Samples(us, us)) == []
    busy = Samples(us, {"candidate": [100.0, 100.0]}, busy=3)
    clock, core, fault = remarks(busy, ["output 0 differs"])
    assert clock == "small: the runner's clock disagrees with the judge's"
    assert core == "small: other processes had the core in 3 of 4 windows"
    assert fault == "small: the baseline compile was wrong in a timed window: output 0 differs"
