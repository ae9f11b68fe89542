"""Flags of the commands, made from the fields of `RunConfig`: one source for help and meaning."""

import functools
import inspect
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Optional, get_args, get_origin

import typer
from rich.logging import RichHandler
from rich.markup import escape

from kernelevolve.cli.reply import STDERR
from kernelevolve.config import RunConfig, layered
from kernelevolve.core.errors import UsageError

WHERE = "What and where"
SEARCH = "How the search goes"
STOP = "When it stops"
PLACE = "Where things are kept"

PANELS = {
    "target": WHERE,
    "language": WHERE,
    "threads": WHERE,
    "baseline": WHERE,
    "eager_only": WHERE,
    "inputs": WHERE,
    "programmer": SEARCH,
    "model": SEARCH,
    "helper_model": SEARCH,
    "base_url": SEARCH,
    "policy": SEARCH,
    "workers": SEARCH,
    "seed": SEARCH,
    "knowledge": SEARCH,
    "recall": SEARCH,
    "confirm": SEARCH,
    "nodes": STOP,
    "minutes": STOP,
    "plateau": STOP,
    "goal": STOP,
    "roofline": STOP,
    "dollars": STOP,
    "tokens": STOP,
    "requests": STOP,
    "device_minutes": STOP,
    "store": PLACE,
    "run": PLACE,
}
"""Every flag that sets a field of `RunConfig`, and the panel of `--help` that shows it."""

RUN_FLAGS = tuple(PANELS)
JUDGE_FLAGS = ("target", "language", "threads", "baseline", "eager_only", "inputs", "seed", "store")

METAVARS = {
    "baseline": "FILE",
    "inputs": "FILE",
    "knowledge": "DIR",
    "model": "PROVIDER:NAME",
    "helper_model": "PROVIDER:NAME",
    "base_url": "URL",
}

NESTED = {
    "policy": "policy_options",
    "programmer": "programmer_options",
    "limits": "limits",
    "budget": "budget",
    "prices": "prices",
}
"""First part of a `--set` key to the field of `RunConfig` that it fills."""


@dataclass(frozen=True)
class Settings:
    """What the command line set, before files and the environment are looked at."""

    flags: Mapping[str, object]
    """Field of `RunConfig` to value; None is not set."""
    file: Path | None = None
    """The value of `--config`."""
    json: bool = False
    """Whether a program reads the answer."""

    def config(self) -> RunConfig:
        """All layers together.

        Raises:
            UsageError: a field is unknown or has a wrong value.
        """
        return layered(self.flags, self.file)

    @property
    def store(self) -> str | None:
        """The folder of the journals, for commands that need nothing else."""
        return self.config().store


def with_settings(
    *fields: str, options: bool = False
) -> Callable[[Callable[..., object]], Callable[..., object]]:
    """Give a command `--json`, `--verbose`, `--config` and one flag per field of `RunConfig`.

    The command's parameter `settings` receives them as `Settings`.

    Args:
        fields: names of fields.
        options: whether the command also takes `--set`.
    """

    def decorate(command: Callable[..., object]) -> Callable[..., object]:
        own = inspect.signature(command, eval_str=True).parameters
        added = [*map(_flag, fields), *([_set_flag()] if options else []), _config_file()]
        added += _SWITCHES

        @functools.wraps(command)
        def with_flags(**given: Any) -> object:
            taken = {name: given.pop(name) for name in own if name != "settings"}
            if given.pop("verbose"):
                _log_to_stderr()
            file, as_json = given.pop("config"), given.pop("json")
            nested = _nested(given.pop("set", None) or ())
            given = {name: value for name, value in given.items() if value != []}
            return command(**taken, settings=Settings({**given, **nested}, file, as_json))

        parameters = [p for p in own.values() if p.name != "settings"] + added
        with_flags.__dict__["__signature__"] = inspect.Signature(parameters)
        with_flags.__annotations__ = {p.name: p.annotation for p in parameters}
        return with_flags

    return decorate


def examples(*lines: str) -> str:
    """The end of a command's `--help`."""
    return "\n\n".join(["[bold]Examples[/bold]", *(f"  [cyan]{escape(x)}[/cyan]" for x in lines)])


def _parameter(name: str, kind: object, option: object, default: object) -> inspect.Parameter:
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=default,
        annotation=Annotated[kind, option],
    )


def _flag(field: str) -> inspect.Parameter:
    info = RunConfig.model_fields[field]
    default = f" [dim]\\[default: {info.default}][/dim]" if info.default else ""
    option = typer.Option(
        "--" + field.replace("_", "-"),
        help=escape(info.description or "") + default,
        rich_help_panel=PANELS[field],
        metavar=METAVARS.get(field),
    )
    return _parameter(field, Optional[_kind(info.annotation)], option, None)  # noqa: UP045


def _kind(annotation: object) -> Any:
    """What a flag of a field takes: without None, and a list where the field holds several."""
    if get_origin(annotation) is tuple:
        return list[get_args(annotation)[0]]  # type: ignore[misc]
    return next((k for k in get_args(annotation) if k is not type(None)), annotation)


def _config_file() -> inspect.Parameter:
    option = typer.Option(
        "--config",
        metavar="FILE",
        help="TOML file with the same fields; by default kernelevolve.toml in this folder.",
        rich_help_panel=PLACE,
    )
    return _parameter("config", Optional[Path], option, None)  # noqa: UP045


def _set_flag() -> inspect.Parameter:
    option = typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="An option of the policy, the programmer, a limit, a role's budget or a price, for "
        "example policy.exploration=1.4, limits.build_seconds=120 or budget.memory.dollars=0.5.",
        rich_help_panel=SEARCH,
    )
    return _parameter("set", Optional[list[str]], option, None)  # noqa: UP045


_SWITCHES = [
    _parameter(
        "json",
        bool,
        typer.Option("--json", help="Print one JSON object on stdout; progress goes to stderr."),
        False,
    ),
    _parameter("verbose", bool, typer.Option("--verbose", "-v", help="Log to stderr."), False),
]


def _nested(pairs: tuple[str, ...] | list[str]) -> dict[str, dict[str, object]]:
    nested: dict[str, dict[str, object]] = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        owner, _, name = key.strip().partition(".")
        if not separator or owner not in NESTED or not name:
            raise UsageError(
                f"--set {pair}: write {'|'.join(NESTED)}.NAME=VALUE, "
                "for example policy.exploration=1.4"
            )
        nested.setdefault(NESTED[owner], {})[name] = _value(value.strip())
    return nested


def _value(text: str) -> bool | int | float | str:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _log_to_stderr() -> None:
    root = logging.getLogger("kernelevolve")
    root.setLevel(logging.DEBUG)
    if not root.handlers:
        root.addHandler(RichHandler(console=STDERR, show_path=False))
