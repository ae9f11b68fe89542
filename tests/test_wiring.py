"""Which parts a configuration gets, and what is said where it gets none."""

import pytest

from kernelevolve import app, registry
from kernelevolve.config import RunConfig
from kernelevolve.core.errors import MissingDependency, UsageError
from kernelevolve.testing.journals import TASK
from kernelevolve.wiring import Parts


@pytest.fixture(autouse=True)
def everything_installed(monkeypatch):
    monkeypatch.setattr(registry, "installed", lambda needed: True)


def test_an_emulated_device_is_had_by_its_full_name_only():
    parts = Parts.of(RunConfig(target="nvidia:sm_90", language="cuda"))
    assert (parts.target.address, parts.target.fidelity) == ("nvidia:sm_90", "emulated")
    with pytest.raises(
        UsageError, match=r"'nvidia' is not on this machine.*verified for nvidia:sm_80"
    ):
        Parts.of(RunConfig(target="nvidia", language="cuda"))
    with pytest.raises(
        UsageError, match=r"'nvidia:sm_1' is not on this machine; of its kind: none"
    ):
        Parts.of(RunConfig(target="nvidia:sm_1", language="cuda"))


@pytest.mark.parametrize(
    ("target", "language", "fitting"), [("nvidia:sm_90", "cpp", "cuda"), ("cpu", "cuda", "cpp")]
)
def test_a_language_must_be_the_targets(target, language, fitting):
    with pytest.raises(UsageError, match=f"is not for target {target}.*from: {fitting}"):
        Parts.of(RunConfig(target=target, language=language, threads=1))


def test_what_cannot_be_timed_cannot_be_searched(tmp_path):
    config = RunConfig(target="nvidia:sm_90", language="cuda", store=str(tmp_path))
    with pytest.raises(UsageError, match="emulated on this machine.*not timed"):
        app.optimize(TASK, config)
    with pytest.raises(UsageError, match="not timed"):
        app.redteam(config, [])
    assert not app.runs(str(tmp_path))


def test_what_a_language_needs_is_named_with_its_installation(monkeypatch):
    monkeypatch.setattr(registry, "installed", lambda needed: needed == "g++")
    with pytest.raises(
        MissingDependency, match=r'cuda.bindings.*pip install "kernelevolve\[cuda\]"'
    ):
        Parts.of(RunConfig(target="nvidia:sm_90", language="cuda"))


def test_programs_and_python_modules_count_as_installed(monkeypatch):
    monkeypatch.undo()
    assert registry.installed("sh")
    assert registry.installed("json.tool")
    assert not registry.installed("no.such.module")
