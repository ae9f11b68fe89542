"""`runs`, `show`, `replay`, `best` and `clean`: what the store holds."""

import json
from pathlib import Path
from typing import Annotated, Optional

import typer
from rich.markup import escape

from kernelevolve import app
from kernelevolve.cli import render
from kernelevolve.cli.options import Settings, examples, with_settings
from kernelevolve.cli.reply import DONE, FELL_SHORT, STDERR, Reply, failure, shell
from kernelevolve.core.errors import UsageError

RunName = Annotated[str, typer.Argument(metavar="RUN", help="Name of the run.")]


def register(cli: typer.Typer) -> None:
    """Add this file's commands."""
    cli.command(epilog=examples("kernelevolve runs", "kernelevolve runs --json"))(runs)
    cli.command(
        epilog=examples(
            "kernelevolve show RUN", "kernelevolve show RUN 17", "kernelevolve show RUN best"
        )
    )(show)
    cli.command(
        epilog=examples(
            "kernelevolve replay RUN --check-prompts",
            "kernelevolve replay RUN 17",
            "kernelevolve replay RUN best --json",
        )
    )(replay)
    cli.command(epilog=examples("kernelevolve export-trajectories RUN -o run.jsonl"))(
        export_trajectories
    )
    cli.command(epilog=examples("kernelevolve best RUN -o kernel/ && python kernel/verify.py"))(
        best
    )
    cli.command(
        epilog=examples(
            "kernelevolve clean --dry-run",
            "kernelevolve clean --older-than 7 --yes",
            "kernelevolve clean --all",
        )
    )(clean)


@with_settings("store")
def runs(settings: Settings) -> Reply:
    """List the runs of this store."""
    found = app.runs(settings.store)
    return Reply({"runs": found}, render.runs(found))


@with_settings("store")
def show(
    run: RunName,
    settings: Settings,
    node: Annotated[
        Optional[str],  # noqa: UP045
        typer.Argument(metavar="[NODE]", help="Number of a node, or best.", show_default=False),
    ] = None,
) -> Reply:
    """Show a run as a tree, or one node with its source, diagnosis and timings."""
    store = settings.store
    if node is None:
        found = app.show(run, store)
        return Reply(found, render.tree(found))
    found = app.show_node(run, _number(run, node, store), store)
    return Reply(found, render.node(found))


@with_settings("store")
def replay(
    run: RunName,
    settings: Settings,
    node: Annotated[
        Optional[str],  # noqa: UP045
        typer.Argument(metavar="[NODE]", help="Number of a node, or best.", show_default=False),
    ] = None,
    check_prompts: Annotated[
        bool,
        typer.Option("--check-prompts", help="Also compare every prompt, byte by byte."),
    ] = False,
) -> Reply:
    """Repeat a run from its recording, or judge one of its nodes again.

    A run needs neither model nor device: choices, briefs, prompts and answers of today are
    compared with the recorded ones. A node is judged on the same secret inputs: status, detector
    and errors must agree, times may differ. Exit code 1 where something differs.
    """
    store = settings.store
    if node is None:
        found = app.replay_run(run, store, check_prompts)
        return Reply(found, render.rerun(found), DONE if found["same"] else FELL_SHORT)
    if check_prompts:
        raise UsageError("--check-prompts is for a whole run: leave the node out")
    number = _number(run, node, store)
    with STDERR.status(f"judging #{number} of {run} again"):
        found = app.replay(run, number, store)
    return Reply(found, render.replayed(found), DONE if found["same"] else FELL_SHORT)


@with_settings("store")
def export_trajectories(
    run: RunName,
    settings: Settings,
    output: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("-o", "--output", metavar="FILE", help="By default RUN.jsonl."),
    ] = None,
) -> Reply:
    """Write every exchange with a model, its verdict and its reward as JSONL, for training."""
    file = output or Path(f"{run}.jsonl")
    rows = [json.dumps(line) for line in app.trajectory_lines(run, settings.store)]
    try:
        file.write_text("".join(f"{row}\n" for row in rows))
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}; choose another file with -o") from error
    text = f"wrote {len(rows)} nodes that asked a model to {file}"
    return Reply({"run": run, "file": str(file), "lines": len(rows)}, escape(text))


@with_settings("store")
def best(
    run: RunName,
    folder: Annotated[
        Path,
        typer.Option("-o", "--output", metavar="DIR", help="Folder to write; made if missing."),
    ],
    settings: Settings,
    node: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--node", help="Another node than the best.", show_default=False),
    ] = None,
) -> Reply:
    """Write the best kernel as a PyTorch operator that you can put into production."""
    store = settings.store
    number = _number(run, node, store) if node else None
    if number is None and app.show(run, store)["best"] is None:
        message = f"run {run} has no confirmed kernel; choose a correct one with --node"
        return failure(message, FELL_SHORT)
    files = app.export(run, folder, store, number)
    lines = ["wrote", *(f"  {file}" for file in files)]
    lines += [
        f"check it anywhere with: {shell('python', file)}"
        for file in files
        if file.name == "verify.py"
    ]
    payload = {"run": run, "folder": str(folder), "files": [str(file) for file in files]}
    return Reply(payload, escape("\n".join(lines)))


@with_settings("store")
def clean(
    settings: Settings,
    older_than: Annotated[
        float, typer.Option("--older-than", metavar="DAYS", min=0, help="Only what is older.")
    ] = 30.0,
    everything: Annotated[
        bool, typer.Option("--all", help="Everything, whatever its age.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> Reply:
    """Remove old runs, builds and caches; says what, and asks on a terminal."""
    store = settings.store
    planned = app.clean(store, older_than, everything, True)
    sentence = render.cleaned(planned)
    if dry_run:
        return Reply(planned.model_dump(mode="json"), escape(f"would remove {sentence}"))
    STDERR.print(f"removing {sentence}", markup=False)
    if not (yes or settings.json) and STDERR.is_terminal:
        typer.confirm("go on?", abort=True, err=True)
    removed = app.clean(store, older_than, everything, False)
    text = escape(f"removed {render.cleaned(removed)}")
    return Reply(removed.model_dump(mode="json"), text)


def _number(run: str, text: str, store: str | None) -> int:
    if text == "best":
        found = app.show(run, store)["best"]
        if not isinstance(found, int):
            raise UsageError(f"run {run} has no best node yet; kernelevolve show {run} lists them")
        return found
    if not text.removeprefix("#").isdigit():
        raise UsageError(f"node {text!r}: write a number, for example 17, or best")
    return int(text.removeprefix("#"))
