import shutil
from pathlib import Path

import pytest

from kernelevolve.core.candidate import Candidate, SourceFile
from kernelevolve.core.target import TargetSpec
from kernelevolve.languages.cpp import Cpp, loads_of
from kernelevolve.runtime import cpp as runtime
from kernelevolve.testing.contracts.language import TASK, LanguageContract, run_here

SPEC = TargetSpec(vendor="cpu", arch="x86_64", cores=(0,))
MODEL = """
from kernelevolve.runtime import cpp
kernel = cpp.load("kernel.cpp", flags={flags})
"""

pytestmark = pytest.mark.needs_gxx


class TestCppContract(LanguageContract):
    name = "cpp"
    spec = SPEC
    broken = SourceFile(path="kernel.cpp", text="this is not C++")


def candidate(kernel: str, flags: str = '["-O2"]') -> Candidate:
    files = (
        SourceFile(path="model.py", text=MODEL.format(flags=flags)),
        SourceFile(path="kernel.cpp", text=kernel),
    )
    return Candidate(language="cpp", files=files)


@pytest.mark.parametrize(
    "flag",
    [
        "-fplugin=evil.so",
        "-I/etc",
        "-include/etc/passwd",
        "@file",
        "-wrapper,sh",
        "-Wl,-rpath,/x",
        "-B/tmp",
        "-o/tmp/x",
        "-specs=x",
        "-fprofile-use=x",
        "-fsanitize=address",
        "-fdump-tree-all",
    ],
)
def test_flags_outside_the_allow_list_are_refused_by_name(flag: str, tmp_path: Path) -> None:
    build = Cpp().build(candidate("", f'["{flag}"]'), SPEC, tmp_path, run_here)
    assert not build.ok
    assert repr(flag) in build.message


@pytest.mark.parametrize(
    "flag", ["-O3", "-ffast-math", "-fopenmp", "-mprefer-vector-width=512", "-DN=4", "-mavx2"]
)
def test_optimisation_flags_are_part_of_the_candidate(flag: str) -> None:
    assert loads_of(MODEL.format(flags=f'["{flag}"]'))[0].flags == (flag,)


def test_arguments_that_are_no_literals_are_refused_with_the_form_to_use(tmp_path: Path) -> None:
    build = Cpp().build(candidate("", "list_of_flags"), SPEC, tmp_path, run_here)
    assert 'cpp.load("kernel.cpp"' in build.message


def test_a_missing_source_is_named(tmp_path: Path) -> None:
    files = (SourceFile(path="model.py", text=MODEL.format(flags="[]")),)
    build = Cpp().build(Candidate(language="cpp", files=files), SPEC, tmp_path, run_here)
    assert "'kernel.cpp'" in build.message


def test_missed_vectorisation_is_reported_with_its_line(tmp_path: Path) -> None:
    kernel = """extern "C" void scan(float *x, long n) {
  for (long i = 1; i < n; ++i) x[i] += x[i - 1];
}"""
    build = Cpp().build(candidate(kernel, '["-O3"]'), SPEC, tmp_path, run_here)
    assert build.ok
    assert any(r.startswith("kernel.cpp:2:") for r in build.remarks)
    assert build.resources["library_bytes"] > 0


def test_other_flags_or_sources_are_other_builds(tmp_path: Path) -> None:
    (tmp_path / "kernel.cpp").write_text("int a;")
    first = runtime.library_path(tmp_path, "kernel.cpp", ["-O2"])
    assert first != runtime.library_path(tmp_path, "kernel.cpp", ["-O3"])
    (tmp_path / "kernel.cpp").write_text("int b;")
    assert first != runtime.library_path(tmp_path, "kernel.cpp", ["-O2"])


def test_a_changed_header_is_another_build(tmp_path: Path) -> None:
    (tmp_path / "kernel.cpp").write_text('#include "tile.h"')
    (tmp_path / "tile.h").write_text("#define TILE 4")
    first = runtime.library_path(tmp_path, "kernel.cpp", [])
    (tmp_path / "tile.h").write_text("#define TILE 8")
    assert first != runtime.library_path(tmp_path, "kernel.cpp", [])


def test_screening_is_by_the_shared_tripwires() -> None:
    found = Cpp().screen(candidate("\nvoid f() { fork(); }\n"), TASK)
    assert ("processes", "kernel.cpp:2") in [(f.rule, f.where) for f in found]


@pytest.mark.parametrize("text", ["-" * 200_000 + "1", "x = 1\0", "(" * 5000])
def test_python_beyond_the_parser_is_a_failed_build(text: str, tmp_path: Path) -> None:
    files = (SourceFile(path="model.py", text=text),)
    build = Cpp().build(Candidate(language="cpp", files=files), SPEC, tmp_path, run_here)
    assert not build.ok
    assert build.message.startswith("model.py:")


def test_pointers_sizes_and_none_reach_the_kernel(tmp_path: Path) -> None:
    import torch

    (tmp_path / "kernel.cpp").write_text("""#include <cstdint>
extern "C" void fill(float *x, const float *bias, int64_t n, double value) {
    for (int64_t i = 0; i < n; ++i) x[i] = (float)value + (bias ? bias[i] : 0);
}""")
    built = runtime.library_path(tmp_path, "kernel.cpp", ["-O1"])
    runtime.compile_library(tmp_path, "kernel.cpp", ["-O1"], built)
    kernel = runtime.Library(built)
    x = torch.zeros(4)
    kernel.fill(x, None, 3, 2.5)
    assert x.tolist() == [2.5, 2.5, 2.5, 0.0]
    kernel.fill(x, torch.ones(4), 4, 2.0)
    assert x.tolist() == [3.0] * 4


INLINE = """
import torch
from torch.utils.cpp_extension import load_inline

source = "torch::Tensor twice(torch::Tensor x) { return x * 2; }"
kernel = load_inline(name="twice", cpp_sources=source, functions=["twice"])


class ModelNew(torch.nn.Module):
    def forward(self, x):
        return kernel.twice(x)
"""


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.skipif(shutil.which("ninja") is None, reason="load_inline needs ninja")
def test_load_inline_is_built_once_and_found_again(tmp_path: Path) -> None:
    import torch

    single = Candidate(language="cpp", files=(SourceFile(path="model.py", text=INLINE),))
    build = Cpp().build(single, SPEC, tmp_path, run_here)
    assert build.ok, build.message
    built = list(tmp_path.rglob("twice.so"))
    stamps = [p.stat().st_mtime_ns for p in built]
    module = Cpp().load(build, TASK)()
    assert module(torch.ones(3)).tolist() == [2.0] * 3
    assert [p.stat().st_mtime_ns for p in built] == stamps
