"""Settings of one run, layered: defaults < file < environment < flags."""

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Self, get_origin

from pydantic import Field, ValidationError, field_validator, model_validator

from kernelevolve.core.errors import UsageError
from kernelevolve.core.job import Limits
from kernelevolve.core.record import Record

Option = bool | int | float | str

PREFIX = "KERNELEVOLVE_"
ROLES = ("programmer", "memory", "search")
"""Who asks models: writes kernels, reads diagnostics, searches the knowledge base."""
KEY = re.compile(r"(_API_KEY|_TOKEN|_SECRET)$")
SHORTEST_KEY = 8
"""What is shorter is no key, and may stand in any text."""
BUDGETS = ("tokens", "dollars", "requests")


class RunConfig(Record):
    """Everything that decides how one run goes."""

    target: str = "cpu"
    """Device: vendor[:arch[:index]], for example cpu or cpu:x86_64."""
    language: str = ""
    """What kernels are written in; left out, the first one that is for the device."""
    programmer: str = ""
    """Who writes them: builtin (no model, no key), llm, or builtin+llm; llm if a model is named."""
    model: tuple[str, ...] = ()
    """Model of the llm programmer, as provider:name; several are an ensemble."""
    helper_model: str | None = None
    """Cheaper model that reads diagnostics and searches the knowledge base; none: rules do."""
    base_url: str | None = None
    """OpenAI-compatible endpoint that serves the models, for example http://localhost:8000/v1."""
    policy: str = "mcts"
    """Selection policy of the search: greedy, beam or mcts."""
    nodes: int = Field(default=60, ge=1)
    """Stop after this many attempts."""
    minutes: float | None = Field(default=None, gt=0)
    """Stop after this much wall-clock time."""
    plateau: int | None = Field(default=None, ge=1)
    """Stop after this many attempts without a better score."""
    goal: float | None = Field(default=None, gt=0)
    """Stop at this speed-up over the best baseline."""
    roofline: float | None = Field(default=None, gt=0, le=1)
    """Stop when the best kernel reaches this fraction of the measured roofline."""
    dollars: float | None = Field(default=None, gt=0)
    """Stop when models cost this much."""
    tokens: int | None = Field(default=None, ge=1)
    """Stop after this many tokens of models, in and out."""
    requests: int | None = Field(default=None, ge=1)
    """Stop after this many answers of models."""
    device_minutes: float | None = Field(default=None, gt=0)
    """Stop after this much time under an exclusive device lease."""
    workers: int = Field(default=2, ge=1)
    """Attempts in flight at once; timing stays exclusive."""
    threads: int = Field(default=1, ge=1)
    """Processor cores that a kernel and the baselines may use."""
    seed: int = 0
    """Makes the search's choices repeatable; inputs' seeds are secret and journaled."""
    confirm: int = Field(default=3, ge=1)
    """How many of the best nodes are confirmed at the end."""
    baseline: str | None = None
    """Python file with your own `Model` or `ModelNew`, timed beside eager and torch.compile."""
    eager_only: bool = False
    """Leave torch.compile out: done sooner, but the speed-up is over eager alone."""
    inputs: str | None = None
    """File of captured inputs (`torch.save` of a list of tensors), added as a workload."""
    knowledge: tuple[str, ...] = ()
    """Folder of your own notes, for programmers that read notes; may be repeated."""
    recall: float | None = Field(default=None, ge=0, le=1)
    """Chance that a fresh start shows an earlier run's kernel; 0.5 with models, none without."""
    store: str | None = None
    """Folder of journals, blobs and builds; by default the per-user data folder."""
    run: str | None = None
    """Name of the run; by default made from the task's name and the time."""
    limits: Limits = Field(default_factory=Limits)
    """What a build or a run of a candidate may use."""
    policy_options: dict[str, Option] = Field(default_factory=dict)
    """Fields of the policy's own options, for example exploration of mcts."""
    programmer_options: dict[str, Option] = Field(default_factory=dict)
    """Fields of the programmer's own options, for example guided of builtin."""
    budget: dict[str, float] = Field(default_factory=dict)
    """What one role may spend, for example memory.dollars or search.tokens."""
    prices: dict[str, float] = Field(default_factory=dict)
    """Dollars per million tokens of models: in.openai:my-model and out.openai:my-model."""

    @model_validator(mode="after")
    def _named(self) -> Self:
        """Say who the programmer is where that was left out."""
        if not self.programmer:
            object.__setattr__(self, "programmer", "llm" if self.model else "builtin")
        return self

    @field_validator("model", mode="before")
    @classmethod
    def _several(cls, given: object) -> object:
        """The environment names several models with commas between them."""
        return tuple(given.split(",")) if isinstance(given, str) else given

    @field_validator("budget")
    @classmethod
    def _of_a_role(cls, given: dict[str, float]) -> dict[str, float]:
        for key, value in given.items():
            role, _, kind = key.partition(".")
            if role not in ROLES or kind not in BUDGETS or value <= 0:
                raise ValueError(
                    f"{key} = {value}: write ROLE.KIND with a number above 0, "
                    f"ROLE one of {', '.join(ROLES)}, KIND one of {', '.join(BUDGETS)}"
                )
        return given

    @field_validator("knowledge", mode="before")
    @classmethod
    def _folders(cls, given: object) -> object:
        """An environment variable names several folders as PATH does."""
        return tuple(given.split(os.pathsep)) if isinstance(given, str) else given


