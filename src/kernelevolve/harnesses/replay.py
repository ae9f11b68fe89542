"""A harness that gives recorded verdicts: a run is replayed without its device."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from kernelevolve.core.evaluation import TIMED, Evaluation, Stage, Status
from kernelevolve.core.graph import Graph
from kernelevolve.core.job import Admission, Job
from kernelevolve.core.protocols import Harness, Store
from kernelevolve.core.target import TargetSpec
from kernelevolve.core.task import Task

_STAGES = tuple(Stage)


@dataclass
class Replay:
    """Answers by candidate, at once, as often as asked."""

    evaluations: Mapping[str, Evaluation] = field(default_factory=dict)
    """Candidate id to the search's verdict."""
    confirmations: Mapping[str, Evaluation] = field(default_factory=dict)
    """Candidate id to the verdict of the final check."""
    admission: Admission = field(default_factory=lambda: Admission(admitted=True))
    """What `admit` answers."""
    slots: int = 4
    """Jobs at once."""

    @classmethod
    def of(cls, store: Store, run: str) -> "Replay":
        """The verdicts of a recorded run."""
        graph = Graph.fold(store.read(run))
        judged = [n for n in graph if n.proposal and n.same_as is None]
        return cls(
            evaluations={
                n.proposal.candidate: n.evaluation for n in judged if n.proposal and n.evaluation
            },
            confirmations={
                n.proposal.candidate: n.confirmation
                for n in judged
                if n.proposal and n.confirmation
            },
            admission=graph.admission or Admission(admitted=True),
        )

    async def admit(self, task: Task, spec: TargetSpec, baseline: str | None) -> Admission:
        """See `Harness`."""
        return self.admission

    async def evaluate(self, job: Job) -> Evaluation:
        """See `Harness`. What was not recorded is lost, because nothing judged it."""
        confirm = job.stage is Stage.CONFIRM
        recorded = (self.confirmations if confirm else self.evaluations).get(job.candidate.id)
        if recorded is None:
            message = f"the recording holds no {job.stage} of candidate {job.candidate.id[:12]}"
            return Evaluation(status=Status.LOST, stage=Stage.SCREEN, message=message)
        return recorded if job.stage in TIMED else _until(job.stage, recorded)

    async def close(self) -> None:
        """See `Harness`."""


def _until(stage: Stage, recorded: Evaluation) -> Evaluation:
    """What a job that ends at an untimed stage would have said."""
    if recorded.ok or _STAGES.index(recorded.stage) > _STAGES.index(stage):
        return Evaluation(status=Status.OK, stage=stage, fidelity=recorded.fidelity)
    return recorded


plugin: type[Harness] = Replay
