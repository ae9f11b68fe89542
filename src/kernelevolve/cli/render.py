"""How runs and nodes look in a terminal, from the objects that `--json` prints."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import PurePath
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.syntax import Syntax
from rich.table import Table
from rich.tree import Tree

from kernelevolve import app
from kernelevolve.core.target import said_of

LEXERS = {".py": "python", ".cpp": "cpp", ".h": "cpp", ".cu": "cuda", ".hip": "cuda"}


def runs(found: Sequence[Mapping[str, Any]]) -> RenderableType:
    """One row per run."""
    if not found:
        return "no runs yet; start one with: kernelevolve optimize FILE.py"
    table = _table("run", "task", "target", "nodes", "best", "speed-up", "state", "started")
    for row in found:
        best = "" if row.get("best") is None else f"#{row['best']}"
        cells = [row.get(k, "") for k in ("run", "task", "target", "nodes")]
        speedup = _times(row.get("speedup"), row.get("fidelity"))
        ended = [best, speedup, row.get("state", ""), _when(row.get("started"))]
        table.add_row(*(escape(str(cell)) for cell in [*cells, *ended]))
    return table


def tree(found: Mapping[str, Any]) -> RenderableType:
    """The search graph: each node below its first parent."""
    root = Tree(f"[bold]{escape(str(found['run']))}[/bold]", guide_style="dim")
    branches: dict[int, Tree] = {}
    for row in found["nodes"]:
        parent = branches.get(row["parents"][0], root) if row["parents"] else root
        branches[row["number"]] = parent.add(_leaf(row, found.get("best")))
    proofs = [_proof(one) for one in found.get("quarantined", ())]
    return Group(root, *proofs) if proofs else root


def node(found: Mapping[str, Any]) -> RenderableType:
    """One node in full."""
    parts: list[RenderableType] = [_leaf(found, None)]
    if proof := found.get("quarantine"):
        parts.append(_proof(proof))
    if said := _asked(found):
        parts += [_heading("models"), said]
    if diagnosis := found.get("diagnosis"):
        parts += [_heading("diagnosis"), escape(str(diagnosis["sentence"]))]
        parts += [f"  [dim]{escape(remark)}[/dim]" for remark in diagnosis.get("remarks", ())]
    if rows := found.get("timings"):
        parts += [_heading("timings"), _timings(rows)]
    proposal = found.get("proposal") or {}
    if plan := proposal.get("plan"):
        parts += [
            _heading("plan"),
            Syntax(plan, "json", word_wrap=True, background_color="default"),
        ]
    for path, text in (found.get("source") or {}).items():
        lexer = LEXERS.get(PurePath(path).suffix, "text")
        parts += [_heading(path), Syntax(text, lexer, background_color="default")]
    if brief := found.get("brief"):
        parts += [_heading("brief"), f"[dim]{len(brief):,} characters; --json prints it[/dim]"]
    return Group(*parts)


def _asked(found: Mapping[str, Any]) -> str:
    """Which models were asked, what that cost, and how the prediction came out."""
    lines = [
        f"{asked['role']} asked {asked['model']}: {asked['tokens']} tokens, ${asked['dollars']:.4f}"
        for asked in found.get("models", ())
    ]
    if (predicted := found.get("predicted")) is not None:
        score = found.get("score")
        measured = "nothing was measured" if score is None else _measured(score, found)
        lines.append(f"predicted {predicted:.2f}x, {measured}")
    return escape("\n".join(lines))


def _measured(score: float, found: Mapping[str, Any]) -> str:
    return f"{found.get('fidelity') or 'measured'} {score:.2f}x"


def replayed(found: Mapping[str, Any]) -> str:
    """Each verdict as it was and as it is now."""
    lines = []
    for row in found["verdicts"]:
        ends = [_ending(row[key]) for key in ("recorded", "replayed")]
        head = f"#{found['node']} {row['stage']}"
        if not row["differences"]:
            lines.append(f"{head}: [green]the same[/green]: {escape(ends[1])}")
            continue
        lines.append(f"{head}: [red]not the same[/red]: {escape(ends[0])}; now {escape(ends[1])}")
        lines += [f"  {escape(difference)}" for difference in row["differences"]]
    return "\n".join(lines)


def _ending(verdict: Mapping[str, Any]) -> str:
    by = f" by {verdict['detector']}" if verdict["detector"] else ""
    said = _first_line(verdict["message"])
    return f"{verdict['status']}{by}{f' ({said})' if said else ''}"


def cleaned(found: app.Cleaned) -> str:
    """What `clean` removes, in words."""
    words = f"{len(found.runs)} runs, {found.builds} builds ({found.bytes / 2**20:,.1f} MiB)"
    if found.busy:
        words += f"; kept, because a live process writes them: {', '.join(found.busy)}"
    return words


def _leaf(row: Mapping[str, Any], best: int | None) -> str:
    colour = {"ok": "green", "open": "cyan", "duplicate": "dim"}.get(row["status"], "red")
    words = [f"#{row['number']}", f"[{colour}]{row['status']}[/{colour}]"]
    if row["score"] is not None:
        words.append(f"[bold]{_times(row['score'], row.get('fidelity'))}[/bold]")
    if row["confirmed"]:
        confirmed = row.get("confirmed_score")
        words.append(f"[green]confirmed {_times(confirmed)}[/green]".replace(" [/", "[/"))
    if row["number"] == best:
        words.append("[bold green]best[/bold green]")
    if len(row["parents"]) > 1:
        words.append("with " + ", ".join(f"#{parent}" for parent in row["parents"][1:]))
    if row["quarantined"]:
        words.append(f"[red]quarantined: {escape(str(row['quarantined']))}[/red]")
    said = row["message"] if row["message"] else row.get("summary", "")
    return " ".join([*words, f"[dim]{escape(_first_line(said))}[/dim]"])


def _proof(found: Mapping[str, Any]) -> str:
    """Why a node is in quarantine, and what went with it."""
    by = found["detector"] or "a person"
    lines = [f"[red]quarantine[/red] #{found['node']} by {by}: {escape(found['reason'])}"]
    if found["evidence"]:
        lines.append(f"  evidence: {escape(_first_line(found['evidence']))}")
    for name, key in (("descendants", "descendants"), ("same source", "same_source")):
        if found[key]:
            lines.append(f"  {name}, no longer counted: {', '.join(f'#{n}' for n in found[key])}")
    return "\n".join(lines)


def _timings(rows: Sequence[Mapping[str, Any]]) -> Table:
    table = _table("workload", "time", "best baseline", "speed-up", "interval", "over", "setup")
    for row in rows:
        low, high = row["interval"]
        over = ", ".join(f"{k} {_times(v)}" for k, v in row["speedup_over"].items())
        table.add_row(
            escape(row["workload"]) + (" (held out)" if row["held_out"] else ""),
            said_of(f"{row['time_us']:,.1f} us", row.get("fidelity")),
            said_of(f"{row['baseline_us']:,.1f} us", row.get("fidelity")),
            _times(row["speedup"]),
            f"{low:.2f} to {high:.2f}",
            over,
            f"{row['setup_us']:,.0f} us",
        )
    return table


def _table(*titles: str) -> Table:
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for title in titles:
        table.add_column(title, overflow="fold")
    return table


def _heading(text: str) -> str:
    return f"\n[bold underline]{escape(text)}[/bold underline]"


def _times(ratio: object, fidelity: str | None = None) -> str:
    return said_of(f"{ratio:.2f}x", fidelity) if isinstance(ratio, int | float) else ""


def _when(at: object) -> str:
    if isinstance(at, int | float):
        return datetime.fromtimestamp(at).strftime("%Y-%m-%d %H:%M")
    return str(at or "")


def _first_line(text: object) -> str:
    return (str(text or "").strip().splitlines() or [""])[0]


def rerun(found: Mapping[str, Any]) -> str:
    """How the replay of a whole run went."""
    counts = ", ".join(f"{count} {what}" for what, count in found["checked"].items())
    head = f"{found['run']}: {found['events']} events, {counts or 'nothing'} asked again"
    if found["same"]:
        return f"[green]{escape(head)}: all as recorded[/green]"
    lines = [*found["differences"], *([f"and {found['more']} more"] if found["more"] else [])]
    return "\n".join([f"[red]{escape(head)}; differences:[/red]", *map(escape, lines)])
