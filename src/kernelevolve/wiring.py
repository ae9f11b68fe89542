"""Finds the parts of one run by name, and keeps its harness and event loop together."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

from kernelevolve import registry
from kernelevolve.config import Option, RunConfig, data_folder
from kernelevolve.core.errors import MissingDependency, TaskError, UsageError
from kernelevolve.core.evaluation import Evaluation
from kernelevolve.core.job import Admission, Job
from kernelevolve.core.protocols import (
    Harness,
    KnowledgeBase,
    Language,
    Programmer,
    SelectionPolicy,
    Store,
)
from kernelevolve.core.target import Address, TargetSpec
from kernelevolve.core.task import Task
from kernelevolve.evaluation.command import execute
from kernelevolve.event_loop import EventLoop
from kernelevolve.knowing import library_of
from kernelevolve.learning import withdraw
from kernelevolve.programmers._colleagues import Colleagues

if TYPE_CHECKING:
    from kernelevolve.programmers.llm.connect import Connections

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Parts:
    """Where kernels run and what they are written in, found by name before anything starts."""

    target: TargetSpec
    language: Language
    config: RunConfig
    """What names them; with the language, where that was left out."""

    @classmethod
    def of(cls, config: RunConfig) -> "Parts":
        """What a configuration names.

        Raises:
            UsageError: a name is unknown, or is not to be had on this machine.
        """
        config = with_language(config)
        language = registry.load("language", config.language)()
        for needed, install in language.requires.items():
            if not registry.installed(needed):
                raise MissingDependency(
                    f"language {config.language!r} needs {needed}, which is missing: {install}"
                )
        target = _target(config)
        if target.vendor not in language.vendors:
            fitting = ", ".join(_languages_for(target.vendor)) or "none"
            raise UsageError(
                f"language {config.language!r} is not for target {target.address}; "
                f"choose --language from: {fitting}"
            )
        return cls(target=target, language=language, config=config)

    @property
    def timed(self) -> "Parts":
        """The same, where kernels can be timed.

        Raises:
            UsageError: they cannot, so that there is nothing to search by.
        """
        if not self.target.timed:
            raise UsageError(
                f"target {self.target.address} is {self.target.fidelity} on this machine: kernels "
                "can be verified there (kernelevolve evaluate), and not timed"
            )
        return self


def with_language(config: RunConfig) -> RunConfig:
    """The configuration with its language, where that was left out.

    Raises:
        UsageError: none is for its target.
    """
    return config.model_copy(update={"language": config.language or _language_for(config)})


def _language_for(config: RunConfig) -> str:
    """The first language that is for a device, of those whose tools are here if there are any."""
    vendor = Address.parse(config.target).vendor
    registry.load("target", vendor)
    fitting = _languages_for(vendor)
    if not fitting:
        raise UsageError(f"no language is for target {config.target!r}")
    installed = [
        name
        for name in fitting
        if all(map(registry.installed, registry.load("language", name).requires))
    ]
    return (installed or fitting)[0]


def _languages_for(vendor: str) -> list[str]:
    return [name for name in registry.names("language") if vendor in _vendors_of(name)]


def _vendors_of(language: str) -> Sequence[str]:
    try:
        return registry.load("language", language).vendors  # type: ignore[no-any-return]
    except UsageError as error:  # the others are none the worse for it
        _log.warning("%s (left out)", error)
        return ()


def policy_of(config: RunConfig) -> SelectionPolicy:
    """The configuration's selection policy with its options."""
    return _made("policy", (config.policy,), config.policy_options, {})[0]  # type: ignore[no-any-return]


MODELS = ("model", "helper_model", "base_url", "prices", "dollars")
"""Fields of the configuration that a programmer with models wants."""


def programmer_of(
    config: RunConfig,
    store: Store,
    connections: "Connections | None" = None,
    remember: Callable[[KnowledgeBase], KnowledgeBase] = lambda library: library,
) -> Programmer:
    """The configuration's programmer, or several that are joined by `+`.

    Args:
        config: names them, with their options and models.
        store: for one that reads runs.
        connections: how models are reached, where it is not over the network.
        remember: what stands for the knowledge base in a replay.

    Raises:
        UsageError: a name, an option or a model is unknown, or a key is missing.
    """
    named = tuple(config.programmer.split("+"))
    given: dict[str, object] = {
        "store": store,
        "knowledge": remember(_knowledge(config, store)),
        "connections": connections,
        **{name: getattr(config, name) for name in MODELS},
    }
    members = _made("programmer", named, config.programmer_options, given)
    return members[0] if len(members) == 1 else Colleagues(dict(zip(named, members, strict=True)))


def _knowledge(config: RunConfig, store: Store) -> KnowledgeBase:
    """The notes, read once here so that a fault in a folder is said before anything starts."""
    library = library_of(config)
    withdraw(library, store)
    library.index()
    return library


