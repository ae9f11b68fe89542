"""Composes the prompt for the moment from sections, within a budget of tokens.

There is one operator: no templates for drafts, repairs or improvements. What a prompt holds follows
from what there is: parents, verdicts, notes, hints. The least useful section goes first where room
is short.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import jinja2

from kernelevolve.core.candidate import Attempt, Brief
from kernelevolve.core.evaluation import Evaluation
from kernelevolve.core.note import Note
from kernelevolve.core.target import Bandwidth
from kernelevolve.programmers.llm.memory import Reading

CHARACTERS_PER_TOKEN = 3.4
"""Of code and English in today's tokenizers; providers' own counts are what is charged."""
TRIES = 8
"""Kernels that a workbench runs for one answer."""
CALLS = 16
"""Tool calls that are answered for one answer."""
MOST_TRIED = 20
"""Of the run's earlier ideas, one line each."""
MOST_MESSAGE = 4000
"""Characters of a compiler's or the harness's message; head and tail are shown."""


@dataclass(frozen=True)
class Section:
    """A part of the prompt."""

    name: str
    text: str
    worth: int
    """What has the least goes first; from 100 on, nothing goes."""
    shorter: str = ""
    """Takes its place before it goes altogether."""


@dataclass(frozen=True)
class Prompt:
    """What the programmer role is told."""

    instructions: str
    text: str
    left_out: tuple[str, ...] = ()
    """Names of sections that found no room, or only in short."""

    @property
    def tokens(self) -> int:
        """About how many."""
        return tokens(self.instructions) + tokens(self.text)


def tokens(text: str) -> int:
    """About how many tokens a text has."""
    return int(len(text) / CHARACTERS_PER_TOKEN) + 1


def compose(
    brief: Brief, reading: Reading, notes: Sequence[Note], room: int, tools: bool
) -> Prompt:
    """The prompt for one brief.

    Args:
        brief: what the search tells.
        reading: the diagnosis with its directive.
        notes: what the knowledge base holds for that, most useful first.
        room: tokens that the prompt may have.
        tools: whether the workbench is offered.
    """
    instructions = render("instructions", brief=brief, tools=tools, tries=TRIES, calls=CALLS)
    sections, left_out = list(_sections(brief, reading, notes)), []
    room -= tokens(instructions)
    while sum(tokens(s.text) for s in sections) > room:
        least = min(sections, key=lambda s: s.worth)
        if least.worth >= 100:
            break
        at = sections.index(least)
        left_out.append(least.name)
        sections[at : at + 1] = (
            [Section(least.name, least.shorter, least.worth + 1)] if least.shorter else []
        )
    text = "\n\n".join(s.text.strip() for s in sections)
    return Prompt(instructions.strip(), text, tuple(dict.fromkeys(left_out)))


def _sections(brief: Brief, reading: Reading, notes: Sequence[Note]) -> Iterator[Section]:
    """In the order in which they are read: what stays the same for a run comes first (caches)."""
    yield Section("task", render("task", task=brief.task), 100)
    yield Section("target", _target(brief), 100)
    if brief.guide:
        worth = 60 if brief.parents else 90
        yield Section("language guide", render("guide", guide=brief.guide), worth)
    for place, note in enumerate(notes):
        yield Section(f"note {note.ref}", render("note", note=note), 55 - 2 * place)
    for one in brief.recalled:
        text, short = (render("recalled", recalled=one, source=s) for s in (True, False))
        yield Section(f"recalled #{one.node} of {one.run}", text, 65, short)
    if not brief.history and brief.tried:
        latest = brief.tried[-MOST_TRIED:]
        yield Section("tried", render("tried", tried=latest), 50)
    tried = [a for a in brief.history if a.evaluation]
    if tried:
        yield Section("history", render("history", attempts=tried), 50)
    for attempt in _worth_reading(tried):
        text = render("source", attempt=attempt, files=_beside(attempt, brief.parents))
        yield Section(f"source of #{attempt.number}", text, 30)
    for place, parent in enumerate(brief.parents):
        text = render("current", attempt=parent, first=place == 0, merged=len(brief.parents) > 1)
        shorter = "" if place == 0 else render("history", attempts=[parent])
        yield Section(f"parent #{parent.number}", text, 95 if place == 0 else 70, shorter)
    predictions = [a for a in (*tried, *brief.parents) if a.predicted and a.evaluation.score]
    if predictions:
        yield Section("predictions", render("predictions", attempts=predictions), 40)
    yield Section("reading", render("reading", reading=reading, measured=bool(brief.parents)), 96)
    if brief.hints:
        yield Section("hints", render("hints", hints=brief.hints), 98)
    yield Section("request", render("request", brief=brief), 100)


