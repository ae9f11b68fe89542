"""One call of a candidate with what every engine did; runs in a sandbox, a process of its own.

`python -m kernelevolve.runtime.mtia.traced < request.json > timeline.json`. The request is
`{source, files, sizes, mode, arch}`: the task's text, the candidate's files by path, the sizes of
the workload, whether it trains, and the chip. The answer opens in ui.perfetto.dev.
"""

import inspect
import json
import sys
from collections.abc import Callable, Mapping
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

import torch

from kernelevolve.runtime.mtia import Kernel
from kernelevolve.runtime.mtia.machine import machines
from kernelevolve.runtime.mtia.operators import priced


def traced(request: Mapping[str, Any]) -> str:
    """The timeline of one call."""
    machine = machines()[request["arch"]]
    with TemporaryDirectory() as place:
        reference = _imported(Path(place) / "reference", {"model.py": request["source"]})
        own = _imported(Path(place) / "candidate", request["files"])
        for value in vars(own).values():
            if isinstance(value, Kernel):
                value.machine = machine
        arguments = _given(reference.get_init_inputs, request["sizes"])
        model, candidate = reference.Model(*arguments), own.ModelNew(*arguments)
        candidate.load_state_dict(model.state_dict(), strict=False)
        if request["mode"] == "eval":
            candidate.eval()
        if hasattr(candidate, "prepare"):
            candidate.prepare()
        inputs = list(_given(reference.get_inputs, request["sizes"]))
        tensors = [t for t in inputs if isinstance(t, torch.Tensor)]
        with torch.no_grad(), priced(machine, tensors, tracing=True) as found:
            candidate(*inputs)
    return found.timeline()


def _imported(folder: Path, files: Mapping[str, str]) -> ModuleType:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    spec = spec_from_file_location(folder.name, folder / "model.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _given(function: Callable[..., Any], sizes: Mapping[str, Any]) -> Any:
    """What it returns for those of the sizes that it takes."""
    taken = inspect.signature(function).parameters
    return function(**{name: value for name, value in sizes.items() if name in taken})


def main() -> None:
    """Read the request from stdin, answer on the original stdout; prints go to stderr."""
    answer_to, sys.stdout = sys.stdout, sys.stderr
    answer_to.write(traced(json.load(sys.stdin)))
    answer_to.flush()


if __name__ == "__main__":
    main()
