"""A run as it goes on, on standard error: a live view in a terminal, lines elsewhere."""

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import rich.console
from rich.console import Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from kernelevolve.core.candidate import Usage
from kernelevolve.core.evaluation import Evaluation
from kernelevolve.core.events import (
    Admitted,
    Confirmed,
    Evaluated,
    Event,
    Failed,
    Proposed,
    Quarantined,
    RunResumed,
    RunStarted,
    RunStopped,
    Selected,
)
from kernelevolve.core.graph import Graph, Node
from kernelevolve.core.job import Admission
from kernelevolve.core.protocols import Reporter
from kernelevolve.core.target import said_of

log = logging.getLogger(__name__)

COLOURS = {"ok": "green", "duplicate": "dim", "open": "cyan"}


@dataclass(frozen=True)
class Work:
    """What is being done about one open node."""

    number: int
    """The node."""
    doing: str
    """`writing`, `judging` or `confirming`."""
    since: float
    """Start, by the events' clock."""
    about: str
    """Its parents, then what its programmer said it does."""


@dataclass(frozen=True)
class View:
    """What the live view shows; made when an event comes, so that drawing reads no graph."""

    title: str = "preparing: the reference and its baselines are built and timed"
    best: str = "nothing yet"
    path: str = ""
    counts: str = ""
    spent: str = ""
    done: int = 0
    wanted: int | None = None
    started: float = field(default_factory=time.time)
    minutes: float | None = None
    work: tuple[Work, ...] = ()
    now: Callable[[], float] = time.time

    def __rich__(self) -> RenderableType:
        """Draw; called several times a second."""
        elapsed = self.now() - self.started
        facts = Table.grid(padding=(0, 2))
        facts.add_row("[dim]best[/dim]", self.best)
        if self.path:
            facts.add_row("[dim]path[/dim]", self.path)
        if self.wanted:
            bar = _bar(self.done / self.wanted)
            facts.add_row("[dim]nodes[/dim]", f"{bar} {self.done}/{self.wanted}  {self.counts}")
        if self.spent:
            facts.add_row("[dim]models[/dim]", self.spent)
        limit = f" / {_clock(self.minutes * 60)}" if self.minutes else ""
        facts.add_row("[dim]time[/dim]", f"{_clock(elapsed)}{limit}")
        for work in self.work:
            spent = _clock(self.now() - work.since)
            facts.add_row(f"[cyan]#{work.number}[/cyan]", f"{work.doing} {spent}  {work.about}")
        return Group(f"[bold]{self.title}[/bold]", facts)


