"""What a candidate may say through a verdict."""

from kernelevolve.core.detector import Detector
from kernelevolve.core.evaluation import Status
from kernelevolve.evaluation.verdict import LONGEST, Verdict, raised


def test_a_message_cannot_steer_a_terminal():
    error = {
        "type": "Error",
        "text": "\x1b[2J\x1b[32mok 9.99x\r\x07",
        "trace": "model.py:1\n\tline",
    }
    said = str(raised(error))
    assert not any(c in said for c in "\x1b\r\x07")
    assert "ok 9.99x" in said
    assert "model.py:1\n\tline" in said


def test_a_message_is_bounded():
    assert len(str(Verdict(Status.WRONG, Detector.STRUCTURE, "a" * 3_000_000))) <= LONGEST + 2
