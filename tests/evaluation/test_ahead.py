"""Runners that are forked ahead: who gets them, and that nobody is timed beside their end."""

import threading

import pytest

from kernelevolve.core.job import Limits
from kernelevolve.evaluation.ahead import Ahead
from kernelevolve.evaluation.processes import Lost

USUAL, OTHER = Limits(), Limits(run_seconds=3)


class Stand:
    """In a runner's place."""

    def __init__(self, limits, *, dies=False):
        self.limits, self.dies = limits, dies
        self.folder, self.killed, self.closed = "", False, threading.Event()

    def show(self, folder):
        if self.dies:
            raise Lost("gone")
        self.folder = folder

    def kill(self):
        self.killed = True

    def close(self):
        self.closed.set()


class Forks(list):
    """Makes stands, and fails where it is told to."""

    def __init__(self, *dying):
        self.dying = dying

    def __call__(self, limits):
        self.append(Stand(limits, dies=len(self) in self.dying))
        return self[-1]


def test_the_one_ahead_serves_the_next_candidate_with_the_same_limits():
    forks = Forks()
    ahead = Ahead(forks)
    first, second = ahead.take(USUAL, "a"), ahead.take(USUAL, "b")
    ahead.settle()
    assert [first, second] == forks[:2]
    assert [stand.folder for stand in forks] == ["a", "b", ""]


def test_other_limits_need_another_runner():
    forks = Forks()
    ahead = Ahead(forks)
    ahead.take(USUAL, "a")
    taken = ahead.take(OTHER, "b")
    ahead.settle()
    assert (taken.limits, taken.folder) == (OTHER, "b")
    assert forks[1].killed
    assert forks[1].closed.is_set()
    assert forks[-1].limits == OTHER


def test_one_that_died_while_it_waited_is_replaced_and_blames_nobody():
    forks = Forks(1)
    ahead = Ahead(forks)
    ahead.take(USUAL, "a")
    taken = ahead.take(USUAL, "b")
    ahead.settle()
    assert taken.folder == "b"
    assert taken is not forks[1]
    assert forks[1].closed.is_set()


def test_where_none_can_be_forked_the_harness_says_so():
    ahead = Ahead(Forks(0))
    with pytest.raises(Lost):
        ahead.take(USUAL, "a")


def test_nothing_is_timed_before_who_was_seen_off_is_gone():
    forks = Forks()
    ahead = Ahead(forks)
    runner = ahead.take(USUAL, "a")
    ahead.see_off(runner)
    assert runner.killed
    ahead.settle()
    assert runner.closed.is_set()
