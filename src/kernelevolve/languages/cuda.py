"""CUDA C++ kernels: compiled by NVRTC for their architecture, and for the emulator."""

import re
import shutil
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kernelevolve.core.candidate import Candidate, SourceFile
from kernelevolve.core.evaluation import Build, Flag
from kernelevolve.core.job import Limits
from kernelevolve.core.protocols import Language, Run
from kernelevolve.core.target import TargetSpec
from kernelevolve.core.task import Task
from kernelevolve.languages import _model
from kernelevolve.languages._screening import screen
from kernelevolve.runtime import cuda as runtime
from kernelevolve.runtime import launcher, nvrtc
from kernelevolve.runtime.cpp import BUILD_FOLDER

if TYPE_CHECKING:
    from torch.nn import Module

GUIDE = Path(__file__).parent / "guides" / "cuda.md"
STARTER = Path(__file__).parent / "guides" / "cuda_starter"
EXAMPLE = 'cuda.load("kernel.cu", "name", flags=["-use_fast_math"])'
ALLOWED_FLAGS = re.compile(
    r"-D\w+(=[\w.+-]*)?|--?use_fast_math|--?maxrregcount=\d+|-std=c\+\+(17|20)|-w"
    r"|--?(ftz|prec-div|prec-sqrt|fmad)=(true|false)|--?extra-device-vectorization"
)
ENTRY = re.compile(
    r"Compiling entry function '(?P<name>\w+)'.*?(?P<stack>\d+) bytes stack frame, "
    r"(?P<stores>\d+) bytes spill stores, (?P<loads>\d+) bytes spill loads.*?"
    r"Used (?P<registers>\d+) registers(?P<rest>[^\n]*)",
    re.DOTALL,
)
SHARED = re.compile(r"(\d+) bytes smem")
BOUNDS = re.compile(r"\.entry (\w+)\([^)]*\)\s*(?:\.\w+[^{]*?)?\.maxntid (\d+)(?:, (\d+), (\d+))?")
USUAL = re.compile(r"^ptxas (info|        \.)|: In (member )?function |: At global scope")
USUAL_THREADS = 256
"""Of a block, where a kernel does not bound them."""
CENSUS = {
    "tensor": ("HMMA", "HGMMA", "IMMA", "IGMMA", "QGMMA", "DMMA", "UTCHMMA"),
    "float": ("FFMA", "FADD", "FMUL", "FMNMX", "FSETP", "HFMA2", "HADD2", "HMUL2", "DFMA", "DADD"),
    "special": ("MUFU",),
    "integer": ("IMAD", "IADD3", "LOP3", "SHF", "LEA", "ISETP"),
    "global_load": ("LDG", "UBLKCP", "UTMALDG", "LDGSTS"),
    "global_store": ("STG", "RED", "ATOMG", "UTMASTG"),
    "shared_load": ("LDS", "LDSM"),
    "shared_store": ("STS", "STSM", "ATOMS"),
    "local": ("LDL", "STL"),
    "barrier": ("BAR", "WARPSYNC"),
    "shuffle": ("SHFL",),
}
INSTRUCTION = re.compile(r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+ )?(?P<name>[A-Z][A-Z0-9]*)", re.M)


@dataclass(frozen=True)
class Load:
    """Kernels that `model.py` loads of one source with the same flags."""

    source: str
    flags: tuple[str, ...]


class Cuda:
    """NVRTC; flags as part of the candidate within an allow-list."""

    requires: Mapping[str, str] = {
        "g++": "apt-get install g++",
        "cuda.bindings": 'pip install "kernelevolve[cuda]"',
    }
    vendors: Sequence[str] = ("nvidia",)
    preload: Sequence[str] = ()

    def guide(self, spec: TargetSpec) -> str:
        """How to write `model.py` and `kernel.cu`."""
        return GUIDE.read_text()

    def starter(self, task: Task) -> tuple[SourceFile, ...]:
        """A fused `relu(x + y)`, in the form that a candidate has."""
        return _model.example(STARTER)

    def screen(self, candidate: Candidate, task: Task) -> Sequence[Flag]:
        """Constructs that deserve a closer look, in Python and in C++."""
        return screen(candidate, task)

    def build(self, candidate: Candidate, spec: TargetSpec, workdir: Path, run: Run) -> Build:
        """A cubin for the architecture; for the emulator too, where that stands for the device."""
        started = time.monotonic()
        _model.write(candidate, workdir)
        (workdir / BUILD_FOLDER).mkdir(exist_ok=True)
        resources: dict[str, float] = {}
        try:
            loads = loads_of(candidate.text("model.py") or "")
            _build_inline(candidate, spec, workdir, run)
            for load in loads:
                if candidate.text(load.source) is None:
                    raise ValueError(
                        f"model.py loads {load.source!r}, which is not among the files"
                    )
                log, stem = _compile(load, spec, workdir, run)
                found = _resources(log, stem, spec, run)
                _check_limits(load.source, found, spec)
                resources |= {k: max(v, resources.get(k, 0.0)) for k, v in found.items()}
                if spec.fidelity == "emulated":
                    _emulate(load, spec, workdir, run)
            if loads and spec.accelerated:
                built = launcher.built_path(workdir / BUILD_FOLDER)
                run(launcher.command(built), workdir, Limits())
        except ValueError as error:
            return Build(ok=False, message=str(error), seconds=time.monotonic() - started)
        return Build(
            ok=True,
            folder=str(workdir),
            resources=resources,
            seconds=time.monotonic() - started,
        )

    def load(self, build: Build, task: Task) -> "type[Module]":
        """`ModelNew` of the built `model.py`."""
        return _model.model_class(build)


