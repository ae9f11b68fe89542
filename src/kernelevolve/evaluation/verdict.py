"""What a runner's failure means, in words for the candidate's author. In the judge."""

import re
import signal
from errno import EAGAIN, EFBIG, EMFILE, ENOSPC
from typing import Any

from kernelevolve.core.detector import Detector
from kernelevolve.core.evaluation import Status
from kernelevolve.evaluation.processes import CLOSED, Ended

MEMORY_SIGNS = ("bad_alloc", "can't allocate memory", "Cannot allocate memory", "MemoryError")
REACHED = re.compile(
    rf"\w*Error: \[Errno ({EAGAIN}|{EMFILE}|{EFBIG}|{ENOSPC})\]"
    "|RuntimeError: can't start new thread"
)
"""An exception that says that a limit was reached: processes, descriptors, file size, space."""


class Verdict(Exception):
    """Ends a trial with a status."""

    def __init__(self, status: Status, detector: Detector, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.detector = detector


def raised(error: Any) -> Verdict:
    """Of an exception in a runner."""
    text, kind = str(error.get("text", "")), error.get("kind")
    head = f"{error.get('type', 'Exception')}: {text}"
    detail = f"{head}\n{error.get('trace', '')}".rstrip()
    if kind == "invalid":
        return Verdict(Status.INVALID, Detector.SCREEN, f"not a candidate: {detail}")
    if kind == "memory":
        return Verdict(Status.OUT_OF_MEMORY, Detector.LIMITS, detail)
    if kind == "unsupported":
        return Verdict(Status.WRONG, Detector.STRUCTURE, f"forward returns {text}")
    detector = Detector.LIMITS if REACHED.match(head) else Detector.EXIT
    return Verdict(Status.CRASHED, detector, detail)


def ended(error: Ended) -> Verdict:
    """Of a process that did not answer any more."""
    said = f"\n{error.log}" if error.log else ""
    if error.why == CLOSED:
        return Verdict(Status.REJECTED, Detector.PROTOCOL, f"{CLOSED}{said}")
    if error.why:
        return Verdict(Status.REJECTED, Detector.LIMITS, f"{error.why}{said}")
    if any(sign in error.log for sign in MEMORY_SIGNS):
        return Verdict(
            Status.OUT_OF_MEMORY, Detector.LIMITS, f"the process ran out of memory{said}"
        )
    if error.code == -signal.SIGXCPU:
        return Verdict(
            Status.TIMEOUT, Detector.LIMITS, f"the limit of processor time was reached{said}"
        )
    if error.code < 0:
        name = signal.Signals(-error.code).name if -error.code in set(signal.Signals) else "?"
        text = f"killed by signal {-error.code} ({name}){said}"
        return Verdict(Status.CRASHED, Detector.EXIT, text)
    text = f"the process ended itself with exit code {error.code} instead of returning"
    return Verdict(Status.CRASHED, Detector.EXIT, text + said)
