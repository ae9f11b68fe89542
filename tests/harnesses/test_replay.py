import asyncio

import pytest

from kernelevolve.core.evaluation import Evaluation, Stage, Status
from kernelevolve.harnesses.replay import Replay
from kernelevolve.testing.contracts.harness import BODIES, HarnessContract, candidate
from kernelevolve.testing.journals import TARGET, passed

SALTS = ("", "after a loss", *map(str, range(10)))


def failed(status: Status, message: str) -> Evaluation:
    return Evaluation(status=status, stage=Stage.VERIFY, message=message)


class TestReplayContract(HarnessContract):
    """The recording is made up, so that what is under test is how it is given back."""

    @pytest.fixture(autouse=True)
    def recorded(self):
        verdicts = {
            "wrong": failed(Status.WRONG, "expected 0.03, got 0.06"),
            "raises": failed(Status.CRASHED, "RuntimeError: out of luck"),
            "signal": failed(Status.CRASHED, "SIGSEGV"),
            "endless": failed(Status.TIMEOUT, "ran longer than 2 s"),
        }
        evaluations = {candidate(BODIES[name]).id: found for name, found in verdicts.items()}
        for salt in SALTS:
            evaluations[candidate(BODIES["ok"], salt=salt).id] = passed(2.0)
        self.spec = TARGET
        self.harness = Replay(evaluations)
        self.run = asyncio.run
