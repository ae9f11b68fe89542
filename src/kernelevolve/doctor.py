"""Looks at a machine: what works here, what is missing, and the command that installs it."""

import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from kernelevolve import registry
from kernelevolve.config import RunConfig, data_folder, key
from kernelevolve.core.errors import MissingDependency
from kernelevolve.core.evaluation import Timing
from kernelevolve.core.record import Record
from kernelevolve.core.target import TargetSpec
from kernelevolve.evaluation import peek, sanitize

ENOUGH_BYTES = 2 << 30
EVEN = 0.05
"""An A/A test may differ from 1 by this much."""

MODEL_KEYS = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GOOGLE_API_KEY")
NATIVE = ("-O3", "-march=native", "-fopenmp", "-shared", "-fPIC")
COMPILERS = ("g++", "clang++")
PROBE = 'extern "C" void add(float *x, int n) { for (int i = 0; i < n; ++i) x[i] += 1; }\n'
SANDBOXED = ("bwrap", "--unshare-all", "--die-with-parent", "--ro-bind", "/", "/", "--dev", "/dev")


class Finding(Record):
    """One thing that was looked at."""

    what: str
    """What it is, and what was found."""
    possible: bool
    """Whether it can be used as things stand."""
    install: str = ""
    """The command, or the change, that helps; empty where nothing is missing."""


class Toolchain(Record):
    """One language on this machine."""

    name: str
    """Registry name."""
    possible: bool
    """Whether kernels in it can be built here."""
    toolchain: str
    """What builds it, with its version, or what is missing."""


class Isolation(Record):
    """What keeps candidates apart from this machine."""

    possible: bool
    """Whether candidates can be run in the sandbox."""
    tool: str = ""
    """The sandbox's tool and version."""
    process_limit: str = ""
    """What bounds the number of a candidate's processes; empty when nothing does."""
    sentence: str
    """It in one sentence."""


class Evenness(Record):
    """An A/A test: the same kernel on both sides of a timing."""

    ratio: float
    """Time of one side over the other; 1 where the clock is fair."""
    interval: tuple[float, float]
    """95 % confidence interval of the ratio."""
    even: bool
    """Whether the ratio is as good as 1."""
    sentence: str
    """It in one sentence."""


class Doctor(Record):
    """What a machine can do."""

    targets: tuple[TargetSpec, ...]
    """Devices present."""
    languages: tuple[Toolchain, ...]
    """Every language that the registry knows."""
    sandbox: Isolation
    """What keeps candidates apart."""
    clock: Evenness | None = None
    """The A/A test; None where it could not be made."""
    findings: tuple[Finding, ...]
    """Everything that was looked at, what is missing first."""


class _Ran(NamedTuple):
    code: int
    output: str

    @property
    def first_line(self) -> str:
        return (self.output.strip().splitlines() or ["no output"])[0]


def examine(config: RunConfig, same_twice: Callable[[], Timing] | None = None) -> Doctor:
    """Look at everything; takes seconds, and nothing that is missing raises.

    Args:
        config: whose store and target are meant.
        same_twice: times one kernel against itself, as the harness times candidates.
    """
    findings: list[Finding] = []
    targets = tuple(_targets(findings))
    sandbox = _sandbox()
    languages = tuple(_languages(findings))
    clock, problem = _clock(same_twice) if same_twice else (None, None)
    findings += [_torch(), _sandbox_finding(sandbox), _process_finding(sandbox)]
    findings += [_sanitizers(), _disk(config), _load(), _peeking(), _models()]
    findings += [problem] if problem else []
    findings += [_clock_finding(clock)] if clock else []
    return Doctor(
        targets=targets,
        languages=languages,
        sandbox=sandbox,
        clock=clock,
        findings=tuple(sorted(findings, key=lambda f: f.possible)),
    )


def _targets(findings: list[Finding]) -> Iterator[TargetSpec]:
    for name in registry.names("target"):
        try:
            found = registry.load("target", name)().discover()
        except Exception as error:  # noqa: BLE001  a broken plug-in is a finding
            findings.append(_missing(f"target {name}", error))
            continue
        yield from found
        here = [spec.address for spec in found if spec.fidelity == "measured"]
        untried = getattr(registry.load("target", name), "untried", "")
        devices = ", ".join(here) or untried or "no such device here"
        for fidelity in ("emulated", "simulated"):
            if others := [spec.address for spec in found if spec.fidelity == fidelity]:
                devices += f"; {fidelity}: {', '.join(others)}"
        findings.append(Finding(what=f"target {name}: {devices}", possible=bool(found)))