class Console:
    """Shows a run. Whatever goes wrong here is logged once and never reaches the run."""

    def __init__(self, out: rich.console.Console | None = None) -> None:
        """Args: out: where to draw; by default standard error."""
        self._out = out or rich.console.Console(stderr=True, highlight=False)
        self._live: Live | None = None
        self.silent = False
        """Whether showing failed once; nothing more is shown then."""
        self._since: dict[int, float] = {}

    def __enter__(self) -> Self:
        """Start the live view where there is a terminal."""
        if self._out.is_terminal:
            self._guarded(self._start)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave the terminal as it was."""
        if self._live is not None:
            self._guarded(self._live.stop)
            self._live = None

    def report(self, event: Event, graph: Graph) -> None:
        """Called after each event, with the graph that includes it."""
        if not self.silent:
            self._guarded(lambda: self._report(event, graph))

    def _start(self) -> None:
        self._live = Live(View(), console=self._out, refresh_per_second=4, transient=True)
        self._live.start()

    def _guarded(self, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception:  # noqa: BLE001  an observer must not take the run down
            self.silent = True
            log.warning("the console fell silent; the run goes on", exc_info=True)
            if self._live is not None:
                with suppress(Exception):
                    self._live.stop()
                self._live = None

    def _report(self, event: Event, graph: Graph) -> None:
        if isinstance(event, Selected | Proposed):
            self._since[event.number] = event.at
        line = line_for(event, graph)
        if line:
            self._out.print(line, soft_wrap=True)
        if self._live is not None:
            self._live.update(self._view(graph, event.at))

    def _view(self, graph: Graph, at: float) -> View:
        config, best = graph.config, graph.best
        nodes, minutes = config.get("nodes"), config.get("minutes")
        counts = (f"{count} {status}" for status, count in sorted(graph.by_status().items()))
        return View(
            title=_title(graph),
            best=_best(best) if best else "nothing yet",
            path=_path(graph, best) if best else "",
            counts=", ".join(counts),
            spent=_spent(graph.usage) if graph.usage.tokens else "",
            done=len(graph) - len(graph.open),
            wanted=nodes if isinstance(nodes, int) else None,
            started=at - graph.seconds(at),
            minutes=minutes if isinstance(minutes, int | float) else None,
            work=tuple(self._work(node) for node in graph.open) or _confirming(graph, at),
        )

    def _work(self, node: Node) -> Work:
        parents = " and ".join(f"#{p}" for p in node.move.parents)
        about = f"from {parents} ({node.move.memory})" if parents else f"({node.move.memory})"
        if node.proposal:
            about += f"  [dim]{_short(node.proposal.summary)}[/dim]"
        doing = "judging" if node.proposal else "writing"
        return Work(node.number, doing, self._since.get(node.number, time.time()), about)


def line_for(event: Event, graph: Graph) -> str | None:
    """The line that an event is worth in markup, or None."""
    match event:
        case RunStarted(forecast=forecast):
            return f"[bold]{_title(graph)}[/bold]{_forecast(forecast)}"
        case RunResumed():
            return f"[bold]{_title(graph)}[/bold]"
        case Admitted(admission=admission):
            return _admitted(admission)
        case Evaluated() | Failed():
            return f"{_ended(graph.nodes[event.number])}{_so_far(graph)}"
        case Confirmed():
            return _confirmed(event)
        case Quarantined():
            return f"#{event.number} [red]quarantined[/red]  {_short(event.reason)}"
        case RunStopped():
            return f"stopped by {escape(event.reason)}"
        case _:
            return None


def _forecast(usage: Usage) -> str:
    """What models may cost, where there are any."""
    return f"\nestimate   about {_spent(usage)} to the last node" if usage.tokens else ""


def _spent(usage: Usage) -> str:
    """Tokens and dollars; a price that is not known is not shown as nothing."""
    tokens = f"{usage.tokens / 1e6:.1f} M" if usage.tokens >= 1e5 else f"{usage.tokens / 1e3:.1f} k"
    price = f", ${usage.dollars:.2f}" if usage.dollars else ", price unknown"
    return f"{tokens} tokens{price}"


def _admitted(found: Admission) -> str:
    baselines = (
        f"{escape(workload)}: "
        + ", ".join(said_of(f"{name} {us:,.1f} us", found.fidelity) for name, us in times.items())
        for workload, times in found.baselines_us.items()
    )
    notes = (f"note: {_short(finding.message)}" for finding in found.findings)
    return "\n".join([*notes, "baselines  " + " · ".join(baselines)])


def _confirming(graph: Graph, at: float) -> tuple[Work, ...]:
    """The final check has no event at its start: it follows when no node is open."""
    best = graph.best
    if best is None or graph.stopped_by is not None:
        return ()
    return (Work(best.number, "confirming", at, "and the next best, with new inputs"),)


def _ended(node: Node) -> str:
    colour = COLOURS.get(node.status, "red")
    words = f"#{node.number} [{colour}]{node.status}[/{colour}]"
    if node.same_as is not None:
        return f"{words} of #{node.same_as}"
    if node.score is not None:
        words += f" [bold]{_times(node.score, node.evaluation)}[/bold]"
    said = node.failure or (node.evaluation.message if node.evaluation else "")
    if not said and node.proposal:
        said = node.proposal.summary
    return f"{words}  {_short(said)}" if said else words


def _so_far(graph: Graph) -> str:
    best = graph.best
    if best is None or not best.score:
        return ""
    return f"  [dim](best {_times(best.score, best.evaluation)} #{best.number})[/dim]"


def _times(score: float, found: Evaluation | None) -> str:
    return said_of(f"{score:.2f}x", found.fidelity if found else None)


def _confirmed(event: Confirmed) -> str:
    found = event.evaluation
    if not found.ok or found.score is None:
        return f"#{event.number} [red]not confirmed[/red]: {found.status}  {_short(found.message)}"
    low, high = found.interval or (found.score, found.score)
    return (
        f"#{event.number} [bold green]confirmed {_times(found.score, found)}[/bold green]"
        f" {escape(f'[{low:.2f}, {high:.2f}]')}"
    )


def _title(graph: Graph) -> str:
    task = graph.task.name if graph.task else "a task"
    target = said_of(graph.target.address, graph.target.fidelity) if graph.target else "a target"
    how = [graph.config.get(key) for key in ("language", "programmer", "policy", "run")]
    return escape(" · ".join([f"{task} on {target}", *(str(part) for part in how if part)]))


def _best(node: Node) -> str:
    verdict = node.confirmation if node.confirmed else node.evaluation
    if verdict is None or verdict.score is None:
        return "nothing yet"
    low, high = verdict.interval or (verdict.score, verdict.score)
    over = (
        f"{ratio:.2f}x {name}"
        for name, ratio in (
            ("eager", verdict.geomean("eager")),
            ("compile", verdict.geomean("compile")),
        )
        if ratio is not None
    )
    parts = [
        f"#{node.number} [bold green]{_times(verdict.score, verdict)}[/bold green] "
        + escape(f"[{low:.2f}, {high:.2f}]"),
        ", ".join(over),
    ]
    if verdict.diagnosis and verdict.diagnosis.fraction is not None:
        parts.append(f"{verdict.diagnosis.fraction:.0%} of the roofline")
    parts.append("confirmed" if node.confirmed else "[yellow]not confirmed yet[/yellow]")
    return " · ".join(part for part in parts if part)


def _path(graph: Graph, best: Node) -> str:
    line = [*graph.ancestors(best.number), best]
    steps = [
        f"#{n.number}" + (f" {_times(n.score, n.evaluation)}" if n.score is not None else "")
        for n in line
    ]
    return " → ".join(steps if len(steps) <= 7 else [*steps[:2], "…", *steps[-4:]])


def _short(text: str, width: int = 100) -> str:
    first = (text.strip().splitlines() or [""])[0]
    return escape(first if len(first) <= width else first[: width - 1] + "…")


def _bar(share: float, width: int = 24) -> str:
    full = min(width, int(share * width))
    return f"[green]{'━' * full}[/green][dim]{'━' * (width - full)}[/dim]"


def _clock(seconds: float) -> str:
    whole = max(0, int(seconds))
    return f"{whole // 60}:{whole % 60:02d}"


plugin: type[Reporter] = Console
