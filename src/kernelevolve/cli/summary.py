"""What a person reads when a search has ended. Claims only what was confirmed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.markup import escape

from kernelevolve.cli.reply import shell
from kernelevolve.config import RunConfig
from kernelevolve.core.target import said_of

SEARCHED = (
    "target",
    "language",
    "programmer",
    "model",
    "helper_model",
    "base_url",
    "policy",
    "threads",
    "nodes",
    "minutes",
    "goal",
)


@dataclass(frozen=True)
class Asked:
    """What the person asked for, to say how to ask again."""

    config: RunConfig
    """The run's configuration."""
    file: Path | None = None
    """The task file; None for a resumed run."""


def summary(found: Mapping[str, Any], asked: Asked) -> str:
    """The end of `optimize` and `resume`, from the object that `--json` prints."""
    best = found["best"]
    lines = _kernel(found, best) if best else _nothing(found)
    rows = [*(_facts(best, found["fidelity"]) if best else ()), *_commands(found, best, asked)]
    width = max((len(name) for name, _ in rows), default=0)
    lines += [f"  [dim]{name:<{width}}[/dim]  {escape(text)}" for name, text in rows]
    return "\n".join([*lines, f"  [dim]{escape(_effort(found))}[/dim]"])


def _kernel(found: Mapping[str, Any], best: Mapping[str, Any]) -> list[str]:
    low, high = best["interval"] or (best["speedup"], best["speedup"])
    figure = said_of(f"{best['speedup']:.2f}x [{low:.2f}, {high:.2f}]", found["fidelity"])
    where = f"{found['task']} on {found['target']}"
    if not best["confirmed"]:
        return [
            f"[yellow]{escape(where)}: #{best['node']} reached {figure}, not confirmed[/yellow]"
        ]
    if low > 1 and found["fidelity"] == "simulated":
        return [
            f"[bold yellow]{escape(where)}: {figure} over the reference's operators, confirmed; "
            "no chip has measured it[/bold yellow]"
        ]
    if low > 1:
        return [
            f"[bold green]{escape(where)}: {figure} over the best baseline, confirmed[/bold green]"
        ]
    return [
        f"[yellow]{escape(where)}: no kernel was confirmed faster than the best baseline "
        f"({_names(best['speedup_over'])}); the best correct one reaches {figure}[/yellow]"
    ]


def _nothing(found: Mapping[str, Any]) -> list[str]:
    where = escape(f"{found['task']} on {found['target']}")
    nodes = found["nodes"]
    if nodes["ok"]:
        return [
            f"[yellow]{where}: no kernel was confirmed faster than eager and torch.compile; "
            f"{nodes['ok']} of {nodes['total']} attempts were correct[/yellow]"
        ]
    if not nodes["total"] and found["stopped_by"] == "minutes":
        said = "no attempt: preparing the task took all of --minutes; give it more"
        return [f"[red]{where}: {said}[/red]"]
    return [f"[red]{where}: no correct kernel in {nodes['total']} attempts[/red]"]


def _facts(best: Mapping[str, Any], fidelity: str | None) -> list[tuple[str, str]]:
    ratios = {_called(n): r for n, r in best["speedup_over"].items() if r}
    over = ", ".join(f"{said_of(f'{r:.2f}x', fidelity)} {name}" for name, r in ratios.items())
    time = said_of(f"{best['time_us']:.1f} us", fidelity) + " a call; the best baseline takes "
    time += said_of(f"{best['baseline_us']:.1f} us", fidelity)
    rows = [("over", over), ("time", time)]
    if (fraction := best["roofline_fraction"]) is not None:
        reach = (
            "the simulated chip can" if fidelity == "simulated" else "this device was measured to"
        )
        rows.append(("roofline", f"{fraction:.0%} of what {reach} reach"))
    if best.get("algebraic"):
        rows.append(("gain", "rests on an algebraic rewrite, which plain PyTorch could use too"))
    else:
        rows.append(("gain", "not algebraic: the same operations, done faster"))
    if best.get("fallback"):
        rows.append(("kernel", "none was written: the whole task is left to library calls"))
    if best.get("summary"):
        rows.append(("what", str(best["summary"])))
    rows += [("file", str(path)) for path in _model_first(best["files"])]
    return rows


def _commands(
    found: Mapping[str, Any], best: Mapping[str, Any] | None, asked: Asked
) -> list[tuple[str, str]]:
    run, config = found["run"], asked.config
    place = ("--store", config.store) if config.store else ()
    rows = []
    if asked.file and best and best["files"]:
        model = _model_first(best["files"])[0]
        judged = flags(config, ("target", "language", "threads", "baseline", "inputs"))
        again = shell("kernelevolve", "evaluate", asked.file, model, *judged, "--stage", "confirm")
        rows.append(("measure again", again))
    if asked.file:
        how = flags(config, (*SEARCHED, "baseline", "eager_only", "inputs"))
        seed = ("--seed", str(config.seed))
        rows.append(("reproduce", shell("kernelevolve", "optimize", asked.file, *how, *seed)))
    if best and found["fidelity"] == "measured":
        rows.append(
            ("export", shell("kernelevolve", "best", run, "-o", f"{found['task']}_kernel", *place))
        )
    elif not best:
        rows.append(("look", shell("kernelevolve", "show", run, *place)))
    if found["stopped_by"] == "interrupted":
        rows.append(("go on", shell("kernelevolve", "resume", run, *place)))
    return rows


def _effort(found: Mapping[str, Any]) -> str:
    statuses = ", ".join(f"{count} {name}" for name, count in found["nodes"]["by_status"].items())
    seconds = found["usage"]["seconds"]
    models = f", {found['usage']['tokens']} tokens" if found["usage"].get("tokens") else ""
    price = f", ${found['usage']['dollars']:.2f}" if found["usage"].get("dollars") else ""
    return (
        f"run {found['run']}: {found['nodes']['total']} attempts ({statuses}) in {seconds:.0f} s"
        f"{models}{price}, stopped by {found['stopped_by'] or 'nothing yet'}"
    )


def flags(config: RunConfig, fields: Sequence[str]) -> list[str]:
    """Those fields as flags, where they differ from the defaults."""
    words: list[str] = []
    for field in fields:
        value = getattr(config, field)
        if value != getattr(RunConfig(), field):
            flag = "--" + field.replace("_", "-")
            several = value if isinstance(value, tuple) else (value,)
            words += [flag] if value is True else [w for v in several for w in (flag, str(v))]
    for prefix in ("policy", "programmer"):
        for key, value in getattr(config, f"{prefix}_options").items():
            words += ["--set", f"{prefix}.{key}={value}"] if "policy" in fields else []
    return words


def _model_first(files: Sequence[str]) -> list[str]:
    return sorted(map(str, files), key=lambda f: (Path(f).name != "model.py", f))


def _called(baseline: str) -> str:
    return "torch.compile" if baseline == "compile" else baseline


def _names(baselines: Mapping[str, object]) -> str:
    return ", ".join(map(_called, baselines)) or "none was measured"
