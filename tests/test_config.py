from pathlib import Path

import pytest

from kernelevolve.config import RunConfig, cache_folder, data_folder, layered
from kernelevolve.core.errors import UsageError


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """No configuration file and no variable of this machine takes part."""
    monkeypatch.chdir(tmp_path)
    for name in RunConfig.model_fields:
        monkeypatch.delenv(f"KERNELEVOLVE_{name.upper()}", raising=False)


def test_without_anything_the_defaults_hold():
    assert layered({}) == RunConfig()


def test_flags_beat_environment_beats_file_beats_defaults(monkeypatch):
    Path("kernelevolve.toml").write_text('nodes = 11\nworkers = 5\nseed = 3\npolicy = "beam"\n')
    monkeypatch.setenv("KERNELEVOLVE_NODES", "22")
    monkeypatch.setenv("KERNELEVOLVE_WORKERS", "6")
    config = layered({"nodes": 33, "minutes": None})
    assert (config.nodes, config.workers, config.seed, config.policy) == (33, 6, 3, "beam")


def test_a_named_file_is_read_and_must_exist(tmp_path):
    (tmp_path / "my.toml").write_text("goal = 2.5\n[policy_options]\nexploration = 0.3\n")
    config = layered({}, tmp_path / "my.toml")
    assert config.goal == 2.5
    assert config.policy_options == {"exploration": 0.3}
    with pytest.raises(UsageError, match="no such file"):
        layered({}, tmp_path / "missing.toml")


@pytest.mark.parametrize(
    ("file", "environment", "flags", "message"),
    [
        ("nodes = 0", {}, {}, "configuration file: nodes = 0"),
        ("nods = 5", {}, {}, "configuration file: nods = 5"),
        ("nodes = ", {}, {}, "kernelevolve.toml"),
        ("", {"WORKERS": "many"}, {}, "environment: workers = 'many'"),
        ("", {}, {"roofline": 1.5}, "flags: roofline = 1.5"),
    ],
)
def test_a_wrong_value_names_its_layer_and_field(monkeypatch, file, environment, flags, message):
    Path("kernelevolve.toml").write_text(file)
    for name, value in environment.items():
        monkeypatch.setenv(f"KERNELEVOLVE_{name}", value)
    with pytest.raises(UsageError, match=message):
        layered(flags)


def test_a_config_survives_the_journal():
    config = RunConfig(goal=2.0, policy_options={"width": 3})
    assert RunConfig.model_validate(config.model_dump(mode="json")) == config


def test_every_field_is_documented():
    for name, field in RunConfig.model_fields.items():
        assert field.description, name


def test_folders_follow_the_user(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert data_folder() == tmp_path / "data" / "kernelevolve"
    assert cache_folder() == tmp_path / "cache" / "kernelevolve"
    assert data_folder(str(tmp_path / "here")) == tmp_path / "here"


def test_a_flag_for_one_limit_keeps_the_limits_of_the_file():
    Path("kernelevolve.toml").write_text("[limits]\nbuild_seconds = 7\n")
    limits = layered({"limits": {"run_seconds": 9}}).limits
    assert (limits.build_seconds, limits.run_seconds) == (7, 9)
