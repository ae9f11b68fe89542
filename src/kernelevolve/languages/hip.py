"""HIP C++ kernels: compiled for AMD GPUs where a compiler is here, and for the emulator.

Nothing here has been run on AMD's hardware.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from kernelevolve.core.protocols import Language, Run
from kernelevolve.core.target import TargetSpec
from kernelevolve.languages._simt import Load, Simt, compile_with
from kernelevolve.runtime import hip, hipcc

ALLOWED_FLAGS = re.compile(
    r"-D\w+(=[\w.+-]*)?|-O[23]|-ffast-math|-std=c\+\+(17|20)|-w|-munsafe-fp-atomics"
    r"|-ffp-contract=(off|on|fast)|-fgpu-flush-denormals-to-zero"
)
METADATA = re.compile(r"^amdhsa\.kernels:\n(.*?)^amdhsa\.target", re.M | re.S)
FIELD = re.compile(r"^    \.(\w+):\s+(\S+)$", re.M)
INSTRUCTION = re.compile(r"^\t((?:v|s|ds|global|flat|buffer|scratch)_\w+)", re.M)
CENSUS = {
    "tensor": r"v_(mfma|smfmac)_",
    "special": r"v_(exp|log|rcp|rsq|sqrt|sin|cos)_",
    "vector": r"v_(?!(mfma|smfmac|exp|log|rcp|rsq|sqrt|sin|cos)_)(?!\w*_dpp$)",
    "scalar": r"s_(?!load|barrier|waitcnt|nop|endpgm|code_end)",
    "scalar_load": r"s_load_",
    "global_load": r"(global|flat|buffer)_load",
    "global_store": r"(global|flat|buffer)_(store|atomic)",
    "shared_load": r"ds_read",
    "shared_store": r"ds_(?!read|bpermute|permute|swizzle)",
    "local": r"scratch_",
    "barrier": r"s_barrier",
    "wait": r"s_waitcnt",
    "shuffle": r"ds_(bpermute|permute|swizzle)|v_\w+_dpp$",
}


class Hip(Simt):
    """hipcc, or clang with what Triton's wheel carries; flags within an allow-list."""

    requires: Mapping[str, str] = {"g++": "apt-get install g++"}
    vendors: Sequence[str] = ("amd",)
    dialect = hip.DIALECT
    allowed = ALLOWED_FLAGS
    example = 'hip.load("kernel.hip", "name", flags=["-ffast-math"])'

    def compiled(self, load: Load, spec: TargetSpec, workdir: Path, run: Run) -> dict[str, float]:
        """By what is here; nothing is known where there is no compiler."""
        if not hipcc.compiler():
            return {}
        _, stem = compile_with(hipcc.__name__, load, spec, workdir, run)
        text = stem.with_suffix(".s").read_text(errors="replace")
        kernels = needs_of(text)
        needed = spec.multiprocessor.needs(kernels) if spec.multiprocessor else {}
        return needed | _census(text)

    def remarks(self) -> tuple[str, ...]:
        """That nothing was compiled for the device, where that is so."""
        if hipcc.compiler():
            return ()
        return (f"emulated only, not compiled: no compiler for AMD GPUs here: {hipcc.INSTALL}",)


def needs_of(assembly: str) -> list[dict[str, float]]:
    """Registers, spills, shared memory and block of each kernel, by the code object's metadata."""
    found = METADATA.search(assembly)
    kernels = re.split(r"^  - ", found[1], flags=re.M)[1:] if found else []
    return [_needs(dict(FIELD.findall(f"    {kernel}"))) for kernel in kernels]


def _needs(told: Mapping[str, str]) -> dict[str, float]:
    """`spill_bytes` is of vector registers; scalar ones spill into those."""
    return {
        "registers": float(told["vgpr_count"]),
        "scalar_registers": float(told["sgpr_count"]),
        "accumulators": float(told.get("agpr_count", 0)),
        "stack_bytes": float(told["private_segment_fixed_size"]),
        "spill_bytes": 4 * float(told["vgpr_spill_count"]),
        "shared_bytes": float(told["group_segment_fixed_size"]),
        "block_threads": float(told["max_flat_workgroup_size"]),
    }


def _census(assembly: str) -> dict[str, float]:
    """Instructions by kind."""
    names = Counter(INSTRUCTION.findall(assembly))
    del names["s_nop"], names["s_code_end"]
    kinds = {
        kind: float(sum(n for name, n in names.items() if re.match(pattern, name)))
        for kind, pattern in CENSUS.items()
    }
    return {"instructions": float(sum(names.values()))} | {
        f"instructions_{kind}": count for kind, count in kinds.items() if count
    }


plugin: type[Language] = Hip
