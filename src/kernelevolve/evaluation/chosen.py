"""Which of a task's workloads a job is judged on. In the judge."""

from kernelevolve.core.evaluation import Stage
from kernelevolve.core.job import Job
from kernelevolve.core.task import Workload
from kernelevolve.evaluation.context import Context

EMULATED_BYTES = 8 << 20
"""Workloads that move more are left out where kernels are emulated, but for the smallest."""


def workloads(job: Job, context: Context) -> tuple[tuple[Workload, ...], list[str]]:
    """Those that are shown, all in confirm and where none is timed; and what was left out."""
    everything = job.stage is Stage.CONFIRM or not job.target.timed
    wanted = job.task.workloads if everything else job.task.shown
    if job.target.timed:
        return wanted, []
    sizes = {w.name: context.work(w).bytes_moved for w in wanted}
    least = max(EMULATED_BYTES, min(sizes.values()))
    spared = [name for name, size in sizes.items() if size > least]
    kept = tuple(w for w in wanted if w.name not in spared)
    remark = f"too large to be emulated, and not verified: {', '.join(spared)}"
    return kept, [remark] if spared else []
