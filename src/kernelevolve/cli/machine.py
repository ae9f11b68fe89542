"""`doctor`: what this machine can do."""

import typer
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from kernelevolve import app
from kernelevolve.cli.options import Settings, examples, with_settings
from kernelevolve.cli.reply import STDERR, Reply
from kernelevolve.doctor import Doctor


def register(cli: typer.Typer) -> None:
    """Add this file's command."""
    cli.command(epilog=examples("kernelevolve doctor", "kernelevolve doctor --json"))(doctor)


@with_settings("target", "language", "threads", "store")
def doctor(settings: Settings) -> Reply:
    """Look at hardware, toolchains, sandbox and clock, and say what is missing."""
    config = settings.config()
    with STDERR.status("looking at this machine, its compilers, its sandbox and its clock"):
        found = app.doctor(config)
    return Reply(found.model_dump(mode="json"), _render(found))


def _render(found: Doctor) -> RenderableType:
    facts = Table.grid(padding=(0, 2))
    for spec in found.targets:
        if spec.fidelity != "measured":
            facts.add_row("target", f"{spec.address}  not here, {spec.fidelity} (as {spec.name})")
            continue
        cache = f", {spec.last_level_cache >> 20} MiB cache" if spec.last_level_cache else ""
        facts.add_row("target", f"{spec.address}  {spec.name} ({len(spec.cores)} cores{cache})")
    for language in found.languages:
        state = "" if language.possible else "[red]not here[/red] "
        facts.add_row("language", f"{language.name}  {state}{escape(language.toolchain)}")
    facts.add_row("sandbox", escape(found.sandbox.sentence))
    facts.add_row("clock", escape(found.clock.sentence if found.clock else "not tested"))
    findings = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for title in ("", "what", "what to do"):
        findings.add_column(title, overflow="fold")
    for finding in found.findings:
        mark = "[green]ok[/green]" if finding.possible else "[red]no[/red]"
        findings.add_row(mark, escape(finding.what), f"[cyan]{escape(finding.install)}[/cyan]")
    return Group(facts, "", findings)
