"""The launcher in C++: how it is built beside a candidate's kernels, and found there."""

import importlib.machinery
import importlib.util
import sysconfig
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).with_suffix(".cpp")


def built_path(folder: Path) -> Path:
    """Where it lies for this Python, in the folder of a build."""
    return folder / f"launcher{sysconfig.get_config_var('EXT_SUFFIX')}"


def command(built: Path) -> list[str]:
    """Makes it; that fails where Python's headers are missing."""
    headers = sysconfig.get_path("include")
    how = ["-O2", "-std=c++17", "-shared", "-fPIC", "-I", headers]
    return ["g++", *how, "-o", str(built), str(SOURCE)]


def of(folder: Path) -> Any | None:
    """The module with `Launch`; None where it was not built."""
    built = built_path(folder)
    if not built.exists():
        return None
    loader = importlib.machinery.ExtensionFileLoader("launcher", str(built))
    spec = importlib.util.spec_from_loader("launcher", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module
