"""Skills: changes that gained and failures that came back, as notes that fold their own sources.

Every line of a skill's `source` is what one run measured; count, mean and confidence are computed
from those lines, so that notes merge by merging lines.
"""

import re
from collections.abc import Iterable, Mapping
from math import exp, log
from statistics import mean
from typing import Literal, Self

from kernelevolve.core.note import Note
from kernelevolve.core.record import Record, digest

ALIKE = 0.6
"""Share of common words beyond which two descriptions mean the same change."""
MOST_EVIDENCE = 20
"""Lines of provenance that a skill keeps, the latest."""
MOST_OPERATORS = 12
MOST_CHANGE = 300
"""Characters of a change or a repair."""
MOST_TITLE = 90

WORD = re.compile(r"[a-z]+|\d+")
ENDING = re.compile(r"(?<=\w{3})(?:ing|ed|es|s|e|er)$")
_ARTICLES = (
    "a an and are as at be because by for from in instead into is it its of on or so than that the"
    " then this to use used which while with"
)
LITTLE = frozenset(_ARTICLES.split())
"""Words that say nothing of what was changed."""


class Evidence(Record):
    """What one run has to say: one line of provenance."""

    kind: Literal["gain", "loss", "failure"]
    """A change that measured faster or slower than its parent, or a failure that came back."""
    run: str
    """Its name."""
    nodes: tuple[int, ...]
    """The node and its parent; of a failure all that failed alike."""
    repaired: int | None = None
    """The node that repaired a failure."""
    before: float = 1.0
    """Score of the parent."""
    after: float = 1.0
    """Score of the node, measured in the same way on the same device."""
    low: float = 1.0
    """Lower end of the 95 % interval of their ratio."""
    high: float = 1.0
    """Upper end of it."""
    where: str
    """Device, language and versions."""
    day: str
    """When the run began, as 2026-11-23."""

    @property
    def ratio(self) -> float:
        """How much faster."""
        return self.after / self.before

    @property
    def weight(self) -> float:
        """From 0 to 1: effect against effect and uncertainty, or how often a failure came back."""
        if self.kind == "failure":
            return len(self.nodes) / (len(self.nodes) + 1)
        effect, uncertainty = abs(log(self.ratio)), log(self.high / self.low) / 2
        return effect / (effect + uncertainty)

    def line(self) -> str:
        """As a source of a note."""
        if self.kind == "failure":
            nodes = " ".join(f"#{n}" for n in self.nodes)
            told = f"{nodes}, repaired in #{self.repaired or 0}"
        else:
            told = (
                f"#{self.nodes[0]} over #{self.nodes[1]}, score {self.before:.4g} to "
                f"{self.after:.4g}, {self.ratio:.4g}x [{self.low:.4g}, {self.high:.4g}]"
            )
        return f"run: {self.run}, {self.kind}: {told}; {self.where}; {self.day}"

    @classmethod
    def read(cls, line: str) -> Self | None:
        """What a line of provenance says; None of one that was not written here."""
        found = MEASURED.match(line) or FAILED.match(line)
        if found is None:
            return None
        given = {k: v for k, v in found.groupdict().items() if v is not None}
        nodes = tuple(int(n) for n in re.findall(r"\d+", given.pop("nodes")))
        repaired = int(given.pop("repaired", 0)) or None
        return cls.model_validate({**given, "nodes": nodes, "repaired": repaired})


_ENDS = r"; (?P<where>.*); (?P<day>\d{4}-\d\d-\d\d)$"
MEASURED = re.compile(
    r"run: (?P<run>.+), (?P<kind>gain|loss): (?P<nodes>#\d+ over #\d+), "
    r"score (?P<before>\S+) to (?P<after>\S+), \S+x \[(?P<low>\S+), (?P<high>\S+)\]" + _ENDS
)
FAILED = re.compile(
    r"run: (?P<run>.+), (?P<kind>failure): (?P<nodes>#[\d #]+), repaired in #(?P<repaired>\d+)"
    + _ENDS
)


class Skill(Record):
    """A change under one symptom, or a failure, with all that runs measured of it."""

    change: str
    """What was done, in its programmer's words; of a failure its status and message."""
    symptom: str
    """Of the parent's diagnosis, or of the failure's message, a phrase that is searched for."""
    vendor: str
    """Of the devices."""
    language: str
    """What the kernels were written in."""
    operators: tuple[str, ...] = ()
    """What the tasks compute."""
    repair: str = ""
    """What finally repaired a failure, in its programmer's words."""
    evidence: tuple[Evidence, ...]
    """One line for a run and kind; oldest first."""

    @property
    def is_failure(self) -> bool:
        """Whether it warns rather than advises."""
        return self.evidence[0].kind == "failure"

    @property
    def confidence(self) -> float:
        """From 0 to 1: rises with every run and with narrow intervals, falls with losses."""
        for_it = sum(e.weight for e in self.evidence if e.kind != "loss")
        against = sum(e.weight for e in self.evidence if e.kind == "loss")
        return for_it / (1.0 + for_it + against)

    @property
    def refuted(self) -> bool:
        """Whether runs measured it as a loss no less often than as a gain."""
        kinds = [e.kind for e in self.evidence]
        return not self.is_failure and kinds.count("loss") >= kinds.count("gain")

    @property
    def ref(self) -> str:
        """Name of its note, while it has none."""
        key = digest(*sorted(_stems(self.change)), self.symptom, self.vendor, self.language)
        told = [w for w in WORD.findall(self.change.lower()) if w not in LITTLE]
        return f"skills/{'-'.join([*(w[:12] for w in told[:5]), key[:8]])}"

    def same(self, other: "Skill") -> bool:
        """Whether both are of one kind of change, symptom, vendor and language.

        Numbers in the words must agree: 4 in place of 8 is another change.
        """
        alike = ("is_failure", "symptom", "vendor", "language")
        if any(getattr(self, name) != getattr(other, name) for name in alike):
            return False
        mine, theirs = _stems(self.change), _stems(other.change)
        numbers = [{w for w in words if w.isdigit()} for words in (mine, theirs)]
        shared = len(mine & theirs) / max(1, len(mine | theirs))
        return numbers[0] == numbers[1] and shared >= ALIKE

    def merged(self, later: "Skill") -> "Skill":
        """With what a later run measured; what that run said before is replaced."""
        said = {(e.run, e.kind): e for e in (*self.evidence, *later.evidence)}
        names = dict.fromkeys((*self.operators, *later.operators))
        return self.model_copy(
            update={
                "operators": tuple(names)[:MOST_OPERATORS],
                "repair": later.repair or self.repair,
                "evidence": tuple(said.values())[-MOST_EVIDENCE:],
            }
        )