def _languages(findings: list[Finding]) -> Iterator[Toolchain]:
    for name in registry.names("language"):
        try:
            requires = registry.load("language", name)().requires
        except Exception as error:  # noqa: BLE001  a broken plug-in is a finding
            findings.append(_missing(f"language {name}", error))
            yield Toolchain(name=name, possible=False, toolchain=str(error))
            continue
        looked = [_program(*needed) for needed in requires.items()]
        findings += [
            f.model_copy(update={"what": f"language {name}: {f.what}"})
            for f in looked or [Finding(what="needs no program", possible=True)]
        ]
        toolchain = "; ".join(f.what for f in looked) or "its Python package"
        yield Toolchain(name=name, possible=all(f.possible for f in looked), toolchain=toolchain)


def _program(name: str, install: str) -> Finding:
    if shutil.which(name) is None and registry.installed(name):
        return Finding(what=f"Python module {name}", possible=True)
    if shutil.which(name) is None:
        return Finding(what=f"{name} is not installed", possible=False, install=install)
    said = _run(name, "--version").first_line
    problem = _native(name) if name in COMPILERS else None
    if problem:
        return Finding(what=f"{said}, but {problem}", possible=False, install=install)
    tested = f", {NATIVE[1]} works" if name in COMPILERS else ""
    return Finding(what=said + tested, possible=True)


def version_of(program: str) -> str:
    """What a program calls its version; empty where it is not installed."""
    said = _run(program, "--version")
    return "" if said.code else said.first_line.split()[-1]


def _native(compiler: str) -> str | None:
    """What hinders a build for this very processor; None when nothing does."""
    with TemporaryDirectory(prefix="kernelevolve-doctor-") as folder:
        source = Path(folder) / "probe.cpp"
        source.write_text(PROBE)
        built = _run(compiler, *NATIVE, "-o", str(source.with_suffix(".so")), str(source))
    return f"it cannot build with {' '.join(NATIVE)}: {built.first_line}" if built.code else None


def _torch() -> Finding:
    try:
        return Finding(what=f"torch {version('torch')}", possible=True)
    except PackageNotFoundError:
        return Finding(what="torch: not found", possible=False, install="pip install torch")


def _sandbox() -> Isolation:
    if shutil.which("bwrap") is None:
        return Isolation(possible=False, sentence="bubblewrap is not installed")
    tool = _run("bwrap", "--version").first_line
    tried = _run(*SANDBOXED, "true")
    if tried.code:
        return Isolation(
            possible=False, tool=tool, sentence=f"{tool} cannot make namespaces: {tried.first_line}"
        )
    limit = _process_limit()
    bound = f"processes bounded by {limit}" if limit else "nothing bounds processes"
    return Isolation(
        possible=True, tool=tool, process_limit=limit, sentence=f"{tool}, namespaces work, {bound}"
    )


def _process_limit() -> str:
    if os.geteuid() != 0:
        return "RLIMIT_NPROC"
    cgroups = Path("/sys/fs/cgroup")
    if os.access(cgroups / "pids", os.W_OK):
        return "a pids cgroup"
    controllers = cgroups / "cgroup.controllers"
    if controllers.exists() and "pids" in controllers.read_text() and os.access(cgroups, os.W_OK):
        return "a pids cgroup"
    return ""


def _sandbox_finding(sandbox: Isolation) -> Finding:
    what = f"sandbox: {sandbox.sentence}"
    if sandbox.possible:
        return Finding(what=what, possible=True)
    if not sandbox.tool:
        return Finding(what=what, possible=False, install=_package("bubblewrap"))
    return Finding(
        what=what,
        possible=False,
        install="sysctl -w kernel.unprivileged_userns_clone=1 "
        "(in a container: --security-opt seccomp=unconfined)",
    )


