"""Times of stages add up, whatever lies within what."""

import pytest

from kernelevolve.evaluation import stopwatch
from kernelevolve.evaluation.stopwatch import Stopwatch


@pytest.fixture
def sleep(monkeypatch):
    """Lets seconds pass at once."""
    now = [100.0]
    monkeypatch.setattr(stopwatch.time, "perf_counter", lambda: now[0])

    def pass_by(seconds):
        now[0] += seconds

    return pass_by


def test_what_lies_within_counts_for_the_inner_name_alone(sleep):
    clock = Stopwatch()
    with clock("verify"):
        sleep(1)
        with clock("sets"):
            sleep(2)
            with clock("held"):
                sleep(4)
            sleep(8)
        with clock("sets"):
            sleep(16)
        sleep(32)
    assert clock.ms == {"verify": 33e3, "sets": 26e3, "held": 4e3}


def test_what_was_timed_elsewhere_is_taken_off_what_surrounds_it(sleep):
    clock = Stopwatch()
    with clock("benchmark"):
        sleep(1)
        clock.add("windows", 250.0)
    assert clock.ms == {"benchmark": 750.0, "windows": 250.0}


def test_without_a_name_it_counts_for_what_surrounds_it(sleep):
    clock = Stopwatch()
    with clock("probes"), clock(""):
        sleep(1)
    assert clock.ms == {"probes": 1e3}


def test_a_failure_is_timed_too(sleep):
    clock = Stopwatch()
    with pytest.raises(ValueError, match="bad"), clock("benchmark"), clock("audits"):
        sleep(1)
        raise ValueError("bad")
    assert clock.ms == {"benchmark": 0.0, "audits": 1e3}
