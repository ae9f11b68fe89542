"""Writes what a user can put into production: a folder that needs torch and nothing of ours."""

import json
import re
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kernelevolve.core.candidate import Candidate, SourceFile
from kernelevolve.core.errors import UsageError
from kernelevolve.core.evaluation import Evaluation, Stage
from kernelevolve.core.record import digest
from kernelevolve.core.target import TargetSpec
from kernelevolve.core.task import Task

HERE = Path(__file__).parent
SHIPPED = HERE / "shipped"
RUNTIME = HERE.parent / "runtime"
SHARED = ("__init__.py", "cpp.py", "inline.py")
GRAPHS = ("capture.py", "graphs.py")
THREADED = (*GRAPHS, "gpu.py", "kernels.py", "launcher.cpp", "launcher.py", "nvrtc.py", "simt")
IMPORTED = {
    "cuda": ("cuda.py", *THREADED),
    "hip": ("hip.py", "hip_include", *THREADED),
    "triton": GRAPHS,
}
"""Of the runtime, by kernels of a language, beside what all share."""
OWN = ("__init__.py", "op.py", "reference.py", "verify.py", "export.json", "README.md")
PACKAGE = '''"""An optimised kernel as a drop-in for the module that it was made from."""

from .op import Optimized, from_reference, load

__all__ = ["Optimized", "from_reference", "load"]
'''
FEATURES = {
    "avx512": (r"_mm512_|-mavx512|avx512", r"avx512\w*"),
    "avx2": (r"_mm256_|-mavx2|avx2|-mfma", r"avx2?|fma|f16c"),
    "amx": (r"_tile_|-mamx", r"amx\w*"),
    "sve": (r"arm_sve|svfloat", r"sve\w*"),
}
"""What in a kernel's text needs a processor feature, and which flags of the processor these are."""


def write_export(
    folder: Path,
    files: tuple[SourceFile, ...],
    task: Task,
    blobs: Callable[[str], bytes],
    language: str,
    evaluation: Evaluation,
    target: TargetSpec,
    run: str,
    number: int,
    when: float | None = None,
) -> list[Path]:
    """Write the kernel as a `torch.library` op with guard, fallback and its own verification.

    Args:
        folder: where to; made if missing, files of an earlier export are replaced.
        files: the candidate's.
        task: what it computes.
        blobs: content of the task's captured inputs or exported program.
        language: registry name.
        evaluation: the confirmed verdict.
        target: where that was measured.
        run: name of the run.
        number: the node's number.
        when: when it was confirmed, seconds since the epoch; by default now.

    Returns:
        Every file that was written.

    Raises:
        UsageError: the folder cannot be written, or a candidate's file has a name of ours.
    """
    candidate = Candidate(language=language, files=files)
    taken = [f.path for f in files if f.path in OWN or f.path.startswith("_support/")]
    if taken:
        raise UsageError(f"{taken[0]}: the export has a file of that name; rename the candidate's")
    date = datetime.fromtimestamp(when, UTC) if when is not None else datetime.now(UTC)
    manifest = _manifest(candidate, task, evaluation, target, run, number, date)
    texts = {file.path: file.text for file in files}
    texts["__init__.py"] = PACKAGE
    texts["reference.py"] = task.source or (HERE / "program.py.txt").read_text()
    texts["export.json"] = json.dumps(manifest, indent=2) + "\n"
    texts["README.md"] = _readme(manifest, evaluation)
    data = {path: text.encode() for path, text in texts.items()}
    if task.program is not None:
        data["program.pt2"] = blobs(task.program)
    if task.captured is not None:
        data["captured.pt"] = blobs(task.captured)
    try:
        return [*_write(folder, data), *_copy_shipped(folder, language)]
    except OSError as error:
        raise UsageError(f"export folder {folder}: {error.strerror or error}") from error


def _write(folder: Path, data: dict[str, bytes]) -> list[Path]:
    written = []
    for name, content in data.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        written.append(path)
    return written


def _copy_shipped(folder: Path, language: str) -> list[Path]:
    vendored = folder / "_support" / "runtime" / "kernelevolve"
    sources = {path: folder / path.relative_to(SHIPPED) for path in SHIPPED.rglob("*.py")}
    for name in (*SHARED, *IMPORTED.get(language, ())):
        found = [RUNTIME / name, *(RUNTIME / name).rglob("*")]
        files = (p for p in found if p.is_file() and "__pycache__" not in p.parts)
        sources |= {p: vendored / "runtime" / p.relative_to(RUNTIME) for p in files}
    for source, copy in sources.items():
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, copy)
    package = vendored / "__init__.py"
    package.write_text(
        '"""What exported kernels import; a copy, for where kernelevolve is absent."""\n'
    )
    return [*sources.values(), package]


def _manifest(
    candidate: Candidate,
    task: Task,
    evaluation: Evaluation,
    target: TargetSpec,
    run: str,
    number: int,
    date: datetime,
) -> dict[str, Any]:
    verified = {timing.workload for timing in evaluation.timings}
    workloads = [w for w in task.workloads if w.name in verified] or list(task.shown)
    held_out = [t.workload for t in evaluation.timings if t.held_out]
    confirmed = evaluation.ok and evaluation.stage is Stage.CONFIRM
    name = re.sub(r"[^a-z0-9_]", "_", task.name.lower())
    return {
        "format": 1,
        "op": f"{name}_{digest(candidate.id, task.id)[:8]}",
        "task": task.name,
        "statement": task.statement,
        "candidate": candidate.id,
        "language": candidate.language,
        "run": run,
        "node": number,
        "target": target.address,
        "machine_name": target.name,
        "machine": target.arch,
        "device": "cpu" if target.vendor == "cpu" else "cuda",
        "threads": target.threads,
        "features": needed_features(candidate, _processor_features()),
        "mode": task.mode,
        "precision": task.precision,
        "backward": task.backward,
        "tolerance": task.tolerance.model_dump(),
        "randomise": task.randomise,
        "workloads": [w.model_dump() for w in workloads],
        "general": bool(confirmed and held_out),
        "confirmed": confirmed,
        "date": date.strftime("%Y-%m-%d %H:%M UTC"),
        "fidelity": evaluation.fidelity,
        "speedup": evaluation.score,
        "interval": evaluation.interval,
    }


def needed_features(candidate: Candidate, present: set[str]) -> list[str]:
    """Features of this processor that the kernel's text relies on, whatever the compiler does."""
    text = "\n".join(file.text for file in candidate.files)
    wanted = [flags for use, flags in FEATURES.values() if re.search(use, text)]
    return sorted(f for f in present if any(re.fullmatch(flags, f) for flags in wanted))


def _processor_features() -> set[str]:
    try:
        return set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return set()


def _readme(manifest: dict[str, Any], evaluation: Evaluation) -> str:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False
    )
    template = environment.from_string((HERE / "README.md.jinja").read_text())
    baselines = sorted({name for t in evaluation.timings for name in t.baselines_us})
    over = {name: evaluation.geomean(name) for name in baselines}
    return template.render(
        **manifest,
        timings=evaluation.timings,
        baselines=baselines,
        over=over,
        flags=evaluation.flags,
        remarks=evaluation.remarks,
    )
