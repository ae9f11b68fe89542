"""What a run teaches, how runs add up, and that every skill is a note that lint accepts."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from kernelevolve.core.candidate import Move
from kernelevolve.core.detector import Detector
from kernelevolve.core.evaluation import Evaluation, Stage, Status
from kernelevolve.core.events import (
    Confirmed,
    Evaluated,
    Event,
    Proposed,
    Quarantined,
    RunStarted,
    RunStopped,
    Selected,
)
from kernelevolve.core.graph import Graph
from kernelevolve.knowledge import notefile
from kernelevolve.knowledge.lessons import MOST_SKILLS, lessons, losses, stem
from kernelevolve.knowledge.lint import lint
from kernelevolve.knowledge.skills import Evidence, Skill, folded, note_of, skill_of
from kernelevolve.testing.journals import TARGET, TASK, passed

VERSIONS = "kernelevolve 0.1.0, torch 2.9.1"
STREAM = "stream outputs past the cache with non-temporal stores"
SOFTMAX = TASK.model_copy(update={"source": "def forward(x):\n    return x.softmax(-1)\n"})
UNDECLARED = "kernel.cpp:17:5: error: 'foo{}' was not declared in this scope\nmore"


class Story:
    """A run that is told node by node."""

    def __init__(self) -> None:
        self.events: list[Event] = [RunStarted(at=0.0, task=SOFTMAX, target=TARGET, config={})]

    def node(
        self, number: int, verdict: Evaluation, *parents: int, summary: str = "", checked: float = 0
    ) -> "Story":
        """One more node; with `checked` it is confirmed at that score."""
        move = Move(parents=parents, memory="lineage" if parents else "fresh")
        said = summary or f"idea {number}"
        self.events += [
            Selected(at=0.0, number=number, move=move),
            Proposed(
                at=0.0,
                number=number,
                candidate=f"c{number}",
                language="cpp",
                files={},
                summary=said,
            ),
            Evaluated(at=0.0, number=number, evaluation=verdict),
        ]
        if checked:
            final = passed(checked, Stage.CONFIRM)
            self.events.append(Confirmed(at=0.0, number=number, evaluation=final))
        return self

    def graph(self, *more: Event) -> Graph:
        """After the end of the run."""
        return Graph.fold([*self.events, *more, RunStopped(at=9.0, reason="nodes")])


def failed(message: str, status: Status = Status.BUILD_FAILED, **fields: object) -> Evaluation:
    return Evaluation(status=status, stage=Stage.BUILD, message=message, **fields)


def gained(run: str = "a", change: str = STREAM, after: float = 3.0) -> list[Skill]:
    story = Story().node(1, passed(2.0)).node(2, passed(after), 1, summary=change, checked=after)
    return lessons(run, story.graph(), VERSIONS)


def lost(run: str = "b", change: str = STREAM, after: float = 1.0) -> list[Skill]:
    story = Story().node(1, passed(2.0), checked=2.0).node(2, passed(after), 1, summary=change)
    return losses(run, story.graph(), VERSIONS)


def fold(
    known: dict[str, Skill], taught: Sequence[Skill], against: Sequence[Skill] = ()
) -> dict[str, Skill]:
    """The skills after one more run, as they are read back from their notes."""
    notes = {ref: note_of(skill, ref) for ref, skill in folded(known, taught, against).items()}
    return {ref: skill for ref, note in notes.items() if (skill := skill_of(note))}


def test_a_confirmed_gain_teaches_with_everything_that_proves_it() -> None:
    (skill,) = gained()
    note = note_of(skill)
    assert note.title == f"1.50x on softmax: {STREAM}"
    assert (note.targets, note.languages) == (("cpu",), ("cpp",))
    assert note.symptoms == ("bound by memory",)
    assert note.source == (
        "run: a, gain: #2 over #1, score 2 to 3, 1.5x [1.458, 1.543]; "
        "cpu:x86_64; cpp; kernelevolve 0.1.0, torch 2.9.1; 1970-01-01",
    )
    assert f"- Change: {STREAM}" in note.text
    assert "- Gained: 1.50x over its parent in 1 run" in note.text
    assert skill.confidence == pytest.approx(0.483, abs=0.001)
    assert "- When: bound by memory\n" in note.text
    assert note.text.endswith("- Confidence: 0.48")
    assert skill_of(note) == skill.model_copy(update={"evidence": skill_of(note).evidence})


@pytest.mark.parametrize(
    "story",
    [
        Story().node(1, passed(2.0)).node(2, passed(3.0), 1),
        Story().node(1, passed(2.0)).node(2, passed(2.05), 1, checked=2.05),
        Story().node(1, passed(2.0)).node(2, passed(3.0), 1, checked=2.0),
        Story().node(1, passed(2.0), checked=2.0),
        Story().node(1, passed(2.0), checked=2.9).node(2, passed(3.0), 1, checked=3.0),
        Story()
        .node(1, passed(2.0))
        .node(2, passed(3.0), 1, checked=3.0)
        .node(3, passed(5), checked=5),
    ],
    ids=[
        "not confirmed",
        "within noise",
        "luck of the search",
        "no parent",
        "parent as fast",
        "not on the way to the best",
    ],
)
def test_nothing_is_learnt_from_what_is_not_sure(story: Story) -> None:
    assert lessons("a", story.graph(), VERSIONS) == []


def test_nothing_is_learnt_from_an_exploit_or_what_came_of_it() -> None:
    story = Story().node(1, passed(2.0)).node(2, passed(3.0), 1, checked=3.0)
    for number in (3, 4):
        story.node(number, failed(UNDECLARED.format(number)), 2)
    assert len(lessons("a", story.graph(), VERSIONS)) == 2
    for guilty in (1, 2):
        proof = Quarantined(at=1.0, number=guilty, reason="read the clock", detector=Detector.CLOCK)
        assert lessons("a", story.graph(proof), VERSIONS) == []


def test_a_failure_that_came_back_teaches_with_its_repair() -> None:
    story = Story().node(1, failed(UNDECLARED.format(1)))
    assert lessons("a", story.graph(), VERSIONS) == []
    story.node(2, failed(UNDECLARED.format(22).replace("17:5", "9:1")))
    (unrepaired,) = lessons("a", story.graph(), VERSIONS)
    assert "Repair" not in note_of(unrepaired).text
    story.node(3, passed(1.2), 1).node(4, passed(1.5), 2, summary="include the header")
    story.node(5, passed(1.1), 1).node(6, failed("error: another"), 2)
    (skill,) = lessons("a", story.graph(), VERSIONS)
    note = note_of(skill)
    assert note.title == "build failed: … error: … was not declared in this scope"
    assert note.symptoms == ("was not declared in this scope",)
    assert note.source[0].startswith("run: a, failure: #1 #2, repaired in #4; cpu:x86_64; cpp;")
    assert "- Repair: include the header" in note.text


def test_failures_on_what_is_held_out_are_not_told() -> None:
    story = Story()
    for number in (1, 2):
        secret = failed("wrong at rows = 77", Status.WRONG, detector=Detector.HELD_OUT)
        story.node(number, secret)
    assert lessons("a", story.graph(), VERSIONS) == []


def test_one_run_teaches_a_handful_of_what_matters_most() -> None:
    story = Story().node(1, passed(2.0)).node(2, passed(3.0), 1, summary=STREAM, checked=3.0)
    names = [name for times, name in enumerate("abcdefg", start=1) for _ in range(times)]
    for number, name in enumerate(names, start=3):
        story.node(number, failed(f"error: {name} is bad"))
    told = [skill.change for skill in lessons("a", story.graph(), VERSIONS)]
    assert told == [STREAM, *(f"build failed: error: {name} is bad" for name in "gfed")]
    assert len(told) == MOST_SKILLS


def test_a_merge_must_beat_the_better_parent() -> None:
    def merged(score: float) -> list[Skill]:
        story = (
            Story()
            .node(1, passed(2.0))
            .node(2, passed(3.0))
            .node(3, passed(score), 1, 2, checked=score)
        )
        return lessons("a", story.graph(), VERSIONS)

    assert merged(3.05) == []
    assert merged(4.0)[0].evidence[0].nodes == (3, 2)


def test_where_the_final_check_measured_both_its_figures_count() -> None:
    story = Story().node(1, passed(1.8), checked=2.0).node(2, passed(3.5), 1, checked=3.0)
    (evidence,) = lessons("a", story.graph(), VERSIONS)[0].evidence
    assert (evidence.before, evidence.after) == (2.0, 3.0)


def test_what_is_slower_within_noise_is_no_loss() -> None:
    def slower(spread: float) -> list[Skill]:
        score = 1.5
        sure = passed(score)
        rows = [
            t.model_copy(update={"low": score / spread, "high": score * spread})
            for t in sure.timings
        ]
        loose = sure.model_copy(update={"timings": tuple(rows)})
        story = Story().node(1, passed(2.0), checked=2.0).node(2, loose, 1)
        return losses("a", story.graph(), VERSIONS)

    assert slower(1.1)
    assert not slower(1.5)


def test_a_second_run_raises_count_and_confidence_under_the_same_name() -> None:
    first = fold({}, gained("a"))
    again = gained("b", "Streamed the outputs past the cache, with non-temporal stores", 4.0)
    both = fold(first, again)
    assert list(both) == list(first)
    (before,), (after,) = first.values(), both.values()
    assert [e.run for e in after.evidence] == ["a", "b"]
    assert after.confidence > before.confidence
    assert "1.73x over its parent in 2 runs" in note_of(after).text


@pytest.mark.parametrize("other", [{"vendor": "amd"}, {"language": "c"}, {"symptom": "cold"}])
def test_elsewhere_the_same_change_is_another_skill(other: dict[str, str]) -> None:
    (skill,) = gained("b")
    (known,) = fold({}, gained("a")).values()
    assert not known.same(skill.model_copy(update=other))
    assert known.same(skill)


def test_failures_add_up_and_keep_the_last_repair_that_was_found() -> None:
    def met(run: str, repaired: bool) -> list[Skill]:
        story = Story().node(1, failed(UNDECLARED)).node(2, failed(UNDECLARED))
        if repaired:
            story.node(3, passed(1.0), 1, summary=f"the header, in {run}")
        return lessons(run, story.graph(), VERSIONS)

    skills: dict[str, Skill] = {}
    for run, repaired in (("a", True), ("b", True), ("c", False)):
        skills = fold(skills, met(run, repaired))
    (skill,) = skills.values()
    assert skill.repair == "the header, in b"
    assert [e.repaired for e in skill.evidence] == [3, 3, None]
    assert skill.confidence == pytest.approx(2 / 3)
    assert "- Met: 6 times in 3 runs" in note_of(skill).text


def test_the_same_run_counts_once() -> None:
    once = fold({}, gained("a"))
    assert fold(once, gained("a")) == once


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ("non-temporal stores stream outputs past the cache", True),
        ("keep rows in registers", False),
        (STREAM.replace("the cache", "cache 2"), False),
    ],
)
def test_changes_are_one_where_their_words_and_numbers_agree(change: str, same: bool) -> None:
    assert gained()[0].same(gained("b", change)[0]) is same


def test_a_loss_elsewhere_refutes_and_is_no_news_by_itself() -> None:
    known = fold({}, gained("a"))
    (skill,) = fold(known, [], lost("b")).values()
    assert skill.refuted
    assert fold({}, [], lost("b")) == {}
    assert lost("b", after=1.95) == []


def test_what_gained_more_often_than_it_lost_is_kept_with_less_confidence() -> None:
    twice = fold(fold({}, gained("a")), gained("b"))
    (skill,) = fold(twice, [], lost("c")).values()
    assert not skill.refuted
    assert skill.confidence < next(iter(twice.values())).confidence
    assert "- Lost: 0.50x in 1 run" in note_of(skill).text


def test_every_skill_passes_lint_and_is_read_back(tmp_path: Path) -> None:
    odd = "`code` [[a/link]] and\n+++ a second line " + "long " * 100
    story = Story().node(1, passed(2.0)).node(2, passed(3.0), 1, summary=odd, checked=3.0)
    for number in (3, 4):
        story.node(number, failed(UNDECLARED.format(number)))
    for skill in [*lessons("a, b; c", story.graph(), VERSIONS), *gained()]:
        note = note_of(skill)
        path = tmp_path / f"{note.ref}.md"
        path.parent.mkdir(exist_ok=True)
        path.write_text(notefile.render(note))
        assert note_of(skill_of(notefile.read(path, note.ref)), note.ref) == note
    found = lint([tmp_path, tmp_path / "skills"], strict=True)
    assert found.notes == 6
    assert [f.message for f in found.findings if "of its sequences" not in f.message] == []


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("output 0 differs\nin row 3", "output … differs"),
        ("/tmp/x/kernel.cpp:3: note\nerror: ‘a’ is “b”, 0x7f", "error: … is “b”, …"),
        ("expected float32, got 3", "expected float32, got …"),
        ("", ""),
    ],
)
def test_messages_of_one_kind_have_one_stem(message: str, said: str) -> None:
    assert stem(message) == said


def test_a_line_that_a_person_wrote_is_no_evidence() -> None:
    assert Evidence.read("run: softmax-1, node #17") is None
