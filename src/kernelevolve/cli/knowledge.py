"""`knowledge`: search, read, add, retire and lint notes."""

from pathlib import Path
from typing import Annotated, Optional

import typer
from rich.markup import escape

from kernelevolve import app
from kernelevolve.cli.options import Settings, examples, with_settings
from kernelevolve.cli.reply import DONE, FELL_SHORT, Reply
from kernelevolve.core.note import Note
from kernelevolve.knowledge.lint import Linted


def register(cli: typer.Typer) -> None:
    """Add this file's commands, as a group."""
    group = typer.Typer(
        no_args_is_help=True,
        rich_markup_mode="rich",
        help="Notes on hardware, languages and technique: search, read, add, retire, lint.",
        epilog=examples('kernelevolve knowledge search "bank conflicts" --target nvidia'),
    )
    group.command(
        epilog=examples(
            'kernelevolve knowledge search "uncoalesced global loads" --target nvidia:sm_90',
            "kernelevolve knowledge search 'error: out of resource: shared memory' "
            "--language triton --limit 3",
        )
    )(search)
    group.command(
        epilog=examples(
            "kernelevolve knowledge show",
            "kernelevolve knowledge show hardware/nvidia/shared-memory-banks",
        )
    )(show)
    group.command(
        epilog=examples(
            "kernelevolve knowledge add our-gpu-queue.md",
            "kernelevolve knowledge add our-gpu-queue.md --to notes/",
        )
    )(add)
    group.command(
        epilog=examples(
            "kernelevolve knowledge lint --strict", "kernelevolve knowledge lint notes/ --json"
        )
    )(lint)
    group.command(
        epilog=examples('kernelevolve knowledge retire skills/NAME --why "it was a lucky run"')
    )(retire)
    cli.add_typer(group, name="knowledge")


@with_settings("knowledge", "store")
def search(
    query: Annotated[
        str, typer.Argument(metavar="QUERY", help="Any text: a diagnosis, a compiler's message.")
    ],
    settings: Settings,
    target: Annotated[
        str, typer.Option("--target", help="Leave out what is about other devices.")
    ] = "",
    language: Annotated[
        str, typer.Option("--language", help="Leave out what is about other languages.")
    ] = "",
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many notes.")] = 5,
) -> Reply:
    """Find the notes that fit a text best. Exit code 1 where none does."""
    found = app.find_notes(query, settings.config(), limit, target, language)
    payload = {"query": query, "notes": [note.model_dump(mode="json") for note in found]}
    text = "\n".join(f"[bold]{escape(n.ref)}[/bold]  {escape(n.title)}" for n in found)
    return Reply(payload, text or "no note fits", DONE if found else FELL_SHORT)


@with_settings("knowledge", "store")
def show(
    settings: Settings,
    ref: Annotated[
        Optional[str],  # noqa: UP045
        typer.Argument(metavar="[REF]", help="A note; without one, all are listed."),
    ] = None,
) -> Reply:
    """Show one note, or the tree of all."""
    if ref is None:
        tree = app.note_index(settings.config())
        return Reply({"index": tree.splitlines()}, escape(tree))
    note = app.show_note(ref, settings.config())
    return Reply(note.model_dump(mode="json"), _render(note))


@with_settings("store")
def add(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The note: TOML and Markdown.")],
    settings: Settings,
    to: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--to", metavar="DIR", help="Folder of notes; by default that of the store."),
    ] = None,
) -> Reply:
    """Check a note and copy it to where notes of its kind are kept."""
    place = app.add_note(file, to, settings.config())
    return Reply({"file": str(place)}, escape(f"wrote {place}"))


@with_settings("knowledge", "store")
def retire(
    ref: Annotated[str, typer.Argument(metavar="REF", help="The note.")],
    settings: Settings,
    why: Annotated[str, typer.Option("--why", help="What is wrong with it.")],
) -> Reply:
    """Have a note found no more in this store; what it says turned out wrong."""
    app.retire_note(ref, why, settings.config())
    return Reply({"retired": ref, "why": why}, escape(f"retired {ref}"))


@with_settings()
def lint(
    settings: Settings,
    folders: Annotated[
        Optional[list[Path]],  # noqa: UP045
        typer.Argument(metavar="[DIR]...", help="Folders; by default the packaged notes."),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Also length, likeness and missing symptoms.")
    ] = False,
) -> Reply:
    """Say what is wrong with notes. Exit code 1 where something is."""
    found = app.lint_notes(folders or (), strict)
    code = FELL_SHORT if found.findings else DONE
    return Reply(found.model_dump(mode="json"), _report(found), code)


def _render(note: Note) -> str:
    facts = {
        "for": ", ".join((*note.targets, *note.languages)) or "any target and language",
        "symptoms": "; ".join(note.symptoms),
        "source": "; ".join(note.source),
        "test": note.test,
    }
    lines = [f"[bold]{escape(note.title)}[/bold]", f"{escape(note.ref)} ({note.kind})"]
    lines += [f"{name}: {escape(value)}" for name, value in facts.items() if value]
    return "\n".join([*lines, "", escape(note.text)])


def _report(found: Linted) -> str:
    lines = [
        f"{escape(f.file)}:{f.line}: {escape(f.message)}; [cyan]{escape(f.fix)}[/cyan]"
        for f in found.findings
    ]
    lines += [f"[yellow]not checked[/yellow]  {escape(reason)}" for reason in found.unchecked]
    return "\n".join([*lines, f"{found.notes} notes, {len(found.findings)} findings"])
