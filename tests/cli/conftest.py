"""A command line in front of a fake application, and what both sides saw."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kernelevolve import app
from kernelevolve.cli.main import main

TASK = """
import torch

class Model(torch.nn.Module):
    def forward(self, x):
        return x.softmax(-1)

def get_inputs():
    return [torch.rand(8, 8)]

def get_init_inputs():
    return []
"""


@dataclass
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """Standard output, which must be exactly one object on one line."""
        assert self.out.endswith("\n"), self.out
        assert self.out.count("\n") == 1, self.out
        found = json.loads(self.out)
        assert isinstance(found, dict)
        return found


@pytest.fixture(autouse=True)
def quiet_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No configuration, data folder or colours of the person who runs the tests."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("COLUMNS", "200")
    for name in ("FORCE_COLOR", "CLICOLOR_FORCE", "GITHUB_ACTIONS", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def k(capfd: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """Runs `kernelevolve` with these words."""

    def run(*words: object) -> Ended:
        capfd.readouterr()
        code = main([str(word) for word in words])
        return Ended(code, *capfd.readouterr())

    return run


@pytest.fixture
def task(tmp_path: Path) -> Path:
    file = tmp_path / "soft max.py"
    file.write_text(TASK)
    return file


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, object], list[tuple[Any, ...]]]:
    """Puts an answer (or an exception, or a function) in the application's place."""

    def replace(verb: str, answer: object) -> list[tuple[Any, ...]]:
        calls: list[tuple[Any, ...]] = []

        def stand_in(*given: Any) -> object:
            calls.append(given)
            if isinstance(answer, BaseException):
                raise answer
            return answer(*given) if callable(answer) else answer

        monkeypatch.setattr(app, verb, stand_in)
        return calls

    return replace
