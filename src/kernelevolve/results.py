"""What a finished search gives to Python callers."""

from dataclasses import dataclass
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING

from kernelevolve.core.candidate import SourceFile
from kernelevolve.core.errors import UsageError
from kernelevolve.core.evaluation import Evaluation
from kernelevolve.core.graph import Graph, Node
from kernelevolve.core.protocols import Store
from kernelevolve.deploy.op import write_export

if TYPE_CHECKING:
    from torch.nn import Module


@dataclass(frozen=True)
class Best:
    """One correct kernel of a run, by default its best."""

    run: str
    """Name of the run."""
    graph: Graph
    """The whole search."""
    number: int
    """The node."""
    store: Store
    """Where its files are kept."""
    folder: Path
    """Where `write` and `module` may put files."""

    @property
    def node(self) -> Node:
        """The node in the graph."""
        return self.graph.nodes[self.number]

    @property
    def evaluation(self) -> Evaluation:
        """The final check where there was one, else the search's own verdict."""
        verdict = self.node.confirmation if self.node.confirmed else self.node.evaluation
        if verdict is None or not verdict.ok:
            raise UsageError(f"run {self.run}: node #{self.number} is {self.node.status}")
        if self.node.quarantined:
            raise UsageError(
                f"run {self.run}: node #{self.number} is in quarantine: {self.node.quarantined}"
            )
        return verdict

    @property
    def speedup(self) -> float | None:
        """Over the best baseline, as measured, or as simulated where the target is."""
        return self.evaluation.score

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % confidence interval of `speedup`."""
        return self.evaluation.interval

    @property
    def files(self) -> tuple[SourceFile, ...]:
        """Its source."""
        proposal = self.node.proposal
        refs = proposal.files if proposal else {}
        return tuple(
            SourceFile(path=path, text=self.store.get_blob(ref).decode())
            for path, ref in refs.items()
        )

    def write(self) -> list[Path]:
        """Put the source files below the store's folder, as they were judged."""
        folder = self.folder / "results" / self.run / f"node-{self.number}"
        written = []
        for file in self.files:
            path = folder / file.path
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(file.text)
            written.append(path)
        return written

    def export(self, folder: Path) -> list[Path]:
        """Write a drop-in operator with guard, fallback and `verify.py`.

        Raises:
            UsageError: the folder cannot be written, or the node is not correct.
        """
        proposal, task, target = self.node.proposal, self.graph.task, self.graph.target
        if proposal is None or task is None or target is None:
            raise UsageError(f"run {self.run}: node #{self.number} has no source")
        if target.simulated:
            raise UsageError(
                f"run {self.run}: node #{self.number} runs on a simulator of {target.address}: "
                "there is no device for a drop-in operator; its source is in the run's results"
            )
        return write_export(
            folder=folder,
            files=self.files,
            task=task,
            blobs=self.store.get_blob,
            language=proposal.language,
            evaluation=self.evaluation,
            target=target,
            run=self.run,
            number=self.number,
            when=self.node.confirmed_at,
        )

    def module(self) -> "Module":
        """A module that runs the kernel, with the reference behind a guard as its fallback.

        It is constructed as the first workload says; load your own weights as into `Model`.
        """
        folder = self.folder / "results" / self.run / f"export-{self.number}"
        self.export(folder)
        spec = spec_from_file_location(f"kernelevolve_op_{self.number}", folder / "op.py")
        if spec is None or spec.loader is None:
            raise UsageError(f"{folder / 'op.py'} cannot be imported")
        op = module_from_spec(spec)
        spec.loader.exec_module(op)
        return op.load()  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Result:
    """What `optimize` and `resume` return."""

    run: str
    """Name of the run, for `resume`, `show` and `best`."""
    summary: dict[str, object]
    """The object that `--json` prints."""
    graph: Graph
    """Every node."""
    best: Best | None
    """The best confirmed kernel, or None where no correct one was found."""
