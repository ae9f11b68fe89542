"""A programmer that answers what a recorded run's programmer answered, node by node."""

from dataclasses import dataclass
from functools import cached_property

from kernelevolve.core.candidate import Brief, Proposal, SourceFile, Usage
from kernelevolve.core.errors import ProgrammerError
from kernelevolve.core.events import Proposed
from kernelevolve.core.graph import Graph
from kernelevolve.core.protocols import Programmer, Store, Workbench
from kernelevolve.core.target import TargetSpec
from kernelevolve.core.task import Task


@dataclass(frozen=True)
class Replay:
    """Needs no model and no key, only the store that holds the recording."""

    store: Store
    """Where the recording is."""
    run: str
    """Name of the recorded run."""

    @cached_property
    def _recorded(self) -> Graph:
        return Graph.fold(self.store.read(self.run))

    async def study(self, task: Task, target: TargetSpec, bench: Workbench) -> None:
        """See `Programmer`. The recording holds all answers."""

    def forecast(self, task: Task, target: TargetSpec, nodes: int) -> Usage:
        """See `Programmer`."""
        return Usage()

    async def propose(self, brief: Brief, bench: Workbench) -> Proposal:
        """See `Programmer`. What failed in the recording fails again, with the same words."""
        node = self._recorded.nodes.get(brief.number)
        if node is None:
            raise ProgrammerError(f"the recorded run {self.run!r} has no node #{brief.number}")
        if node.proposal is None:
            raise ProgrammerError(node.failure or f"the recording ends before #{node.number}")
        return self._read(node.proposal)

    def _read(self, recorded: Proposed) -> Proposal:
        return Proposal(
            files=tuple(
                SourceFile(path=path, text=self.store.get_blob(ref).decode())
                for path, ref in recorded.files.items()
            ),
            summary=recorded.summary,
            plan=recorded.plan,
            algebraic=recorded.algebraic,
            fallback=recorded.fallback,
            usage=recorded.usage,
        )


plugin: type[Programmer] = Replay
