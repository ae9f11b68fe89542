"""What compilers tell of a kernel for a GPU, without its time."""

from kernelevolve.core.evaluation import Build, Diagnosis
from kernelevolve.core.target import TargetSpec
from kernelevolve.evaluation import replies
from kernelevolve.evaluation.processes import Runner


def launched(build: Build, spec: TargetSpec, runner: Runner, seconds: float) -> Build:
    """The build with what those kernels need that were compiled when the runner launched them."""
    limits = spec.multiprocessor
    found = replies.kernels(runner.ask("kernels", seconds)) if limits else []
    if not limits or not found:
        return build
    return build.model_copy(update={"resources": build.resources | limits.needs(found)})


def diagnose(build: Build, spec: TargetSpec) -> Diagnosis | None:
    """Registers, spills, shared memory and what bounds the occupancy; None where none is known.

    Of several kernels, each figure is that of the one that needs most, and the occupancy the least.
    """
    found, limits = build.resources, spec.multiprocessor
    if limits is None or "registers" not in found:
        unknown = build.remarks[0] if limits and build.remarks else ""
        return Diagnosis(limit="unknown", sentence=unknown) if unknown else None
    registers, shared = int(found["registers"]), int(found["shared_bytes"])
    threads = int(found["block_threads"])
    held = limits.occupancy(threads, registers, shared)
    spills = f"{found['spill_bytes']:.0f} bytes spilled" if found["spill_bytes"] else "no spills"
    share, fill = found["occupancy"], "the least occupancy of its kernels is {:.0%}"
    if held.share == share:
        bound = f", bound by {held.limit}" if share < 1 else ""
        fill = f"blocks of {threads} threads fill {{:.0%}} of a multiprocessor{bound}"
    sentence = (
        f"compiled for {spec.arch}, not timed: {registers} registers, {spills}, {shared} bytes of "
        f"shared memory; {fill.format(share)}"
    )
    return Diagnosis(
        limit="unknown", sentence=sentence, remarks=build.remarks, resources=build.resources
    )
