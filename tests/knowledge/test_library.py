"""Notes are found by what compilers and profiles say; folders replace, lessons are kept."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernelevolve.core.errors import UnknownName, UsageError
from kernelevolve.core.note import Note
from kernelevolve.knowledge import notefile
from kernelevolve.knowledge.library import Library

PACKAGED = Library()
SKILL = Note(
    ref="skills/rows-in-registers",
    title="Rows of 8192 stay in registers",
    kind="skill",
    symptoms=("second pass over rows",),
    source=("run: softmax-1, node #17",),
    text="One program a row.",
)


@given(st.text(max_size=200))
def test_any_text_is_a_query(query: str) -> None:
    assert len(PACKAGED.recall(query, limit=3)) <= 3


@pytest.mark.parametrize(
    "query",
    ['"', "a AND", "NEAR(", "title:x*", "-", "^", "\0", "", "(" * 500, "x " * 9000, "'; --"],
)
def test_no_query_is_a_syntax_error(query: str) -> None:
    PACKAGED.recall(query, limit=5)
    assert PACKAGED.recall(query, limit=0) == []


def test_a_thousand_words_of_a_compiler_are_a_query() -> None:
    words = " ".join(f"word{i}" for i in range(1000))
    assert PACKAGED.recall(f"shared memory bank conflicts {words}", limit=1)


def test_notes_about_other_devices_and_languages_are_left_out(shelf, tmp_path: Path) -> None:
    shelf("any")
    shelf("nvidia", targets='["nvidia"]')
    shelf("hopper", targets='["nvidia:sm_90"]')
    shelf("triton", targets='["nvidia", "amd"]', languages='["triton"]')
    library = Library(packaged=tmp_path / "notes")

    def found(target: str = "", language: str = "") -> set[str]:
        notes = library.recall("bank conflicts", limit=9, target=target, language=language)
        return {note.ref for note in notes}

    assert found() == {"any", "nvidia", "hopper", "triton"}
    assert found("nvidia:sm_90:0") == {"any", "nvidia", "hopper", "triton"}
    assert found("nvidia") == {"any", "nvidia", "hopper", "triton"}
    assert found("nvidia:sm_9") == {"any", "nvidia", "triton"}
    assert found("amd:gfx942", "hip") == {"any"}
    assert found("nvidia:sm_90", "cuda") == {"any", "nvidia", "hopper"}


def test_a_symptom_that_is_said_word_by_word_comes_before_many_common_words(
    shelf, tmp_path: Path
) -> None:
    shelf("wordy", symptoms='["memory kernel failure error", "access failure of memory"]')
    shelf("single", "memory memory memory", symptoms='["memory"]', title='"memory"')
    shelf("longer", symptoms='["access out of resource"]')
    shelf("exact", symptoms='["out of resource"]')
    library = Library(packaged=tmp_path / "notes")
    message = "kernel error: memory access failure, out of resource: memory"

    def first(message: str) -> str:
        return library.recall(message, limit=1)[0].ref

    assert first(message) == "exact"
    assert first(message.replace("failure, ", "")) == "longer"
    assert first("kernel error: memory failure, out of no resource") == "wordy"


def test_symptoms_weigh_more_than_titles_and_titles_more_than_text(shelf, tmp_path: Path) -> None:
    shelf("in-text", "queue")
    shelf("in-title", title='"queue"')
    shelf("in-symptom", symptoms='["queue"]', title='"other"')
    found = Library(packaged=tmp_path / "notes").recall("queue", limit=3)
    assert [note.ref for note in found] == ["in-symptom", "in-title", "in-text"]


def test_a_later_folder_replaces_a_note_of_the_same_name(shelf, tmp_path: Path) -> None:
    shelf("a", title='"ours"')
    shelf("b", title='"kept"')
    shelf("a", title='"theirs"', folder="mine")
    library = Library([tmp_path / "mine"], packaged=tmp_path / "notes")
    assert library.note("a").title == "theirs"
    assert library.note("b").title == "kept"


def test_the_tree_has_one_line_for_each_folder() -> None:
    tree = PACKAGED.index().splitlines()
    folders = [line.partition(":")[0] for line in tree]
    assert folders == sorted(set(folders))
    assert {"constraints", "guidance", "hardware/nvidia", "languages/triton"} <= set(folders)
    line = next(line for line in tree if line.startswith("hardware/nvidia:"))
    assert (
        f"shared-memory-banks ({PACKAGED.note('hardware/nvidia/shared-memory-banks').title})"
        in line
    )


def test_the_tree_is_cut_to_what_is_about_a_device_and_a_language() -> None:
    tree = PACKAGED.index("nvidia:sm_90:0", "triton")
    folders = {line.partition(":")[0] for line in tree.splitlines()}
    assert {"guidance", "hardware/nvidia", "languages/triton"} <= folders
    assert not folders & {"hardware/amd", "hardware/mtia", "hardware/cpu", "languages/cuda"}
    assert len(tree) < len(PACKAGED.index()) * 0.7


def test_an_unknown_note_is_told_with_its_neighbours() -> None:
    with pytest.raises(UnknownName, match="near it: .*hardware/nvidia/shared-memory-banks"):
        PACKAGED.note("hardware/nvidia/shared-memory-bank")


def test_what_was_learnt_is_found_by_this_and_other_libraries(tmp_path: Path) -> None:
    library = Library(skills=tmp_path / "skills")
    library.learn(SKILL)
    for each in (library, Library(skills=tmp_path / "skills")):
        assert each.recall("second pass over rows", limit=1) == [SKILL]
    library.learn(SKILL.model_copy(update={"text": "Two programs a row."}))
    assert Library(skills=tmp_path / "skills").note(SKILL.ref).text == "Two programs a row."


def test_a_retired_note_is_gone_says_why_and_is_not_learnt_again(tmp_path: Path) -> None:
    library, packaged = Library(skills=tmp_path / "s"), "hardware/nvidia/shared-memory-banks"
    library.learn(SKILL)
    for ref in (SKILL.ref, packaged):
        library.retire(ref, "node #17 cheated")
        for each in (library, Library(skills=tmp_path / "s")):
            with pytest.raises(UnknownName, match="retired: node #17 cheated"):
                each.note(ref)
            assert ref not in {n.ref for n in each.recall(SKILL.title + " banks", limit=99)}
    with pytest.raises(UsageError, match="was retired"):
        library.learn(SKILL)
    with pytest.raises(UnknownName):
        library.retire(SKILL.ref, "again")


def test_only_skills_are_learnt_and_only_where_there_is_a_folder(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no folder for skills"):
        Library().learn(SKILL)
    for other in ({"kind": "guidance"}, {"ref": "guidance/x"}):
        with pytest.raises(UsageError, match="only skills are learnt"):
            Library(skills=tmp_path).learn(SKILL.model_copy(update=other))


def test_a_missing_folder_and_a_broken_note_are_told_with_their_place(
    shelf, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="nowhere: no such folder"):
        Library([tmp_path / "nowhere"]).recall("x", limit=1)
    shelf("a", kind='"opinion"')
    with pytest.raises(UsageError, match=r"a\.md:3: kind: input should be 'constraint'"):
        Library([tmp_path / "notes"]).recall("x", limit=1)


def test_drafts_and_hidden_files_are_no_notes(shelf, tmp_path: Path) -> None:
    for ref in ("a", "_draft", ".hidden", ".git/x"):
        shelf(ref)
    assert Library(packaged=tmp_path / "notes").index().startswith(".: a (")
    assert len(Library(packaged=tmp_path / "notes").index().split(";")) == 1


def test_a_note_in_another_encoding_is_told(shelf, tmp_path: Path) -> None:
    shelf("a").write_bytes(b"+++\n# caf\xe9\n+++\n")
    with pytest.raises(UsageError, match="not UTF-8 at byte 9; save it as UTF-8"):
        Library(packaged=tmp_path / "notes").note("a")


lines = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
plain = lines.filter(lambda text: text.strip() != "")


@given(plain, st.lists(plain, max_size=3), plain)
def test_a_written_note_reads_back_the_same(title: str, symptoms: list[str], text: str) -> None:
    text = text.replace("\r", "")
    if not text.strip() or not title.split():
        return
    given = {"title": title, "symptoms": symptoms, "text": text}
    note = Note.model_validate({**SKILL.model_dump(), **given})
    assert notefile.parse(notefile.render(note), note.ref) == note


@pytest.mark.parametrize(
    ("file", "line", "said"),
    [
        ("# A note\n", 1, "two lines of \\+\\+\\+"),
        ("+++\ntitle = 'a'\n", 1, "two lines of"),
        ("+++\ntitle = a\n+++\n", 2, "no TOML"),
        ("+++\ntitle = 'a'\nsorce = ['b']\n+++\nx", 3, "unknown field 'sorce'; known: title, kind"),
        ("+++\ntitle = 'a'\nkind = 'guidance'\n+++\nx", 1, "source: field required"),
        ("+++\ntitle = 'a'\nkind = 'guidance'\nsource = ['b']\n+++\n \n", 1, "text: .* at least 1"),
    ],
)
def test_what_is_no_note_is_told_with_its_line(file: str, line: int, said: str) -> None:
    with pytest.raises(notefile.NoteError, match=said) as caught:
        notefile.parse(file, "a")
    assert caught.value.line == line