def loads_of(model: str) -> list[Load]:
    """The sources that `cuda.load` calls of a `model.py` name, each once.

    Raises:
        ValueError: it is not Python, or a call's arguments are not literals, or a flag is not
            in the allow-list; the message says what to change.
    """
    found = []
    for call in _model.calls_of(model, "cuda.load"):
        given = _model.literals(call, ("source", "kernel", "flags"), EXAMPLE)
        flags = tuple(str(f) for f in given.get("flags", ()))
        refused = [f for f in flags if not ALLOWED_FLAGS.fullmatch(f)]
        if refused:
            raise ValueError(f"model.py:{call.lineno}: flag {refused[0]!r} is not allowed")
        found.append(Load(str(given.get("source")), flags))
    return list(dict.fromkeys(found))


def _compile(load: Load, spec: TargetSpec, workdir: Path, run: Run) -> tuple[str, Path]:
    """The compiler's log, and where cubin and PTX lie."""
    stem = runtime.device_stem(workdir, load.source, load.flags, spec.arch)
    command = runtime.compile_command(load.source, spec.arch, stem, load.flags)
    done = run(command, workdir, Limits())
    if done.code == 124:
        raise ValueError(f"{load.source}: the compiler ran past its time limit")
    if done.code or not stem.with_suffix(".cubin").exists():
        raise ValueError(f"{load.source}: {_errors(done.output)}")
    return done.output, stem


def _emulate(load: Load, spec: TargetSpec, workdir: Path, run: Run) -> None:
    built = runtime.built_path(workdir, load.source, load.flags)
    if spec.multiprocessor is not None:
        built.with_suffix(".shared").write_text(str(spec.multiprocessor.shared_block))
    for command in runtime.prepare(workdir, load.source, load.flags, built):
        done = run(command, workdir, Limits())
        if done.code:
            text = f"{load.source}: it compiles for {spec.arch} but not for the emulator"
            raise ValueError(f"{text}: {_errors(done.output)}")


def _errors(output: str) -> str:
    """What the compiler complains of."""
    lines = output.strip().splitlines()
    return _model.excerpt("\n".join(x for x in lines if not USUAL.search(x)))


def _build_inline(candidate: Candidate, spec: TargetSpec, workdir: Path, run: Run) -> None:
    """What `load_inline` asks for, with the toolkit's own compiler.

    Raises:
        ValueError: it failed, or the device is not here.
    """
    if "load_inline" in (candidate.text("model.py") or "") and not spec.accelerated:
        raise ValueError(
            "model.py: load_inline needs a GPU to run what it builds; use cuda.load, which is "
            "emulated where there is none"
        )
    arch = f"TORCH_CUDA_ARCH_LIST={spec.arch.removeprefix('sm_')[:-1]}.{spec.arch[-1]}"
    if message := _model.build_inline(candidate, workdir, run, [arch]):
        raise ValueError(message)


def _resources(log: str, stem: Path, spec: TargetSpec, run: Run) -> dict[str, float]:
    """Of the kernel that needs most of each; the census is of all kernels together."""
    threads = _bounds(stem.with_suffix(".ptx").read_text(errors="replace"))
    kernels = []
    for entry in ENTRY.finditer(log):
        shared = SHARED.search(entry["rest"])
        of_entry = {
            "registers": float(entry["registers"]),
            "stack_bytes": float(entry["stack"]),
            "spill_bytes": float(entry["stores"]) + float(entry["loads"]),
            "shared_bytes": float(shared[1]) if shared else 0.0,
            "block_threads": float(threads.get(entry["name"], USUAL_THREADS)),
        }
        kernels.append(of_entry)
    found = spec.multiprocessor.needs(kernels) if spec.multiprocessor else {}
    return found | _census(stem.with_suffix(".cubin"), run)


def _bounds(ptx: str) -> dict[str, int]:
    """Kernels to the most threads of a block that they were compiled for."""
    return {m[1]: int(m[2]) * int(m[3] or 1) * int(m[4] or 1) for m in BOUNDS.finditer(ptx)}


def _census(cubin: Path, run: Run) -> dict[str, float]:
    """Instructions by kind, where there is a disassembler."""
    tool = disassembler()
    if tool is None:
        return {}
    done = run([tool, "-c", str(cubin)], cubin.parent, Limits())
    names = Counter(m["name"] for m in INSTRUCTION.finditer(done.output))
    kinds = {k: float(sum(names[n] for n in members)) for k, members in CENSUS.items()}
    return {"instructions": float(sum(names.values()) - names["NOP"])} | {
        f"instructions_{kind}": count for kind, count in kinds.items() if count
    }


def disassembler() -> str | None:
    """`nvdisasm` of the toolkit or of the wheel."""
    wheels = [folder / "bin" / "nvdisasm" for folder in nvrtc.wheels()]
    return shutil.which("nvdisasm") or next((str(w) for w in wheels if w.exists()), None)


def _check_limits(source: str, found: Mapping[str, float], spec: TargetSpec) -> None:
    limits = spec.multiprocessor
    if limits is None or not found.get("registers"):
        return
    if found["shared_bytes"] > limits.shared_block:
        raise ValueError(
            f"{source}: {found['shared_bytes']:.0f} bytes of shared memory for a block, of which "
            f"{spec.arch} has {limits.shared_block}"
        )
    if not found["occupancy"]:
        raise ValueError(
            f"{source}: {found['registers']:.0f} registers for each of "
            f"{found['block_threads']:.0f} threads are more than the {limits.registers} "
            f"of a multiprocessor"
        )


plugin: type[Language] = Cuda
