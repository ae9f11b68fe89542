"""What verification found, as records of an evaluation. In the judge."""

from collections.abc import Iterator, Mapping, Sequence

from kernelevolve.core.evaluation import ErrorReport
from kernelevolve.evaluation.benchmark import Samples
from kernelevolve.evaluation.layout import paths
from kernelevolve.evaluation.probes import Suite
from kernelevolve.evaluation.processes import Runner
from kernelevolve.evaluation.session import Session

UNREADABLE = (
    "this machine does not let the judge read a runner's memory (process_vm_readv): outputs were "
    "copied by the runner after the clock had stopped, and no call midway could be verified"
)
SINGLY = (
    "threads or processes were started in timed windows: each call was timed alone, with the time "
    "that it takes to stop them; keep a pool of threads from one call to the next"
)
KEPT_BYTES, KEPT_RESULTS = 4 << 20, 8
ALONE = "one processor core for judge and candidate: no call midway could be verified"


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


def growth(nbytes: int, session: Session) -> dict[str, str]:
    """Memory that came with timed calls and did not go again, if it is more than an allocator's."""
    if nbytes <= max(KEPT_BYTES, KEPT_RESULTS * session.prepared.plain.nbytes):
        return {}
    text = f"its process grew by {nbytes >> 20} MB while it was timed; free what a call allocates"
    return {"memory_grows": text}


def blindness(runner: Runner) -> list[str]:
    """What this machine does not let the judge see."""
    return [UNREADABLE] * (not runner.peeks) + [ALONE] * (not runner.watched)


def timed(
    samples: Samples,
    candidate: Session,
    rivals: Mapping[str, Session],
    health: Mapping[str, float] | None = None,
) -> Iterator[str]:
    """What may be doubted of a workload's figures."""
    workload = candidate.prepared.workload.name
    if candidate.singly:
        yield f"{workload}: {SINGLY}"
    if samples.clocks_disagree("candidate"):
        yield f"{workload}: the runner's clock disagrees with the judge's"
    if health and health.get("throttled"):
        yield f"{workload}: heat, power or a fault held the GPU's clocks down while it was measured"
    if samples.busy:
        windows = sum(map(len, samples.us.values()))
        yield f"{workload}: other processes had the core in {samples.busy} of {windows} windows"
    for name, session in rivals.items():
        for fault in sorted(session.faults):
            yield f"{workload}: the baseline {name} was wrong in a timed window: {fault}"


def probed(probes: Mapping[str, Sequence[str]], suites: Mapping[str, Suite]) -> tuple[str, ...]:
    """Which made inputs were passed, by workload; which the reference cannot take."""
    found = []
    for name, passed in probes.items():
        skipped = ", ".join(sorted(suites[name].skipped))
        but = f"; not defined for this task: {skipped}" if skipped else ""
        found.append(f"{name}: {len(passed)} probes passed: {', '.join(sorted(passed))}{but}")
    return tuple(found)
