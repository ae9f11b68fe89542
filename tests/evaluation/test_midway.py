"""When a driver's count of ended calls is believed."""

from kernelevolve.evaluation.midway import Midway


def seen(last: int, last_at: float, found: int, found_at: float) -> Midway:
    midway = Midway(lambda: 0, 1, lambda: None)
    midway.begins(100.0)
    midway.last, midway.last_at = last, 100.0 + last_at
    midway.found, midway.found_at = found, 100.0 + found_at
    return midway


def test_a_count_that_goes_on_call_by_call_is_believed():
    assert not seen(49, 0.00499, 50, 0.005).leaps(busy=0.0)


def test_a_count_that_leaps_over_calls_is_not():
    assert seen(40, 0.00499, 60, 0.005).leaps(busy=0.0)
    assert seen(0, 0.00499, 20, 0.005).leaps(busy=0.0)
    assert seen(49, 0.00499, 51, 0.005).leaps(busy=0.0)


def test_calls_that_end_while_the_judge_looks_away_are_no_leap():
    assert not seen(10, 0.001, 50, 0.005).leaps(busy=0.0)
    assert not seen(0, 0.0, 50, 0.005).leaps(busy=0.0)


def test_a_window_that_waited_for_its_core_has_quicker_calls_than_its_mean():
    assert not seen(10, 0.0098, 14, 0.010).leaps(busy=0.9)


def test_a_stop_that_never_came_is_no_leap():
    assert not seen(7, 0.005, 0, 0.0).leaps(busy=0.0)


def test_a_count_must_keep_up_with_the_time():
    assert seen(2, 0.009, 0, 0.0).lags(count=100, took=0.010, busy=0.0)
    assert not seen(85, 0.009, 0, 0.0).lags(count=100, took=0.010, busy=0.0)


def test_the_call_that_brought_a_stop_about_is_verified_while_its_outputs_are_there():
    midway = seen(last=3, last_at=1.0, found=4, found_at=1.1)
    assert midway.looked_at(4) == 4
    assert midway.looked_at(5) == 4
    assert midway.looked_at(6) == 6
    assert seen(last=0, last_at=0.0, found=0, found_at=0.0).looked_at(1) == 1
