"""When a device rests, told by how long it takes to answer."""

import threading

import pytest

from kernelevolve.evaluation import device
from kernelevolve.evaluation.device import Device, Reach, Segment
from kernelevolve.evaluation.peek import Extent

QUICK, CHANGES_OVER, TURN = 9e-6, 190e-6, 2.4e-3


class Answering(Device):
    """Answers after the given times, and goes on with the last one."""

    def __init__(self, *seconds):
        self.seconds = list(seconds)
        self.now = 0.0

    def pause(self, seconds):
        self.now += seconds

    def probe(self):
        took = self.seconds.pop(0) if len(self.seconds) > 1 else self.seconds[0]
        self.now += took
        return took


@pytest.fixture
def clocked(monkeypatch):
    def make(*seconds):
        made = Answering(*seconds)
        monkeypatch.setattr(device.time, "perf_counter", lambda: made.now)
        monkeypatch.setattr(device.time, "sleep", made.pause)
        return made

    return make


def test_a_window_ends_when_the_device_has_answered_and_answers_at_once(clocked):
    assert clocked(CHANGES_OVER, QUICK).rest() == pytest.approx(CHANGES_OVER)


def test_work_that_goes_on_is_part_of_the_window(clocked):
    found = clocked(TURN, TURN, TURN, QUICK).rest()
    assert found == pytest.approx(3 * TURN + device.PAUSE_SECONDS)


def test_work_that_waited_for_other_work_is_not_overlooked(clocked):
    found = clocked(QUICK, CHANGES_OVER, CHANGES_OVER, QUICK).rest()
    assert found > device.PAUSE_SECONDS + CHANGES_OVER


def test_a_kernel_that_never_ends_leaves_no_rest(clocked):
    assert clocked(TURN).rest() is None


def test_one_slow_answer_is_no_rest(clocked):
    assert clocked(QUICK).rests()
    assert not clocked(TURN).rests()


class Unmapped(Device):
    def __init__(self):
        self.cuda = None


def test_memory_is_read_within_an_allocation_only():
    reach = Reach(Unmapped())
    reach._segments[4096] = Segment("", 4096, 100, here=1 << 20)
    assert reach.place(Extent(4106, 0, 90)) == (1 << 20) + 10
    assert reach.place(Extent(4106, 0, 91)) is None
    assert reach.place(Extent(4000, 0, 10)) is None


class Entered(Device):
    """A driver that refuses threads without a context, as the real one does."""

    def __init__(self):
        self.cuda, self._context, self.open, self._here = self, 7, {1 << 20}, threading.local()

    def cuCtxSetCurrent(self, context):
        self._here.context = context
        return (0,)

    def cuIpcCloseMemHandle(self, here):
        if getattr(self._here, "context", None) == self._context:
            self.open.remove(here)
        return (0,)


def test_any_thread_lets_go_of_memory():
    device = Entered()
    reach = Reach(device)
    reach._segments[4096] = Segment("", 4096, 100, here=1 << 20)
    closing = threading.Thread(target=reach.close)
    closing.start()
    closing.join()
    assert not device.open
