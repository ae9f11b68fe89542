"""Times from a target's simulator: one verified call of each side, which costs what it says.

In the judge. The simulator runs in the candidate's process, so that its figures are a runner's
word: physics bounds them from below, and nothing that is simulated is ever shown as measured.
"""

from collections.abc import Mapping

from kernelevolve.core.evaluation import Build, Diagnosis, Timing
from kernelevolve.core.target import TargetSpec
from kernelevolve.core.task import Workload
from kernelevolve.evaluation import replies
from kernelevolve.evaluation.context import Context
from kernelevolve.evaluation.session import Session
from kernelevolve.evaluation.wire import Malformed

TIME = "simulated_us"
BASELINE = "operators"
"""The reference's operators, one launch each at the simulator's own roofline."""
LEAST_SHARE = 0.005


def price(session: Session, spec: TargetSpec) -> dict[str, float]:
    """Counters of one call on secret contents, whose outputs are verified.

    Raises:
        Failed, Ended, Late, Wrong, Broken: the call cannot be simulated, or is wrong.
        Malformed: there is no time among the counters.
    """
    session.ask("simulate", target=spec.model_dump(mode="json"))
    session.thorough, before = True, session.thorough
    session.window(1)
    session.thorough = before
    found = replies.counters(session.ask("simulated"))
    if not found.get(TIME):
        raise Malformed("forward launched no kernel and called no operator: it has no time")
    return found


def baseline(context: Context, workload: Workload) -> float:
    """Microseconds of the reference, priced once."""
    if workload.name not in context.baselines:
        found = price(context.session("eager", workload), context.spec)
        context.baselines[workload.name] = {BASELINE: (found[TIME],)}
    return context.baselines[workload.name][BASELINE][0]


def timing(workload: Workload, us: float, reference_us: float, setup_us: float) -> Timing:
    """The record: a simulation repeats itself, so that its interval has no width."""
    speedup = reference_us / us
    return Timing(
        workload=workload.name,
        held_out=workload.held_out,
        samples_us=(us,),
        baselines_us={BASELINE: (reference_us,)},
        speedup=speedup,
        low=speedup,
        high=speedup,
        setup_us=setup_us,
    )


def with_counters(build: Build, counters: Mapping[str, float]) -> Build:
    """For a diagnosis to hold both."""
    return build.model_copy(update={"resources": build.resources | dict(counters)})


def explained(found: Diagnosis, counters: Mapping[str, float]) -> Diagnosis:
    """With who works and who waits, and said of the simulator's machine."""
    sentence = found.sentence.replace("this machine's", "the simulated chip's")
    return found.model_copy(update={"sentence": sentence + _told(counters)})


def _told(counters: Mapping[str, float]) -> str:
    shares = {n.removesuffix("_busy"): v for n, v in counters.items() if n.endswith("_busy")}
    busiest = sorted(shares, key=lambda name: -shares[name])
    parts = [
        f"{name} works {shares[name]:.0%} and waits {counters.get(f'{name}_stalled', 0.0):.0%}"
        for name in busiest
        if shares[name] >= LEAST_SHARE
    ]
    outside = counters.get("operators_outside", 0.0)
    beside = f"; {outside:.0f} operators ran outside of kernels" if outside else ""
    return f"; simulated: {', '.join(parts) or 'no engine works'}{beside}"
