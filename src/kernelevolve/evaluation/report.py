"""What verification found, as records of an evaluation. In the judge."""

from collections.abc import Mapping

from kernelevolve.core.evaluation import ErrorReport
from kernelevolve.evaluation.layout import paths
from kernelevolve.evaluation.session import Session


def errors(sessions: Mapping[str, Session]) -> tuple[ErrorReport, ...]:
    """The worst of every output of every workload."""
    reports = []
    for name, session in sessions.items():
        for verifier in session.comparison.verifiers.values():
            names = paths(verifier.layout.tree)
            for index, worst in verifier.worst.items():
                reports.append(
                    ErrorReport(
                        workload=name,
                        output=names[index],
                        rms=worst.rms,
                        maximum=worst.maximum,
                        oracle=verifier.yardsticks[index].oracle,
                    )
                )
    return tuple(reports)


def flags(sessions: Mapping[str, Session]) -> dict[str, str]:
    """What is allowed and worth saying."""
    found = {}
    verifiers = [v for s in sessions.values() for v in s.comparison.verifiers.values()]
    if any("strides" in v.flags for v in verifiers):
        found["strides"] = "an output's strides differ from row-major order"
    most = max((w.strict for v in verifiers for w in v.worst.values()), default=0.0)
    if most > 1:
        found["downcast"] = (
            f"computes in less precision than declared, which this task allows: {most:.3g} "
            "times the errors that would be accepted otherwise"
        )
    return found
