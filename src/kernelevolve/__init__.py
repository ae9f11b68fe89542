"""kernelevolve writes, verifies, times and searches for faster kernels of PyTorch modules.

    import kernelevolve

    result = kernelevolve.optimize("softmax.py", nodes=30)
    fast = result.best.module()

Names are loaded when they are first used: importing the package imports no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kernelevolve.api import check, evaluate, optimize, read_task, resume
    from kernelevolve.app import Result
    from kernelevolve.config import RunConfig
    from kernelevolve.core.errors import KernelEvolveError
    from kernelevolve.core.evaluation import Evaluation, Stage, Status
    from kernelevolve.core.graph import Graph
    from kernelevolve.core.protocols import Reporter
    from kernelevolve.core.task import Task, Workload

__all__ = [
    "Evaluation",
    "Graph",
    "KernelEvolveError",
    "Reporter",
    "Result",
    "RunConfig",
    "Stage",
    "Status",
    "Task",
    "Workload",
    "check",
    "evaluate",
    "optimize",
    "read_task",
    "resume",
]

_HOME = {
    "api": ("check", "evaluate", "optimize", "read_task", "resume"),
    "app": ("Result",),
    "config": ("RunConfig",),
    "core.errors": ("KernelEvolveError",),
    "core.evaluation": ("Evaluation", "Stage", "Status"),
    "core.graph": ("Graph",),
    "core.protocols": ("Reporter",),
    "core.task": ("Task", "Workload"),
}


def __getattr__(name: str) -> object:
    for module, names in _HOME.items():
        if name in names:
            return getattr(import_module(f"kernelevolve.{module}"), name)
    raise AttributeError(f"module 'kernelevolve' has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)
