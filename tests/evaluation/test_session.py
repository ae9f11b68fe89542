"""What a session takes off a window."""

from kernelevolve.evaluation.calls import OVERHEAD_LIMIT
from kernelevolve.evaluation.session import Session
from kernelevolve.evaluation.window import Timed


class Interrupted(Session):
    """Every empty window waits for a core, as on a machine with too much to do."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def _timed(self, *_: object) -> Timed:
        return Timed(self.seconds, self.seconds, 0.0)


def test_a_busy_machine_makes_no_kernel_look_fast():
    busy = Interrupted(seconds=0.005)
    busy.calibrate()
    assert Session.least_overhead <= OVERHEAD_LIMIT
    Interrupted(seconds=0.00003).calibrate()
    assert Session.least_overhead <= 0.00003
