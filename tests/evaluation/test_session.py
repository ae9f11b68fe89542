"""What a session takes off a window."""

from kernelevolve.evaluation.session import OVERHEAD_LIMIT, Session, _Timed


class Interrupted(Session):
    """Every empty window waits for a core, as on a machine with too much to do."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def _timed(self, *_: object) -> _Timed:
        return _Timed(self.seconds, self.seconds, 0.0)


def test_a_busy_machine_makes_no_kernel_look_fast():
    busy = Interrupted(seconds=0.005)
    busy.calibrate()
    assert busy.overhead <= OVERHEAD_LIMIT
    Interrupted(seconds=0.00003).calibrate()
    assert busy.overhead <= 0.00003
