"""Every rule that a note must keep to is told with file, line and what to do."""

from pathlib import Path

import pytest

from kernelevolve.core.errors import UsageError
from kernelevolve.knowledge.library import PACKAGED, Library
from kernelevolve.knowledge.lint import lint

CODE = "Do this:\n\n```cpp\nint x;\n```"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Notes below it name its tests and documents."""
    (tmp_path / "tests").mkdir()
    (tmp_path / "design").mkdir()
    (tmp_path / "design" / "0001-a.md").touch()
    (tmp_path / "tests" / "test_a.py").write_text(
        "def test_it(): ...\nclass TestB:\n    async def test_there(self): ...\n"
    )
    return tmp_path


def test_the_packaged_notes_are_clean() -> None:
    found = lint(strict=True)
    assert [f"{f.file}:{f.line}: {f.message}" for f in found.findings] == []
    assert found.unchecked == ()


def test_there_are_a_hundred_notes_and_every_hardware_and_language_has_some() -> None:
    library = Library()
    folders = [line.partition(":")[0] for line in library.index().splitlines()]
    assert {f"hardware/{h}" for h in ("cpu", "nvidia", "amd", "mtia")} <= set(folders)
    languages = ("cpp", "triton", "cuda", "hip", "cute", "flydsl", "mtia_cpp")
    assert {f"languages/{name}" for name in languages} <= set(folders)
    assert len(list(PACKAGED.rglob("*.md"))) >= 100


MAJOR = [
    ({"targets": '["nvdia:sm_90"]'}, "", 6, "unknown target 'nvdia:sm_90'"),
    ({"languages": '["cobol"]'}, "", 6, "unknown language 'cobol'"),
    ({"source": '["a book"]'}, "", 5, "source 'a book' cannot be looked up"),
    ({"source": '["<https://x.y>"]'}, "", 5, "cannot be looked up"),
    ({"source": '["kernelevolve: design/0002"]'}, "", 5, "there is no such document"),
    ({"source": '["kernelevolve: /etc/passwd"]'}, "", 5, "there is no such document"),
    ({"source": ""}, "", 1, "source: field required"),
    ({"kind": '"fact"'}, "", 3, "kind: input should be"),
    ({}, CODE, 10, "shows code that no test verifies"),
    ({"test": '"tests/test_a.py::test_other"'}, CODE, 6, "does not exist"),
    ({"test": '"tests/test_b.py::test_it"'}, CODE, 6, "does not exist"),
    ({}, "See\n[[guidance/nothing]].", 9, "link to 'guidance/nothing', which is no note"),
]


@pytest.mark.parametrize(("fields", "text", "line", "said"), MAJOR)
def test_what_makes_a_note_unusable(shelf, checkout, fields, text, line, said) -> None:
    path = shelf("a", text or "x", **fields)
    (finding,) = lint([checkout / "notes"]).findings
    assert (finding.file, finding.line) == (str(path), line)
    assert said in finding.message
    assert finding.fix


MINOR = [
    ({}, "word " * 251, 8, "251 words, at most 250"),
    ({"title": f'"{"x" * 91}"'}, "x", 2, "title of 91 characters"),
    ({"symptoms": ""}, "x", 2, "no symptom leads to it"),
    ({"symptoms": '["a b c d e f g h i j k"]'}, "x", 4, "more than 10 words"),
    (
        {"test": '"tests/test_a.py::test_it[x]"'},
        "```\n" + "x\n" * 41 + "```",
        9,
        "41 lines of code, at most 40",
    ),
]


@pytest.mark.parametrize(("fields", "text", "line", "said"), MINOR)
def test_what_only_strict_tells(shelf, checkout, fields, text, line, said) -> None:
    shelf("a", text, **fields)
    assert lint([checkout / "notes"]).findings == ()
    (finding,) = lint([checkout / "notes"], strict=True).findings
    assert (finding.line, finding.minor) == (line, True)
    assert said in finding.message


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("constraints", "constraint"),
        ("guidance", "guidance"),
        ("hardware", "hardware"),
        ("languages", "language"),
        ("skills", "skill"),
    ],
)
def test_a_kind_belongs_to_its_folder(shelf, checkout, folder: str, kind: str) -> None:
    shelf(f"{folder}/right", kind=f'"{kind}"')
    other = "skill" if kind != "skill" else "guidance"
    shelf(f"{folder}/wrong", kind=f'"{other}"')
    (finding,) = lint([checkout / "notes"]).findings
    assert finding.message == f"kind {other!r} in a folder of kind {kind!r}"


def test_notes_that_repeat_each_other_are_both_named(shelf, checkout) -> None:
    text = "Pad each row of a tile in shared memory by one word, so that columns differ in bank."
    one = shelf("a", text)
    other = shelf("b", text.replace("Pad", "Fill"))
    shelf("c", "Something else that has nothing to do with rows.")
    (finding,) = lint([checkout / "notes"], strict=True).findings
    assert finding.file == str(other)
    assert str(one) in finding.message


def test_what_is_in_order_stays_unsaid(shelf, checkout) -> None:
    shelf("a", CODE, test='"tests/test_a.py::TestB::test_there[1]"')
    shelf("b", "See [[a]] and [[hardware/nvidia/shared-memory-banks]]; `x` is no block.")
    shelf("c", "x", source='["kernelevolve: design/0001", "measured: a GPU", "run: a, node #1"]')
    shelf("skills/d", CODE + "\nof a run", kind='"skill"')
    assert lint([checkout / "notes"], strict=True).findings == ()


def test_outside_of_a_checkout_tests_are_said_to_be_unchecked(shelf, tmp_path: Path) -> None:
    shelf("a", CODE, test='"tests/test_a.py::test_none"')
    found = lint([tmp_path / "notes"])
    assert found.findings == ()
    assert "is in no checkout" in found.unchecked[0]


def test_a_missing_folder_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such folder"):
        lint([tmp_path / "nowhere"])
