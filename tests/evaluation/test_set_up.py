"""A runner that does not start has run nobody's code."""

import pytest

from kernelevolve.evaluation.processes import Ended, Late, Lost, Runner


@pytest.mark.parametrize(
    ("error", "said"),
    [(Ended(1, "CUDA error: out of memory"), "out of memory"), (Late(30.0), "no answer within 30")],
)
def test_a_runner_that_cannot_start_is_the_machines_fault(monkeypatch, error, said):
    def ask(*_, **__):
        raise error

    monkeypatch.setattr(Runner, "ask", ask)
    with pytest.raises(Lost, match=said):
        object.__new__(Runner).set_up((0,), 1, 30.0)
