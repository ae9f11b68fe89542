"""What a runner's failure means, in words for the candidate's author. In the judge."""

import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from errno import EAGAIN, EFBIG, EMFILE, ENOSPC
from typing import Any

from kernelevolve.core.detector import Detector
from kernelevolve.core.evaluation import Status
from kernelevolve.evaluation.probe import Probe
from kernelevolve.evaluation.processes import CLOSED, Ended, Failed, Late
from kernelevolve.evaluation.verify import Broken, Unseen, Wrong
from kernelevolve.evaluation.wire import Malformed

MEMORY_SIGNS = ("bad_alloc", "can't allocate memory", "Cannot allocate memory", "MemoryError")
REACHED = re.compile(
    rf"\w*Error: \[Errno ({EAGAIN}|{EMFILE}|{EFBIG}|{ENOSPC})\]"
    "|RuntimeError: can't start new thread"
)
"""An exception that says that a limit was reached: processes, descriptors, file size, space."""


LONGEST = 20_000
BEYOND = (
    ": it touched memory that is not there; before and behind each input lies a page that nothing "
    "may touch, so keep loops, vector loads and tails within each tensor"
)


class Verdict(Exception):
    """Ends a trial with a status."""

    def __init__(self, status: Status, detector: Detector, message: str) -> None:
        shown = message if len(message) <= LONGEST else f"{message[:LONGEST]} …"
        super().__init__("".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in shown))
        self.status = status
        self.detector = detector


@contextmanager
def judged(incompatible: Callable[[], str]) -> Iterator[None]:
    """Turn what the candidate's runner did into a verdict.

    Args:
        incompatible: why the reference's state could not be loaded, if so.
    """
    try:
        yield
    except Failed as error:
        raise raised(error.error) from error
    except Ended as error:
        raise ended(error) from error
    except Late as error:
        raise Verdict(
            Status.TIMEOUT,
            Detector.LIMITS,
            f"no end within the limit of {error.seconds:g} s; an endless loop, or far too slow",
        ) from error
    except Unseen as error:
        raise Verdict(Status.LOST, error.detector, f"harness: {error}") from error
    except Wrong as error:
        if reason := incompatible():
            text = f"{reason}\nwith its own initial state: {error}"
            raise Verdict(Status.INCOMPATIBLE_STATE, Detector.STATE_LOADING, text) from error
        raise Verdict(Status.WRONG, error.detector, str(error)) from error
    except Broken as error:
        raise Verdict(Status.REJECTED, error.detector, str(error)) from error
    except Malformed as error:
        text = f"the runner broke the harness's protocol: {error}"
        raise Verdict(Status.REJECTED, Detector.PROTOCOL, text) from error


def on_probe(verdict: Verdict, probe: Probe, name: str) -> Verdict:
    """The same, by the detector that made the inputs; limits are not its doing."""
    plan = probe.plan
    if verdict.detector is Detector.LIMITS:
        return verdict
    text = f"workload {name!r}, {plan.what}: {verdict}\n{plan.advice}"
    return Verdict(verdict.status, plan.detector, text)


def raised(error: Any) -> Verdict:
    """Of an exception in a runner."""
    text, kind = str(error.get("text", "")), error.get("kind")
    head = f"{error.get('type', 'Exception')}: {text}"
    detail = f"{head}\n{error.get('trace', '')}".rstrip()
    if kind == "invalid":
        return Verdict(Status.INVALID, Detector.SCREEN, f"not a candidate: {detail}")
    if kind == "memory":
        return Verdict(Status.OUT_OF_MEMORY, Detector.LIMITS, detail)
    if kind == "timeout":
        return Verdict(Status.TIMEOUT, Detector.LIMITS, detail)
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
        hint = BEYOND if -error.code in (signal.SIGSEGV, signal.SIGBUS) else ""
        text = f"killed by signal {-error.code} ({name}){hint}{said}"
        return Verdict(Status.CRASHED, Detector.EXIT, text)
    text = f"the process ended itself with exit code {error.code} instead of returning"
    return Verdict(Status.CRASHED, Detector.EXIT, text + said)
