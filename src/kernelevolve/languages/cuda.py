"""CUDA C++ kernels: compiled by NVRTC for their architecture, and for the emulator."""

import re
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from kernelevolve.core.candidate import Candidate
from kernelevolve.core.job import Limits
from kernelevolve.core.protocols import Language, Run
from kernelevolve.core.target import TargetSpec
from kernelevolve.languages import _model
from kernelevolve.languages._simt import Load, Simt, compile_with
from kernelevolve.runtime import cuda, nvrtc

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


class Cuda(Simt):
    """NVRTC; flags as part of the candidate within an allow-list."""

    requires: Mapping[str, str] = {
        "g++": "apt-get install g++",
        "cuda.bindings": 'pip install "kernelevolve[cuda]"',
    }
    vendors: Sequence[str] = ("nvidia",)
    dialect = cuda.DIALECT
    allowed = ALLOWED_FLAGS
    example = EXAMPLE

    def compiled(self, load: Load, spec: TargetSpec, workdir: Path, run: Run) -> dict[str, float]:
        """By NVRTC."""
        log, stem = compile_with(nvrtc.__name__, load, spec, workdir, run)
        return _resources(log, stem, spec, run)

    def inline(self, candidate: Candidate, spec: TargetSpec, workdir: Path, run: Run) -> None:
        """With the toolkit's own compiler."""
        if not spec.accelerated:
            return super().inline(candidate, spec, workdir, run)
        arch = f"TORCH_CUDA_ARCH_LIST={spec.arch.removeprefix('sm_')[:-1]}.{spec.arch[-1]}"
        if message := _model.build_inline(candidate, workdir, run, [arch]):
            raise ValueError(message)
        return None


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


plugin: type[Language] = Cuda
