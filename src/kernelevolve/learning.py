"""What runs teach: keeps skills when a run ends, and withdraws those that turn out wrong."""

import logging
from collections.abc import Callable, Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, version

from kernelevolve import registry
from kernelevolve.config import RunConfig
from kernelevolve.core.errors import UsageError
from kernelevolve.core.graph import Graph
from kernelevolve.core.protocols import Store
from kernelevolve.doctor import version_of
from kernelevolve.knowing import library_of
from kernelevolve.knowledge.lessons import lessons, losses
from kernelevolve.knowledge.library import Library
from kernelevolve.knowledge.skills import Skill, folded, note_of, skill_of

_log = logging.getLogger(__name__)


def learn(run: str, graph: Graph, store: Store, config: RunConfig) -> tuple[str, ...]:
    """Keep what a run taught whose final check is through; names of skills new or known better.

    Whatever fails here is logged, and costs no run.
    """
    try:
        library = library_of(config)
        withdraw(library, store)
        return tuple(_kept(library, run, graph, _versions(config.language)))
    except Exception:  # noqa: BLE001 - what a run found is worth more than what it teaches
        _log.exception("run %s: nothing was learnt", run)
        return ()


def withdraw(library: Library, store: Store) -> None:
    """Retire the skills that rest on nodes which were put into quarantine since.

    Whatever fails here is logged.
    """

    @cache
    def graph(run: str) -> Graph:
        return Graph.fold(store.read(run))

    try:
        for ref, skill in _known(library).items():
            reason = next(_taints(skill, graph), None)
            if reason is not None:
                library.retire(ref, reason)
    except Exception:  # noqa: BLE001 - see `learn`
        _log.exception("skills could not be reviewed")


def _taints(skill: Skill, graph: Callable[[str], Graph]) -> Iterator[str]:
    """What was proven against the nodes that a skill rests on, as far as their runs are kept."""
    for evidence in skill.evidence:
        for number in (*evidence.nodes, evidence.repaired or 0):
            node = graph(evidence.run).nodes.get(number)
            if node is not None and node.quarantined is not None:
                yield f"run {evidence.run}: #{number} is in quarantine: {node.quarantined}"


def _kept(library: Library, run: str, graph: Graph, versions: str) -> Iterator[str]:
    known = _known(library)
    taught, lost = lessons(run, graph, versions), losses(run, graph, versions)
    for ref, skill in folded(known, taught, lost).items():
        if not skill.refuted:
            try:
                library.learn(note_of(skill, ref))
                yield ref
            except UsageError as error:
                _log.info("run %s: %s", run, error)
        elif ref in known:
            latest = skill.evidence[-1]
            library.retire(ref, f"measured as a loss: {latest.line()}")


def _known(library: Library) -> dict[str, Skill]:
    return {note.ref: skill for note in library.learnt() if (skill := skill_of(note))}


def _versions(language: str) -> str:
    """Of what makes and runs kernels, as far as it says."""
    names = ("kernelevolve", "torch", *registry.load("language", language).requires)
    found = {name: known for name in names if (known := _version(name))}
    return ", ".join(f"{name} {known}" for name, known in found.items())


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return version_of(name)
