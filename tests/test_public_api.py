"""The names that `import kernelevolve` offers, and what it costs."""

import subprocess
import sys
from inspect import isclass, isfunction

import kernelevolve

NAMES = {
    "Evaluation",
    "Graph",
    "KernelEvolveError",
    "Reporter",
    "Result",
    "RunConfig",
    "Stage",
    "Status",
    "Task",
    "Workload",
    "check",
    "evaluate",
    "optimize",
    "read_task",
    "resume",
}
HEAVY = ("torch", "numpy", "triton", "rich", "typer", "jinja2", "pydantic")


def test_exported_names() -> None:
    assert set(kernelevolve.__all__) == NAMES
    assert list(kernelevolve.__all__) == sorted(NAMES)
    assert len(NAMES) <= 15
    assert set(dir(kernelevolve)) == NAMES


def test_every_name_is_there_and_documented() -> None:
    for name in NAMES:
        found = getattr(kernelevolve, name)
        assert isclass(found) or isfunction(found), name
        assert found.__doc__, name


def test_unknown_names_are_attribute_errors() -> None:
    assert not hasattr(kernelevolve, "Optimiser")


def test_import_is_quick_and_brings_nothing_heavy() -> None:
    script = (
        "import sys, time; t = time.perf_counter(); import kernelevolve;"
        f"print(time.perf_counter() - t, *[m for m in {HEAVY} if m in sys.modules])"
    )
    best = min(_seconds(script) for _ in range(3))
    assert best < 0.3


def test_the_command_line_starts_without_torch() -> None:
    script = "import sys, kernelevolve.cli.main, kernelevolve.api; print('torch' in sys.modules)"
    assert _output(script) == "False"


def _seconds(script: str) -> float:
    seconds, *heavy = _output(script).split()
    assert heavy == []
    return float(seconds)


def _output(script: str) -> str:
    command = [sys.executable, "-c", script]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