def layered(flags: Mapping[str, object], file: Path | None = None) -> RunConfig:
    """The configuration from `kernelevolve.toml` (or `file`), environment and flags.

    Args:
        flags: what the caller set; None values mean not set.
        file: a TOML file; by default `kernelevolve.toml` in the current folder, if there.

    Raises:
        UsageError: a field is unknown or has a wrong value; the message names its layer.
    """
    layers = {
        "configuration file": _from_file(file),
        "environment": _from_environment(),
        "flags": {key: value for key, value in flags.items() if value is not None},
    }
    merged: dict[str, object] = {}
    for layer, values in layers.items():
        merged = _laid_over(merged, values)
        try:
            RunConfig.model_validate(merged)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"])
            raise UsageError(
                f"{layer}: {field} = {first['input']!r}: {first['msg'].lower()}"
            ) from error
    return RunConfig.model_validate(merged)


def _laid_over(below: Mapping[str, object], above: Mapping[str, object]) -> dict[str, object]:
    """Values of `above` win; groups of options are joined name by name."""
    joined = dict(below)
    for name, value in above.items():
        under = joined.get(name)
        both = isinstance(value, Mapping) and isinstance(under, Mapping)
        joined[name] = {**under, **value} if both else value  # type: ignore[dict-item]
    return joined


def key(name: str) -> str | None:
    """A key that the environment holds, or None."""
    return os.environ.get(name)  # noqa: TID251


def keys() -> list[str]:
    """All of them, so that they can be taken out of what is kept."""
    held = os.environ.items()  # noqa: TID251
    return [value for name, value in held if KEY.search(name) and len(value) >= SHORTEST_KEY]


def data_folder(store: str | None = None) -> Path:
    """Where journals, blobs and builds live: `store`, or the per-user data folder."""
    if store:
        return Path(store).expanduser()
    base = os.environ.get("XDG_DATA_HOME")  # noqa: TID251
    return (Path(base) if base else Path.home() / ".local" / "share") / "kernelevolve"


def cache_folder() -> Path:
    """Where machine measurements and compiler caches live, for all stores of this user."""
    base = os.environ.get("XDG_CACHE_HOME")  # noqa: TID251
    return (Path(base) if base else Path.home() / ".cache") / "kernelevolve"


def _from_file(file: Path | None) -> dict[str, object]:
    path = file or Path("kernelevolve.toml")
    if not path.exists():
        if file is not None:
            raise UsageError(f"configuration file {file}: no such file")
        return {}
    try:
        return tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise UsageError(f"configuration file {path}: {error}") from error


def _from_environment() -> dict[str, object]:
    simple = {
        n
        for n, field in RunConfig.model_fields.items()
        if n not in ("limits", "run") and get_origin(field.annotation) is not dict
    }
    return {
        name: value
        for name in simple
        if (value := os.environ.get(PREFIX + name.upper())) is not None  # noqa: TID251
    }
