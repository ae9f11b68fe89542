"""`knowledge` finds, shows, adds and lints notes, and says in one line what is wrong."""

from pathlib import Path
from typing import Any

import pytest

NOTE = """+++
title = "Queue one job at a time"
kind = "hardware"
targets = ["nvidia:sm_90"]
symptoms = ["queue is full"]
source = ["Our cluster <https://example.org/cluster>"]
+++

One job a GPU.
"""
BANKS = "hardware/nvidia/shared-memory-banks"


@pytest.fixture
def note(tmp_path: Path) -> Path:
    path = tmp_path / "our-queue.md"
    path.write_text(NOTE)
    return path


def test_search_answers_with_notes_best_first(k: Any) -> None:
    ended = k("knowledge", "search", "shared memory bank conflicts", "--limit", 2, "--json")
    assert ended.code == 0
    assert [n["ref"] for n in ended.json["notes"]][0] == BANKS
    assert len(ended.json["notes"]) == 2
    assert ended.json["query"] == "shared memory bank conflicts"
    assert BANKS in k("knowledge", "search", "shared memory bank conflicts").out
    cpu = k("knowledge", "search", "shared memory bank conflicts", "--target", "cpu", "--json")
    assert BANKS not in {n["ref"] for n in cpu.json["notes"]}


def test_search_without_an_answer_ends_with_1(k: Any) -> None:
    ended = k("knowledge", "search", "zzzz", "--json")
    assert (ended.code, ended.json["notes"]) == (1, [])


def test_show_gives_one_note_or_the_tree(k: Any) -> None:
    assert k("knowledge", "show", BANKS, "--json").json["ref"] == BANKS
    assert "source: " in k("knowledge", "show", BANKS).out
    assert any(BANKS.rpartition("/")[0] in line for line in k("knowledge", "show").out.splitlines())


def test_an_added_note_is_found_by_this_store(k: Any, note: Path, tmp_path: Path) -> None:
    ended = k("knowledge", "add", note, "--json")
    place = tmp_path / "data/kernelevolve/knowledge/notes/hardware/nvidia/our-queue.md"
    assert (ended.code, ended.json["file"]) == (0, str(place))
    found = k("knowledge", "search", "the queue is full", "--limit", 1, "--json")
    assert found.json["notes"][0]["ref"] == "hardware/nvidia/our-queue"
    assert k("knowledge", "add", note).code == 0


def test_a_retired_note_says_why_in_this_store_only(k: Any, tmp_path: Path) -> None:
    ended = k("knowledge", "retire", BANKS, "--why", "not on our device", "--json")
    assert (ended.code, ended.json["retired"]) == (0, BANKS)
    assert "was retired: not on our device" in k("knowledge", "show", BANKS).err
    assert k("knowledge", "show", BANKS, "--store", tmp_path / "other").code == 0


def test_folders_are_named_by_flag_environment_and_file(
    k: Any, note: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert k("knowledge", "add", note, "--to", tmp_path / "mine").code == 0
    words = ("knowledge", "show", "hardware/nvidia/our-queue", "--json")
    assert k(*words).code == 2
    assert k(*words, "--knowledge", tmp_path / "mine").code == 0
    (tmp_path / "kernelevolve.toml").write_text('knowledge = ["mine"]\n')
    assert k(*words).code == 0
    (tmp_path / "kernelevolve.toml").unlink()
    monkeypatch.setenv("KERNELEVOLVE_KNOWLEDGE", str(tmp_path / "mine"))
    assert k(*words).code == 0


def test_lint_ends_with_1_where_there_are_findings(k: Any, note: Path, tmp_path: Path) -> None:
    assert k("knowledge", "lint", tmp_path, "--strict").code == 0
    note.write_text(NOTE.replace("nvidia", "nvdia"))
    ended = k("knowledge", "lint", tmp_path, "--json")
    assert ended.code == 1
    assert set(ended.json["findings"][0]) == {"file", "line", "message", "fix", "minor"}
    assert "our-queue.md:4: unknown target 'nvdia:sm_90'" in k("knowledge", "lint", tmp_path).out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["show", "nothing/here"], "unknown note 'nothing/here'"),
        (["show", BANKS, "--knowledge", "nowhere"], "knowledge folder nowhere: no such folder"),
        (["add", "nowhere.md"], "note nowhere.md: no such file"),
        (["add", "broken.md"], "note broken.md:2: front matter is no TOML"),
        (["add", "wrong.md"], "note wrong.md: unknown target 'nvdia:sm_90'"),
        (["add", "taken.md", "--to", "mine"], "is there already"),
        (["lint", "nowhere"], "no such folder"),
        (["search"], "Missing argument"),
        (["retire", "nothing/here", "--why", "x"], "unknown note 'nothing/here'"),
        (["retire", BANKS, "--why", " "], "say why"),
        (["retire", BANKS], "Missing option"),
        (["search", "x", "--limit", "0"], "--limit"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    k: Any, tmp_path: Path, words: list[str], said: str
) -> None:
    (tmp_path / "broken.md").write_text("+++\ntitle =\n+++\n")
    (tmp_path / "wrong.md").write_text(NOTE.replace("nvidia", "nvdia"))
    (tmp_path / "taken.md").write_text(NOTE)
    taken = tmp_path / "mine/hardware/nvidia/taken.md"
    taken.parent.mkdir(parents=True)
    taken.write_text("another")
    ended = k("knowledge", *words)
    assert ended.code == 2
    assert said in ended.err
    assert len(ended.err.splitlines()) == 1