def _process_finding(sandbox: Isolation) -> Finding:
    if sandbox.process_limit or not sandbox.possible:
        limit = sandbox.process_limit or "not looked at without a sandbox"
        return Finding(what=f"limit of processes: {limit}", possible=bool(sandbox.process_limit))
    return Finding(
        what="limit of processes: RLIMIT_NPROC does not bind root, and no pids cgroup can be made",
        possible=False,
        install="run kernelevolve as another user than root",
    )


def _sanitizers() -> Finding:
    if sanitize.preloaded():
        return Finding(what="sanitizers of g++: found, confirm uses them", possible=True)
    return Finding(
        what="sanitizers of g++: libasan is missing; confirm does without",
        possible=False,
        install=sanitize.INSTALL,
    )


def _disk(config: RunConfig) -> Finding:
    folder = data_folder(config.store).absolute()
    existing = next(p for p in (folder, *folder.parents) if p.exists())
    free = shutil.disk_usage(existing).free
    what = f"store {folder}: {free / 2**30:.1f} GiB free"
    if not os.access(existing, os.W_OK):
        return Finding(
            what=f"{what}, not writable", possible=False, install="choose another with --store"
        )
    enough = free >= ENOUGH_BYTES
    return Finding(what=what, possible=enough, install="" if enough else "kernelevolve clean --all")


def _load() -> Finding:
    load, cores = os.getloadavg()[0], len(os.sched_getaffinity(0))
    what = f"load {load:.1f} on {cores} {'core' if cores == 1 else 'cores'}"
    if load <= cores / 2:
        return Finding(what=what, possible=True)
    return Finding(
        what=f"{what}: timings will be noisy", possible=True, install="end other work, or wait"
    )


def _models() -> Finding:
    """Whether language models can be asked to write kernels."""
    if not registry.installed("pydantic_ai"):
        what = (
            "language models: pydantic-ai-slim is not installed; the built-in programmer needs none"
        )
        return Finding(what=what, possible=False, install="pip install 'kernelevolve[llm]'")
    held = [name for name in MODEL_KEYS if key(name)]
    said = f"set: {', '.join(held)}" if held else "no key is set; --base-url needs none"
    return Finding(what=f"language models: {said}", possible=True)


def _peeking() -> Finding:
    """Whether the memory of a process below this one can be read, as the judge reads outputs."""
    child = subprocess.Popen(("sleep", "10"))
    try:
        possible = peek.permitted(child.pid)
    finally:
        child.kill()
        child.wait()
    what = "memory of runners can be read" if possible else "memory of runners cannot be read"
    return Finding(
        what=f"{what} (process_vm_readv)",
        possible=possible,
        install=""
        if possible
        else "sysctl -w kernel.yama.ptrace_scope=1 (in a container: "
        "--security-opt seccomp=unconfined)",
    )


def _clock(same_twice: Callable[[], Timing]) -> tuple[Evenness | None, Finding | None]:
    try:
        timing = same_twice()
    except Exception as error:  # noqa: BLE001  a machine that cannot time is a finding
        said = str(error).partition("\n")[0] or type(error).__name__
        return None, Finding(what=f"A/A test of the clock: {said}", possible=False)
    low, high, ratio = timing.low, timing.high, timing.speedup
    even = abs(ratio - 1) <= EVEN
    sentence = f"the same kernel twice differs by {ratio - 1:+.1%} [{low:.3f}, {high:.3f}]"
    return Evenness(ratio=ratio, interval=(low, high), even=even, sentence=sentence), None


def _clock_finding(clock: Evenness) -> Finding:
    return Finding(
        what=f"clock: {clock.sentence}",
        possible=clock.even,
        install="" if clock.even else "end other work on this machine, then try again",
    )


def _missing(what: str, error: Exception) -> Finding:
    install = str(error).rpartition(": ")[2] if isinstance(error, MissingDependency) else ""
    return Finding(what=f"{what}: {error}", possible=False, install=install)


def _package(name: str) -> str:
    if platform.system() == "Darwin":
        return f"brew install {name}"
    sudo = "" if os.geteuid() == 0 else "sudo "
    if shutil.which("dnf") and not shutil.which("apt-get"):
        return f"{sudo}dnf install -y {name}"
    return f"{sudo}apt-get install -y {name}"


def _run(*command: str) -> _Ran:
    try:
        ended = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return _Ran(1, str(error))
    return _Ran(ended.returncode, ended.stdout + ended.stderr)
