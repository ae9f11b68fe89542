"""Every command explains itself, and every setting has exactly one explanation."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from kernelevolve.cli.main import cli
from kernelevolve.cli.options import NESTED, PANELS
from kernelevolve.config import RunConfig

COMMANDS = {
    "optimize",
    "resume",
    "runs",
    "show",
    "replay",
    "best",
    "evaluate",
    "check",
    "doctor",
    "clean",
    "hint",
    "pin",
    "ban",
    "pause",
    "stop",
    "export-trajectories",
    "redteam",
    "bench",
    "knowledge search",
    "knowledge show",
    "knowledge add",
    "knowledge retire",
    "knowledge lint",
}


def plain(text: str) -> str:
    """Help without frames and line breaks."""
    return re.sub(r"[\s│╭╮╰╯─]+", " ", re.sub(r"\x1b\[[0-9;]*m", "", text))


def test_all_commands_are_there() -> None:
    assert set(commands(typer.main.get_command(cli))) == COMMANDS


def commands(group: Any, path: str = "") -> Iterator[str]:
    """Every command by its words; those of groups too."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{path}{name} ")
        else:
            yield path + name


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_help_has_examples_that_parse(k: Any, command: str) -> None:
    ended = k(*command.split(), "--help")
    assert ended.code == 0
    shown = plain(ended.out)
    _, _, examples = shown.partition("Examples")
    assert f"kernelevolve {command}" in examples
    known = set(re.findall(r"--[a-z-]+", shown.partition("Examples")[0]))
    assert set(re.findall(r"(?<=\s)--[a-z-]+", examples)) <= known | {"--yes"}


def test_every_setting_is_a_flag_or_reached_by_set() -> None:
    assert set(PANELS) | set(NESTED.values()) == set(RunConfig.model_fields)


def test_help_of_each_flag_is_the_docstring_of_its_field(k: Any) -> None:
    shown = plain(k("optimize", "--help").out)
    for field in PANELS:
        info = RunConfig.model_fields[field]
        assert f"--{field.replace('_', '-')} " in shown
        assert info.description
        assert info.description in shown
        if info.default not in (None, False, "", ()):
            assert f"{info.description} [default: {info.default}]" in shown


def test_every_command_takes_json_and_verbose(k: Any) -> None:
    for command in COMMANDS:
        shown = k(*command.split(), "--help").out
        assert "--json" in shown
        assert "--verbose" in shown


def test_without_a_command_the_help_is_shown_and_the_usage_is_wrong(k: Any) -> None:
    ended = k()
    assert ended.code == 2
    assert "Commands" in ended.out + ended.err


def test_version(k: Any) -> None:
    ended = k("--version")
    assert (ended.code, ended.out) == (0, "kernelevolve 0.1.0\n")