def _made(
    family: str, named: Sequence[str], options: Mapping[str, Option], given: Mapping[str, object]
) -> list[Any]:
    """Plug-ins, each with those of the options that it has and what it wants of `given`."""
    plugins = {name: registry.load(family, name) for name in named}
    able = {
        name: [f for f in fields(p) if f.init] if is_dataclass(p) else []
        for name, p in plugins.items()
    }
    known = sorted({f.name for of in able.values() for f in of} - set(given))
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise UsageError(
            f"{family} {'+'.join(named)!r} has no option {unknown[0]!r}; "
            f"known: {', '.join(known) or 'none'}"
        )
    return [_one(family, name, plugins[name], able[name], options, given) for name in named]


def _one(
    family: str,
    name: str,
    plugin: Any,
    able: Sequence[Field[Any]],
    options: Mapping[str, Option],
    given: Mapping[str, object],
) -> Any:
    values = {f.name: v for f in able for v in _value_of(f.name, options, given)}
    for field in able:
        required = field.default is MISSING and field.default_factory is MISSING
        if required and field.name not in values:
            raise UsageError(f"{family} {name!r} needs --set {family}.{field.name}=VALUE")
    return plugin(**values)


def _value_of(
    name: str, options: Mapping[str, Option], given: Mapping[str, object]
) -> Iterator[object]:
    if name in given:
        yield given[name]
    elif name in options:
        yield options[name]


def _target(config: RunConfig) -> TargetSpec:
    address = Address.parse(config.target)
    target = registry.load("target", address.vendor)()
    known = target.discover()
    found = [spec for spec in known if address.matches(spec)]
    found = [s for s in found if s.fidelity == "measured" or address.arch is not None]
    if not found:
        raise UsageError(f"target {config.target!r} is not on this machine; {_others(known)}")
    spec = found[0]
    if config.threads > len(spec.cores):
        raise UsageError(
            f"threads = {config.threads}: {spec.address} has {len(spec.cores)} cores to use"
        )
    lane = spec.model_copy(update={"cores": spec.cores[-config.threads :]})
    return target.measure(lane)  # type: ignore[no-any-return]


def _others(known: Sequence[TargetSpec]) -> str:
    here = ", ".join(spec.address for spec in known if spec.fidelity == "measured")
    elsewhere = ", ".join(spec.address for spec in known if spec.fidelity != "measured")
    told = f"of its kind: {here or 'none'}"
    return (
        f"{told}; without a device, kernels can be verified for {elsewhere}" if elsewhere else told
    )


class Machine:
    """The harness of one command with the event loop that it lives in."""

    def __init__(self, parts: Parts, config: RunConfig, blobs: Callable[[str], bytes]) -> None:
        self.parts = parts
        self.baseline = text_of(config.baseline)
        target = registry.load("target", parts.target.vendor)()
        self.environment: Mapping[str, str] = target.environment(parts.target)
        self.loop = EventLoop()
        self.harness: Harness = registry.load("harness", "local")(
            spec=parts.target,
            language=config.language,
            workers=config.workers,
            folder=data_folder(config.store),
            blobs=blobs,
            limits=config.limits,
            baselines=("eager",) if config.eager_only else ("eager", "compile"),
        )

    def __enter__(self) -> "Machine":
        self.loop.__enter__()
        return self

    def __exit__(self, *raised: Any) -> None:
        try:
            self.loop.run(self.harness.close())
        finally:
            self.loop.__exit__(*raised)

    def admission(self, task: Task) -> Admission:
        """What the harness says of a task."""
        return self.loop.run(self.harness.admit(task, self.parts.target, self.baseline))

    def admit(self, task: Task, meanwhile: Coroutine[Any, Any, None] | None = None) -> Admission:
        """The same; a task that is not admitted is an error.

        Args:
            task: what is to be searched.
            meanwhile: work that goes on beside it, and past it where the task is admitted.
        """
        if meanwhile is not None:
            self.loop.start(meanwhile)
        found = self.admission(task)
        if not found.admitted:
            fatal = "; ".join(f.message for f in found.findings if f.fatal)
            raise TaskError(f"task {task.name}: {fatal or 'not admitted'}")
        return found

    async def execute(self, command: Sequence[str], stdin: bytes) -> bytes:
        """Run a programmer's command in the sandbox, with the lane's thread counts."""
        stop = Event()
        try:
            return await asyncio.to_thread(execute, command, stdin, self.environment, stop)
        finally:
            stop.set()

    def evaluate(self, job: Job) -> Evaluation:
        """One verdict."""
        return self.loop.run(self.harness.evaluate(job))


def text_of(path: str | None) -> str | None:
    """Content of the user's own baseline, or None where there is none."""
    if path is None:
        return None
    try:
        return Path(path).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"baseline {path}: {error}; give a Python file with Model") from error
