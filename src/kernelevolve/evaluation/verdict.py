"""How a runner's end, or an exception in it, becomes a status with a sentence. In the judge."""

import signal
from typing import Any

from kernelevolve.core.detector import Detector
from kernelevolve.core.evaluation import Status
from kernelevolve.evaluation.probe import Probe
from kernelevolve.evaluation.processes import Ended

MEMORY_SIGNS = ("bad_alloc", "can't allocate memory", "Cannot allocate memory", "MemoryError")


class Verdict(Exception):
    """Ends a trial with a status."""

    def __init__(self, status: Status, detector: Detector, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.detector = detector


def on_probe(verdict: Verdict, probe: Probe, name: str) -> Verdict:
    """The same, by the detector that made the inputs."""
    plan = probe.plan
    text = f"workload {name!r}, {plan.what}: {verdict}\n{plan.advice}"
    return Verdict(verdict.status, plan.detector, text)


def raised(error: Any) -> Verdict:
    text, kind = str(error.get("text", "")), error.get("kind")
    head = f"{error.get('type', 'Exception')}: {text}"
    detail = f"{head}\n{error.get('trace', '')}".rstrip()
    if kind == "invalid":
        return Verdict(Status.INVALID, Detector.SCREEN, f"not a candidate: {detail}")
    if kind == "memory":
        return Verdict(Status.OUT_OF_MEMORY, Detector.LIMITS, detail)
    if kind == "unsupported":
        return Verdict(Status.WRONG, Detector.STRUCTURE, f"forward returns {text}")
    return Verdict(Status.CRASHED, Detector.EXIT, detail)


def ended(error: Ended) -> Verdict:
    said = f"\n{error.log}" if error.log else ""
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
