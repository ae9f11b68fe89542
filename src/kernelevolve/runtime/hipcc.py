"""`python -m kernelevolve.runtime.hipcc SOURCE ARCH STEM FLAG…`: one HIP file for an AMD GPU.

Writes STEM.s and STEM.hsaco, or STEM.o where there is no linker, prints the compiler's log, and
ends with 1 where it failed. Needs no GPU. AMD's own hipcc is taken where it is installed, else any
clang for these GPUs, with the headers and the device library that Triton's wheel carries.
"""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

CLANGS = ("clang-23", "clang-22", "clang-21", "clang-20", "clang")
INSTALL = (
    "apt-get install clang-22 lld-22 (or AMD's hipcc), and pip install 'kernelevolve[triton]', "
    "whose wheel carries HIP's headers and device library"
)
DEVICE = ("-x", "hip", "--cuda-device-only", "-std=c++17", "-O3", "-mcode-object-version=5")
CONSTANTS = {
    "wavefrontsize64": ("i8", 1),
    "finite_only_opt": ("i8", 0),
    "unsafe_math_opt": ("i8", 0),
    "daz_opt": ("i8", 0),
    "correctly_rounded_sqrt32": ("i8", 1),
    "ABI_version": ("i32", 500),
}
"""What AMD's device library asks of its surroundings, by the names that it gives them."""


def compiler() -> list[str]:
    """The command that compiles here; empty where nothing does."""
    if hipcc := shutil.which("hipcc"):
        return [hipcc]
    clang = next(filter(None, map(shutil.which, CLANGS)), None)
    return [clang] if clang and _of_triton() else []


def compile_file(source: str, arch: str, stem: Path, flags: Sequence[str]) -> tuple[bool, str]:
    """Whether it compiled, and what the compiler said."""
    command = compiler()
    if not command:
        return False, f"no compiler for {arch} is here: {INSTALL}"
    text = stem.with_suffix(".s")
    found = _libraries(command, arch, stem) if not command[0].endswith("hipcc") else []
    device = [*command, *DEVICE, f"--offload-arch={arch}", *found, *flags]
    done = _run([*device, "-S", source, "-o", str(text)])
    if done.returncode:
        return False, done.stdout
    target = ["--target=amdgcn-amd-amdhsa", f"-mcpu={arch}", str(text)]
    clang = command if found else [str(Path(command[0]).resolve().parent / "clang")]
    linked = _run([*clang, *target, "-o", str(stem.with_suffix(".hsaco"))])
    if linked.returncode:
        _run([*clang, *target, "-c", "-o", str(stem.with_suffix(".o"))])
    return True, done.stdout


def _libraries(command: Sequence[str], arch: str, stem: Path) -> list[str]:
    """Options by which clang finds what comes with AMD's own compiler elsewhere."""
    wheel = _of_triton()
    assert wheel is not None
    made = stem.with_suffix(".bc")
    version = int(arch[3:-2]) * 1000 + int(arch[-2]) * 100 + int(arch[-1], 16)
    constants = {**CONSTANTS, "ISA_version": ("i32", version)}
    lines = [
        f"@__oclc_{name} = linkonce_odr hidden local_unnamed_addr addrspace(4) constant {kind} {n}"
        for name, (kind, n) in constants.items()
    ]
    lines.insert(0, 'target triple = "amdgcn-amd-amdhsa"')
    stem.with_suffix(".ll").write_text("\n".join([*lines, ""]))
    _run(
        [*command, "--target=amdgcn-amd-amdhsa", "-nogpulib", "-c", "-emit-llvm"]
        + [str(stem.with_suffix(".ll")), "-o", str(made)]
    )
    parts = [wheel / "lib" / "ocml.bc", wheel / "lib" / "ockl.bc", made]
    linked = [x for part in parts for x in ("-Xclang", "-mlink-builtin-bitcode", "-Xclang", part)]
    rocm = stem.with_suffix(".rocm")
    (rocm / "share" / "hip").mkdir(parents=True, exist_ok=True)
    (rocm / "share" / "hip" / "version").write_text("HIP_VERSION_MAJOR=7\nHIP_VERSION_MINOR=1\n")
    if not (rocm / "include").exists():
        (rocm / "include").symlink_to(wheel / "include")
    return ["-nogpulib", f"--rocm-path={rocm}", *map(str, linked)]


def _of_triton() -> Path | None:
    """The folder of AMD's parts in Triton's wheel."""
    found = find_spec("triton")
    places = (found and found.submodule_search_locations) or ()
    folders = (Path(place) / "backends" / "amd" for place in places)
    return next((f for f in folders if (f / "lib" / "ocml.bc").exists()), None)


def _run(command: Sequence[str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(  # noqa: S603
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )


if __name__ == "__main__":
    compiled, said = compile_file(sys.argv[1], sys.argv[2], Path(sys.argv[3]), sys.argv[4:])
    print(said)
    sys.exit(0 if compiled else 1)
