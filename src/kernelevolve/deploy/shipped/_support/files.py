"""Reads the export's own files: manifest, reference, candidate, workloads."""

import importlib.util
import inspect
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

FOLDER = Path(__file__).resolve().parent.parent
MANIFEST: dict[str, Any] = json.loads((FOLDER / "export.json").read_text())


def module(file: str) -> ModuleType:
    """A Python file of the export, loaded once under a name that no other module has."""
    name = f"kernelevolve_export_{MANIFEST['op']}_{file.removesuffix('.py')}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, FOLDER / file)
        assert spec is not None  # noqa: S101  the file is part of the export
        assert spec.loader is not None  # noqa: S101
        loaded = importlib.util.module_from_spec(spec)
        sys.modules[name] = loaded
        try:
            spec.loader.exec_module(loaded)
        except BaseException:
            del sys.modules[name]
            raise
    return sys.modules[name]


def model_new() -> type[torch.nn.Module]:
    """The kernel's class. Its runtime comes with the export where kernelevolve is absent."""
    if importlib.util.find_spec("kernelevolve") is None:
        sys.path.append(str(FOLDER / "_support" / "runtime"))
    return module("model.py").ModelNew  # type: ignore[no-any-return]


def workload_arguments(workload: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """Positional and named constructor arguments of the reference for one workload."""
    function = getattr(module("reference.py"), "get_init_inputs", list)
    found = _sized(function, workload["sizes"])
    return ([], dict(found)) if isinstance(found, dict) else (list(found), {})


def workload_inputs(workload: dict[str, Any]) -> list[Any]:
    """New inputs for one workload; the captured tensors where it has them."""
    if workload["captured"] and (FOLDER / "captured.pt").exists():
        return list(torch.load(FOLDER / "captured.pt", weights_only=True))
    found = _sized(module("reference.py").get_inputs, workload["sizes"])
    return [found] if isinstance(found, torch.Tensor) else list(found)


def _sized(function: Callable[..., Any], sizes: dict[str, Any]) -> Any:
    if function is list:
        return []
    wanted = inspect.signature(function).parameters
    if any(p.kind is p.VAR_KEYWORD for p in wanted.values()):
        return function(**sizes)
    return function(**{name: size for name, size in sizes.items() if name in wanted})
