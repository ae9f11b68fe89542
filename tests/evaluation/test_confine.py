"""What a confined process may do, tried in a process of its own."""

import errno
import os
import signal

import pytest

from kernelevolve.evaluation import confine

pytestmark = [
    pytest.mark.skipif(not confine.program(), reason="no filter for this processor"),
    pytest.mark.filterwarnings("ignore:This process:DeprecationWarning"),
]


def tried(action, *, alone):
    """What a confined child found: 0, or the error's number."""
    child = os.fork()
    if child == 0:
        code = 200
        try:
            confine.confine(frozenset((0, 1, 2)), alone=alone)
            action()
            code = 0
        except OSError as error:
            code = error.errno
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def signal_parent():
    os.kill(os.getppid(), 0)


@pytest.mark.parametrize("alone", [True, False])
def test_others_may_be_sent_signals_only_where_numbers_are_its_own(alone):
    assert tried(signal_parent, alone=alone) == (errno.EPERM if alone else 0)


def test_everybody_at_once_is_others_too():
    assert tried(lambda: os.kill(-1, 0), alone=True) == errno.EPERM
    assert tried(lambda: os.kill(0, 0), alone=True) == errno.EPERM
    assert tried(lambda: signal.pidfd_send_signal(os.pidfd_open(os.getppid()), 0), alone=True) == (
        errno.EPERM
    )


def test_a_process_may_signal_itself():
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    assert tried(lambda: os.kill(os.getpid(), signal.SIGUSR1), alone=True) == 0
    assert tried(lambda: signal.raise_signal(signal.SIGUSR1), alone=True) == 0


def test_abort_ends_it_as_ever():
    assert tried(os.abort, alone=True) == -signal.SIGABRT
