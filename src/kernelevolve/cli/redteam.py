"""`redteam`: does this machine's harness catch what it must, and nothing else."""

from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Optional

import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from kernelevolve import app
from kernelevolve.cli.options import Settings, examples, with_settings
from kernelevolve.cli.reply import DONE, FELL_SHORT, STDERR, Reply
from kernelevolve.core.target import Address
from kernelevolve.testing.redteam import suite
from kernelevolve.testing.redteam.record import Exploit, Limit
from kernelevolve.testing.redteam.suite import Case, Kind, Outcome, Scoreboard

KINDS: tuple[Kind, ...] = ("exploit", "twin", "ablated", "honest", "limit")
HEADS = ("exploits caught", "twins ok", "score when ablated", "honest ok", "known to pass")


def register(cli: typer.Typer) -> None:
    """Add this file's command."""
    cli.command(
        epilog=examples(
            "kernelevolve redteam",
            "kernelevolve redteam --class B --ablate",
            "kernelevolve redteam --limits --class C",
            "kernelevolve redteam --name lazy-tuple --json",
            "kernelevolve redteam --target nvidia --language cuda --own",
        )
    )(redteam)


@with_settings("target", "language", "threads", "store")
def redteam(
    settings: Settings,
    classes: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--class", metavar="ROW", help="A class or row: B or B2. May be repeated."),
    ] = None,
    name: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--name", help="One fixture by its name. May be repeated."),
    ] = None,
    ablate: Annotated[
        bool,
        typer.Option("--ablate", help="Also judge each exploit with its detectors switched off."),
    ] = False,
    limits: Annotated[
        bool,
        typer.Option("--limits", help="Also judge what is known to get past, and say if it does."),
    ] = False,
    own: Annotated[
        bool,
        typer.Option("--own", help="Leave out what can be judged on any target."),
    ] = False,
) -> Reply:
    """Judge the suite of exploits, their defused twins and honest kernels on this machine."""
    config = app.with_language(settings.config())
    wanted = suite.cases(
        classes=classes or (),
        names=name or (),
        ablate=ablate,
        beyond=limits,
        own=own,
        vendor=Address.parse(config.target).vendor,
        language=config.language,
    )
    progress = Progress(wanted)
    with Live(console=STDERR, get_renderable=progress.render, refresh_per_second=4):
        found = app.redteam(config, wanted, progress.observe)
    return Reply(found.dump(), _render(found), DONE if found.clean else FELL_SHORT)


class Progress:
    """The scoreboard while it fills."""

    def __init__(self, cases: Sequence[Case]) -> None:
        self.wanted = Counter((_letter(case), case.kind) for case in cases)
        self.passed: Counter[tuple[str, Kind]] = Counter()
        self.failed: list[Outcome] = []

    def observe(self, outcome: Outcome) -> None:
        """One verdict; where nobody sees the table, a line."""
        if not STDERR.is_terminal:
            STDERR.print(_verdict(outcome), highlight=False, soft_wrap=True)
        if outcome.passed:
            self.passed[_letter(outcome.case), outcome.case.kind] += 1
        else:
            self.failed.append(outcome)

    def render(self) -> RenderableType:
        """One row per class, and the failures."""
        table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
        table.add_column("class")
        for head in HEADS:
            table.add_column(head, justify="right")
        for letter in sorted({letter for letter, _ in self.wanted}):
            table.add_row(letter, *(self._share(letter, kind) for kind in KINDS))
        return Group(table, *map(_failure, self.failed[-12:]))

    def _share(self, letter: str, kind: Kind) -> str:
        wanted = self.wanted[letter, kind]
        return f"{self.passed[letter, kind]} / {wanted}" if wanted else ""


def _letter(case: Case) -> str:
    return case.fixture.row[0] if isinstance(case.fixture, Exploit | Limit) else "honest"


def _failure(outcome: Outcome) -> str:
    return f"[red]{outcome.case.kind}[/red] {_said(outcome)}"


def _verdict(outcome: Outcome) -> str:
    passed = "ok  " if outcome.passed else "FAIL"
    return f"{passed} {outcome.case.kind} {_said(outcome)}"


def _said(outcome: Outcome) -> str:
    case, found = outcome.case, outcome.found
    verdict = "scored OK" if found.ok else f"{found.status} by {found.detector or 'nobody'}"
    scored = "" if found.score is None else f" ({found.score:.3g})"
    first = found.message.strip().partition("\n")[0][:160]
    return f"{escape(case.fixture.name)}: {verdict}{scored}: {escape(first)}"


def _render(found: Scoreboard) -> RenderableType:
    parts = [
        f"{len(found.of('exploit'))} exploits: {len(found.false_negatives)} false negatives, "
        f"{len(found.caught_elsewhere)} caught for another reason",
        f"{len(found.of('honest'))} honest kernels and {len(found.of('twin'))} defused twins: "
        f"{len(found.false_positives)} false positives",
    ]
    if found.of("ablated"):
        parts.append(
            f"{len(found.of('ablated'))} exploits without their detectors: "
            f"{len(found.not_ablated)} still did not score"
        )
    if limits := found.of("limit"):
        parts.append(
            f"{len(limits)} kernels that are known to get past: "
            f"{len(found.limits_overcome)} are caught now"
        )
    failed = [o for o in found.outcomes if not o.passed]
    return Group(*parts, *map(_failure, failed))
