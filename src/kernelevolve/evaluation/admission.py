"""Is a task worth searching: does it load, is it sane, how much memory, how fast. In the judge."""

from contextlib import suppress
from statistics import median

from kernelevolve.core.detector import Detector
from kernelevolve.core.job import Admission, Finding
from kernelevolve.core.task import Workload
from kernelevolve.evaluation import benchmark, lease, lints, nulls, physics, simulate
from kernelevolve.evaluation.context import Context
from kernelevolve.evaluation.pool import Refused
from kernelevolve.evaluation.processes import Ended, Failed, Late
from kernelevolve.evaluation.verify import Broken, Wrong
from kernelevolve.evaluation.wire import Malformed


def admit(context: Context, seed: str) -> Admission:
    """Prepare every workload, held-out ones too, and measure the shown ones' baselines.

    Raises:
        Lost: our own machinery failed.
    """
    fatal: list[Finding] = []
    for workload in context.task.workloads:
        fatal += _fatal(context, workload)
        if fatal:
            break
    else:
        _look_closer(context)
    return Admission(
        admitted=not fatal,
        findings=(*fatal, *context.findings),
        fidelity=context.spec.fidelity,
        memory_bytes=max((r.needed for r in context.rooms.values()), default=0),
        baselines_us={
            name: {kind: median(values) for kind, values in baselines.items()}
            for name, baselines in context.baselines.items()
        },
        floor_us={
            name: physics.floor_of(work, context.spec).us for name, work in context.works.items()
        },
        seed=seed,
    )


def _look_closer(context: Context) -> None:
    """Lint the smallest workload, and make all of its probes to see which it takes.

    Where it is large, probes take minutes and are made when a candidate meets them.
    """
    smallest = min(context.task.shown, key=lambda w: context.prepared[w.name].inputs.nbytes)
    suite = context.suites[smallest.name]
    for plan in () if suite.large else suite.plans:
        suite.get(plan)
    if suite.skipped:
        listed = "; ".join(f"{name} ({why})" for name, why in suite.skipped.items())
        context.find("probes", f"{smallest.name}: not among the inputs that are tried: {listed}")
    with suppress(Failed, Ended, Late):
        for finding in lints.lint(suite.bench):
            context.find(finding.code, finding.message)


def _nulls(context: Context, workload: Workload) -> list[Finding]:
    """Kernels that compute nothing and would pass."""
    prepared = context.ready(workload)
    empty = not any(leaf.elements for leaf in prepared.outputs.leaves)
    if empty and not (workload.held_out or prepared.mutates_inputs):
        message = (
            f"{workload.name}: no output has an element, so that there is nothing to compute; "
            "use sizes above zero, or move this workload to HELD_OUT"
        )
        return [Finding(code="null-nothing", message=message, fatal=True)]
    found = list(nulls.passed(prepared, context.task))
    remembered = [] if found else list(nulls.remembered(prepared, context.task))
    if remembered:
        suite = context.suites[workload.name]
        mutants = [p for p in suite.plans if p.detector is Detector.METAMORPHIC]
        if not any(suite.get(plan) for plan in mutants):
            found = remembered
    return found


def _fatal(context: Context, workload: Workload) -> list[Finding]:
    """What makes a workload unusable."""
    try:
        if found := _nulls(context, workload):
            return found
        if not workload.held_out and context.spec.simulated:
            simulate.baseline(context, workload)
        elif not workload.held_out and context.spec.timed:
            context.all_sessions(workload)
            with lease.timing():
                context.measure_baselines(workload, benchmark.BASELINE)
    except Refused as error:
        return [error.finding]
    except Failed as error:
        kind, text = error.error.get("type", "Exception"), error.error.get("text", "")
        message = f"{workload.name}: the task raised {kind}: {text}\n{error.error.get('trace', '')}"
        return [Finding(code="reference-raises", message=message.rstrip(), fatal=True)]
    except Ended as error:
        how = f"the reference ended its process with code {error.code}"
        message = f"{workload.name}: {how} {error.log}"
        return [Finding(code="reference-crashes", message=message, fatal=True)]
    except Late as error:
        message = (
            f"{workload.name}: the task's file and reference take more than {error.seconds:g} s; "
            "remove what never ends, or make the workload smaller"
        )
        return [Finding(code="reference-slow", message=message, fatal=True)]
    except (Wrong, Broken, Malformed) as error:
        message = f"{workload.name}: the reference does not pass its own check: {error}"
        return [Finding(code="reference-inconsistent", message=message, fatal=True)]
    return []
