"""Finds plug-ins: the folder is the registry, entry points extend it."""

import pkgutil
import shutil
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from kernelevolve.core.errors import BrokenPlugin, MissingDependency, UnknownName

FAMILIES = {
    "target": "targets",
    "language": "languages",
    "programmer": "programmers",
    "harness": "harnesses",
    "policy": "policies",
    "store": "stores",
    "reporter": "reporters",
    "suite": "suites",
}
"""Family, as a message names it, to the folder that holds its plug-ins."""


@cache
def names(family: str) -> tuple[str, ...]:
    """Names of the plug-ins of a family (`policy`, `language` …), sorted. Imports none of them."""
    folder = Path(__file__).parent / FAMILIES[family]
    own = {m.name for m in pkgutil.iter_modules([str(folder)]) if not m.name.startswith("_")}
    return tuple(sorted(own | set(_third_party(family))))


def load(family: str, name: str) -> type[Any]:
    """The class that the plug-in's module names `plugin`.

    Raises:
        UnknownName: no such plug-in; the message lists the known ones.
        MissingDependency: its module needs something that is not installed.
        BrokenPlugin: it comes from elsewhere and its module cannot be imported.
    """
    if name not in names(family):
        raise UnknownName(f"unknown {family} {name!r}; known: {', '.join(names(family))}")
    third_party = _third_party(family)
    try:
        if name in third_party:
            return _from_elsewhere(family, name, third_party[name])
        return import_module(f"kernelevolve.{FAMILIES[family]}.{name}").plugin  # type: ignore[no-any-return]
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("kernelevolve"):
            raise
        raise MissingDependency(
            f"{family} {name!r} needs {error.name}: pip install {error.name}"
        ) from error


def _from_elsewhere(family: str, name: str, point: EntryPoint) -> type[Any]:
    try:
        return point.load()  # type: ignore[no-any-return]
    except ModuleNotFoundError:
        raise
    except Exception as error:
        package = point.dist.name if point.dist else point.value
        raise BrokenPlugin(
            f"{family} {name!r} of the package {package} cannot be imported: "
            f"{type(error).__name__}: {error}; repair that package or uninstall it"
        ) from error


def _third_party(family: str) -> dict[str, EntryPoint]:
    return {p.name: p for p in entry_points(group=f"kernelevolve.{FAMILIES[family]}")}


def installed(needed: str) -> bool:
    """Whether a program or a Python module that a plug-in requires is there."""
    if shutil.which(needed):
        return True
    try:
        return find_spec(needed) is not None
    except ModuleNotFoundError:
        return False