def _target(brief: Brief) -> str:
    return render(
        "target",
        spec=brief.target,
        language=brief.language,
        levels=_levels(brief.target.peaks.bandwidth),
        baselines=brief.baselines_us,
        floors=brief.floor_us,
    )


def _levels(rows: Sequence[Bandwidth]) -> list[Bandwidth]:
    """Of neighbouring rows with about the same bandwidth, the largest: one per level of memory."""
    kept: list[Bandwidth] = []
    for row in rows:
        if kept and row.bytes_per_second > 0.75 * kept[-1].bytes_per_second:
            kept.pop()
        kept.append(row)
    return kept


def _worth_reading(tried: Sequence[Attempt]) -> list[Attempt]:
    """The fastest two of the history: their sources are ideas to take from."""
    scored = [a for a in tried if a.evaluation.score]
    return sorted(scored, key=lambda a: -(a.evaluation.score or 0.0))[:2]


def _beside(attempt: Attempt, parents: Sequence[Attempt]) -> list[tuple[str, str]]:
    """An attempt's files, as differences from the current kernel where that is shorter."""
    current = {f.path: f.text for f in parents[0].files} if parents else {}
    shown = []
    for file in attempt.files:
        before, now = current.get(file.path, "").splitlines(), file.text.splitlines()
        lines = list(difflib.unified_diff(before, now, n=2, lineterm=""))[2:]
        difference = "\n".join(lines)
        if file.path in current and len(difference) < len(file.text):
            shown.append((f"{file.path}, how it differs from the current kernel", difference))
        else:
            shown.append((file.path, file.text))
    return [(name, text) for name, text in shown if text]


def render(name: str, **values: object) -> str:
    """A template of this programmer; a name that is not given is an error."""
    return _environment().get_template(f"{name}.md.jinja").render(values)


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("kernelevolve.programmers.llm", "prompts"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # noqa: S701 - the output is a prompt, not a page
    )
    environment.filters |= {"fenced": fenced, "clipped": clipped, "verdict": verdict, "si": si}
    return environment


def fenced(text: str, tag: str = "") -> str:
    """A block that no run of backticks inside can close."""
    longest = max((len(m) for m in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{tag}\n{text.rstrip()}\n{fence}"


def clipped(text: str, most: int = MOST_MESSAGE) -> str:
    """Head and tail of a text that is too long."""
    if len(text) <= most:
        return text
    half = most // 2
    return f"{text[:half]}\n[... {len(text) - most} characters ...]\n{text[-half:]}"


def verdict(evaluation: Evaluation) -> str:
    """One line on how an attempt ended."""
    if evaluation.ok:
        low, high = evaluation.interval or (0.0, 0.0)
        score = f"{evaluation.score:.2f}x" if evaluation.score else "correct, not timed"
        score += f" (between {low:.2f}x and {high:.2f}x)" if high > 1.2 * low > 0 else ""
        limit = f"; {evaluation.diagnosis.sentence}" if evaluation.diagnosis else ""
        return f"{score}{limit}"
    first = evaluation.message.strip().splitlines() or [""]
    return f"{str(evaluation.status).replace('_', ' ')}: {first[0][:240]}"


def si(value: float, unit: str = "") -> str:
    """A number with its SI prefix, three digits."""
    for factor, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:.3g} {prefix}{unit}"
    return f"{value:.3g} {unit}".rstrip()