def folded(
    known: Mapping[str, Skill], lessons: Iterable[Skill], losses: Iterable[Skill]
) -> dict[str, Skill]:
    """The skills that a run adds to or changes, by the names of their notes.

    Args:
        known: all that there are.
        lessons: of the run; what is new becomes a skill of its own.
        losses: of the run; they count where the change is known, and are no news elsewhere.
    """
    skills, changed = dict(known), dict[str, Skill]()
    for lesson in (*lessons, *losses):
        ref = next((name for name, skill in skills.items() if skill.same(lesson)), None)
        if ref is None and lesson.evidence[0].kind == "loss":
            continue
        merged = lesson if ref is None else skills[ref].merged(lesson)
        changed[ref or lesson.ref] = skills[ref or lesson.ref] = merged
    return changed


def note_of(skill: Skill, ref: str = "") -> Note:
    """A skill as a note; its name is kept where it has one."""
    lines = _failure(skill) if skill.is_failure else _gain(skill)
    facts = {"On": ", ".join(skill.operators), **lines, "Confidence": f"{skill.confidence:.2f}"}
    return Note(
        ref=ref or skill.ref,
        title=_short(_title(skill), MOST_TITLE),
        kind="skill",
        targets=(skill.vendor,),
        languages=(skill.language,),
        symptoms=(skill.symptom,),
        source=tuple(e.line() for e in skill.evidence),
        text="\n".join(f"- {name}: {text}" for name, text in facts.items() if text),
    )


def skill_of(note: Note) -> Skill | None:
    """What `note_of` was given; None of a note that was written otherwise."""
    evidence = [e for line in note.source if (e := Evidence.read(line))]
    facts = dict(re.findall(r"^- (\w+): (.*)$", note.text, re.MULTILINE))
    change = facts.get("Change") or facts.get("Failure")
    if not (evidence and change and note.targets and note.languages and note.symptoms):
        return None
    return Skill(
        change=change,
        symptom=note.symptoms[0],
        vendor=note.targets[0],
        language=note.languages[0],
        operators=tuple(facts["On"].split(", ")) if "On" in facts else (),
        repair=facts.get("Repair", ""),
        evidence=tuple(evidence),
    )


def plain(text: str, most: int = MOST_CHANGE) -> str:
    """One line of a model's or a compiler's words, without what Markdown or links would read."""
    flat = " ".join(re.sub(r"[`\x00-\x1f\x7f]", " ", text).split())
    return _short(flat.replace("[[", "[ [").replace("]]", "] ]"), most)


def _gain(skill: Skill) -> dict[str, str]:
    gains = [e for e in skill.evidence if e.kind == "gain"]
    losses = [e for e in skill.evidence if e.kind == "loss"]
    came = f"{_mean(gains):.2f}x over its parent in {_runs(gains)}" if gains else ""
    lost = f"{_mean(losses):.2f}x in {_runs(losses)}" if losses else ""
    return {"When": skill.symptom, "Change": skill.change, "Gained": came, "Lost": lost}


def _failure(skill: Skill) -> dict[str, str]:
    times = sum(len(e.nodes) for e in skill.evidence)
    return {
        "Failure": skill.change,
        "Met": f"{times} times in {_runs(skill.evidence)}",
        "Repair": skill.repair,
    }


def _title(skill: Skill) -> str:
    if skill.is_failure:
        return skill.change
    ratio = _mean([e for e in skill.evidence if e.kind == "gain"])
    on = "/".join(skill.operators[:2]) or "a task"
    return f"{ratio:.2f}x on {on}: {skill.change}"


def _mean(evidence: Iterable[Evidence]) -> float:
    return exp(mean(log(e.ratio) for e in evidence))


def _runs(evidence: Iterable[Evidence]) -> str:
    count = len({e.run for e in evidence})
    return f"{count} run{'s' if count > 1 else ''}"


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1].rstrip()}…"


def _stems(text: str) -> frozenset[str]:
    words = (word for word in WORD.findall(text.lower()) if word not in LITTLE)
    return frozenset(ENDING.sub("", word) for word in words)
